"""images, fingerprints -> overlaps, dropped, deduped"""

from collections import Counter

from jobs.run import Run
from pipeline import dedup


def main(run: Run) -> None:
    settings = run.settings.dedup
    images, fingerprints = run.read("images"), run.read("fingerprints")
    run.write("overlaps", dedup.overlaps(fingerprints, settings))
    run.write("dropped", dedup.dropped(images, fingerprints, run.read("overlaps"), settings))
    reasons = Counter(run.read_arrow("dropped", ["reason"]).column("reason").to_pylist())
    run.write(
        "deduped",
        dedup.deduped(images, run.read("dropped")),
        rows_in=run.rows("images"),
        dropped=dict(reasons),
    )
