"""Stage sources: the files from outside the run that each stage reads."""

from pathlib import Path

from jobs import sources
from pipeline.settings import Settings


def nothing(_: Settings) -> list[str]:
    return []


def of_evalsets(settings: Settings) -> list[str]:
    return [evalset.path for evalset in settings.evalsets]


def of_derive(settings: Settings) -> list[str]:
    derive = settings.derive
    wordnet = [] if derive.wordnet is None else [derive.wordnet]
    blocklist = [] if derive.blocklist is None else [derive.blocklist]
    dumps = sources.expand(derive.dumps)
    pageviews = sources.expand(derive.pageviews)
    return [*dumps, *pageviews, *wordnet, *blocklist]


def of_ingest(settings: Settings) -> list[str]:
    ingest = settings.ingest
    crawls = sources.expand([*ingest.wats, *ingest.warcs])
    tables = sources.expand([table.path for table in ingest.tables])
    lists = [*ingest.blocked_domains, *ingest.blocked_urls, *ingest.blocked_captions]
    model = [] if ingest.filter_model is None else [ingest.filter_model]
    return [*crawls, *tables, *sources.expand(lists), *model]


def of_dedup(settings: Settings) -> list[str]:
    return [] if settings.dedup.decisions is None else [settings.dedup.decisions]


def of_audit(settings: Settings) -> list[str]:
    captions = [s.captions for s in settings.evalsets if s.captions is not None]
    decisions = [] if settings.audit.decisions is None else [settings.audit.decisions]
    return [*of_evalsets(settings), *captions, *decisions, *settings.audit.predictions]


def shards_elsewhere(settings: Settings) -> list[str]:
    where = settings.train.shards
    # Of shards at an address, what changes in them is seen by the training, when it goes on.
    return [] if where is None or "://" in where else _shard_files(Path(where))


def _shard_files(folder: Path) -> list[str]:
    """What a folder of shards is known by; notes of where samples lie come to it and go."""
    if not folder.exists():
        return [str(folder)]
    index = folder / "index.json"
    return [str(index)] if index.exists() else list(map(str, sorted(folder.rglob("*.tar"))))


def of_tokenizer(settings: Settings) -> list[str]:
    given = settings.train.vocabulary
    return shards_elsewhere(settings) if given is None else [given]


def of_train(settings: Settings) -> list[str]:
    given = settings.train.weights
    return [*shards_elsewhere(settings), *([] if given is None else [given])]


def of_evaluate(settings: Settings) -> list[str]:
    scored = [evalset for evalset in settings.evalsets if evalset.scored]
    labels = [evalset.labels for evalset in scored if evalset.labels is not None]
    captions = [evalset.captions for evalset in scored if evalset.captions is not None]
    baselines = [one.baselines for one in settings.evaluate.robustness if one.baselines]
    return [*of_evalsets(settings), *labels, *captions, *baselines]
