"""WAT files, WARC files and tables -> candidates"""

from jobs import sources
from jobs.run import Run
from pipeline.ingest import REASONS, ingest
from pipeline.settings import IngestSettings


def main(run: Run) -> None:
    candidates, per_source = ingest(run.spark, expanded(run.settings.ingest))
    run.write("candidates", candidates, reasons=REASONS, notes={"sources": per_source})


def expanded(settings: IngestSettings) -> IngestSettings:
    """The settings with every pattern's files in its place."""
    tables = [
        table.model_copy(update={"path": path})
        for table in settings.tables
        for path in sources.expand([table.path])
    ]
    patterns = ("wats", "warcs", "blocked_domains", "blocked_urls", "blocked_captions")
    paths = {name: sources.expand(getattr(settings, name)) for name in patterns}
    return settings.model_copy(update={**paths, "tables": tables})
