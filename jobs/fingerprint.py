"""images, evaluation sets -> fingerprints"""

from jobs.run import Run
from pipeline import storage
from pipeline.evalsets import registry
from pipeline.fingerprint import REASONS, corpus, evaluation, images_of_sets


def main(run: Run) -> None:
    settings = run.settings
    hashed = corpus(run.read("images"), storage.absolute(run.path("images")))
    if settings.evalsets:
        tasks = settings.spark.partitions
        sets = evaluation(run.spark, settings.evalsets, settings.fingerprint, tasks)
        hashed = hashed.unionByName(sets)
    run.write("fingerprints", hashed, reasons=REASONS)
    if settings.evalsets:
        found = images_of_sets(run.read("fingerprints"))
        for evalset in settings.evalsets:
            doubt = registry.doubt(evalset.name, evalset.split, found.get(evalset.name, 0))
            if doubt is not None:
                run.progress.say(f"fingerprint: {doubt}")
