"""images, deduped, matched, drawn -> balanced, coverage"""

from jobs.run import Run
from pipeline.balance import REASONS, balance, coverage


def main(run: Run) -> None:
    arrived = run.read("images").join(run.read("deduped"), on="pair_id", how="inner")
    balanced = balance(arrived, run.settings.balance)
    run.write("balanced", balanced, rows_in=run.rows("deduped"), reasons=REASONS)
    counts = coverage(run.read("matched"), run.read("drawn"), run.read("balanced"))
    run.write("coverage", counts)
