"""Where and when the stages run: paths, sessions, clocks and exit codes."""
