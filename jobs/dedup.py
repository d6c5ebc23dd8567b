"""images, fingerprints -> overlaps, dropped, deduped"""

from collections import Counter
from functools import partial

from jobs.run import Run
from pipeline import decisions, dedup, storage
from pipeline.fingerprint import places
from pipeline.second_look import confirmed, second_look


def main(run: Run) -> None:
    settings = run.settings.dedup
    images, fingerprints = run.read("images"), run.read("fingerprints")
    overlaps = dedup.overlaps(fingerprints, settings)
    where = places(images, storage.absolute(run.path("images")))
    overlaps = second_look(overlaps, where, fingerprints, settings)
    if settings.decisions is not None:
        overlaps = dedup.decided(overlaps, decisions.read(settings.decisions))
    run.write("overlaps", overlaps)
    overlaps = run.read("overlaps")
    purposes = {evalset.name: evalset.purpose for evalset in run.settings.evalsets}
    looked_at = partial(confirmed, places=where)
    dropped = dedup.dropped(images, fingerprints, overlaps, settings, purposes, looked_at)
    run.write("dropped", dropped)
    reasons = Counter(run.read_arrow("dropped", ["reason"]).column("reason").to_pylist())
    run.write(
        "deduped",
        dedup.deduped(images, run.read("dropped"), settings),
        rows_in=run.rows("images"),
        dropped=dict(reasons),
        notes={"images with as many overlaps as are told": dedup.crowded(overlaps, settings)},
    )
    run.spark.catalog.clearCache()
