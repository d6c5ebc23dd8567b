"""candidates, queries -> matched"""

from jobs.run import Run
from pipeline.match import REASONS, match


def main(run: Run) -> None:
    queries = run.read_arrow("queries", ["query"]).column("query").to_pylist()
    matched = match(run.read("candidates"), queries)
    run.write("matched", matched, rows_in=run.rows("candidates"), reasons=REASONS)
