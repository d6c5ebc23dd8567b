"""matched -> drawn"""

from jobs.run import Run
from pipeline.balance import REASONS, draw


def main(run: Run) -> None:
    drawn = draw(run.read("matched"), run.settings.balance)
    run.write("drawn", drawn, rows_in=run.rows("matched"), reasons=REASONS)
