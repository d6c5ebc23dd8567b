"""images, evaluation sets -> fingerprints"""

from jobs.run import Run
from pipeline.fingerprint import REASONS, corpus, evaluation


def main(run: Run) -> None:
    hashed = corpus(run.read("images"), str(run.path("images")))
    if run.settings.evalsets:
        tasks = run.settings.spark.partitions
        sets = evaluation(run.spark, run.settings.evalsets, run.settings.fingerprint, tasks=tasks)
        hashed = hashed.unionByName(sets)
    run.write("fingerprints", hashed, reasons=REASONS)
