"""Benchmarks: ours beside a named peer, in one run. `make bench-NAME`; never a timed test."""
