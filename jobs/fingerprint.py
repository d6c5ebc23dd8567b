"""images, evaluation sets -> fingerprints"""

from jobs.run import Run
from pipeline.fingerprint import REASONS, corpus, evaluation


def main(run: Run) -> None:
    hashed = corpus(run.read("images"), str(run.path("images")))
    if run.settings.evalsets:
        # Each task reads a set from its beginning for its share of it: more would only read more.
        tasks = min(run.settings.spark.partitions, 16)
        sets = evaluation(run.spark, run.settings.evalsets, run.settings.fingerprint, tasks=tasks)
        hashed = hashed.unionByName(sets)
    run.write("fingerprints", hashed, reasons=REASONS)
