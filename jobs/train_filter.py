"""Labelled captions -> a model for `ingest.filter_model`"""

from rich.console import Console

from pipeline.ingest import training


def main(labels: str, out: str, seed: int) -> None:
    """Train, and print how well the model tells the labels of held-out captions."""
    report = training.train(labels, out, seed)
    console = Console(highlight=False)
    for line in report.lines:
        console.print(
            f"{line.label}: precision {line.precision:.3f}, recall {line.recall:.3f} "
            f"of {line.captions:,} held out"
        )
    dropped = "".join(f", {why} {count:,}" for why, count in report.dropped.items())
    console.print(f"trained on {report.trained:,} captions{dropped}")
    console.print(f"wrote {out}: name it in ingest.filter_model, and its label in filter_label")
