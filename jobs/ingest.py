"""WAT files and tables -> candidates"""

from jobs.run import Run
from pipeline.ingest import REASONS, ingest


def main(run: Run) -> None:
    candidates = ingest(run.spark, run.settings.ingest)
    run.write("candidates", candidates, reasons=REASONS)
