"""The walk: every stage, what it reads and writes, and whether it must be run again."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import sources
from jobs.lock import alone
from jobs.run import Run
from jobs.stamps import stamp
from pipeline.errors import BadInput, WitError
from pipeline.settings import Settings


def _no_sources(_: Settings) -> list[str]:
    return []


def _no_tables(_: Settings) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Stage:
    """A verb, its job, and what decides whether its tables are still right."""

    verb: str
    module: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sections: tuple[str, ...]
    """Sections of the settings that change its result, or single keys of others; of a list of
    sections that key of each."""
    sources: Callable[[Settings], list[str]] = _no_sources
    """Files from outside the run that it reads."""
    spared: Callable[[Settings], tuple[str, ...]] = _no_tables
    """Tables that it does without, where the settings name something else in their place."""

    def tables(self, settings: Settings) -> tuple[str, ...]:
        """The tables that it reads."""
        spared = self.spared(settings)
        return tuple(table for table in self.reads if table not in spared)

    def settings(self, settings: Settings) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.sections:
            section, _, key = name.partition(".")
            matters = _that_matters(getattr(settings, section))
            if isinstance(matters, list) and key:
                entries = found.setdefault(section, [{} for _ in matters])
                for entry, values in zip(entries, matters, strict=True):
                    entry[key] = values[key]
            elif key:
                found.setdefault(section, {})[key] = matters[key]
            else:
                found[section] = matters
        return found

    def further(self, settings: Settings) -> frozenset[str]:
        """The settings with whose change it goes on from what it has made.

        A single key of another section only decides how much more is asked for.
        """
        keys = {name for name in self.sections if "." in name}
        for name in self.sections:
            section = getattr(settings, name.partition(".")[0])
            if "." not in name and not isinstance(section, list):
                keys |= {f"{name}.{key}" for key in section.further}
        return frozenset(keys)

    def inputs(self, run: Run) -> dict[str, str]:
        """The digest of every table and the stamp of every source it reads.

        Raises MissingTable when a table is not there yet.
        """
        names = self.tables(run.settings)
        tables = {f"table {name}": str(run.manifest(name)["digest"]) for name in names}
        return tables | {f"file {path}": stamp(path) for path in self.sources(run.settings)}

    def is_fresh(self, run: Run) -> bool:
        """Whether its tables exist and were made from these settings and inputs."""
        tables = (*self.writes, *self.tables(run.settings))
        manifests = [run.find_manifest(table) for table in tables]
        if any(manifest is None for manifest in manifests):
            return False
        settings, inputs = self.settings(run.settings), self.inputs(run)
        return all(
            manifest is not None
            and manifest["settings"] == settings
            and manifest["inputs"] == inputs
            for manifest in manifests[: len(self.writes)]
        )

    def make(self, run: Run, *, again: bool = False) -> None:
        """Run the job. What an interrupted one left is taken up, unless `again`."""
        inputs = self.inputs(run)
        missing = [path for path in self.sources(run.settings) if not Path(path).exists()]
        if missing:
            raise BadInput(
                f"{self.verb}: {', '.join(missing)} {'do' if missing[1:] else 'does'} not exist: "
                "correct the settings"
            )
        job = importlib.import_module(self.module)
        settings, further = self.settings(run.settings), self.further(run.settings)
        with run.stage(self.verb, settings, inputs, again=again, further=further):
            job.main(run)


def _that_matters(section: Any) -> Any:
    """A section of the settings without the keys that only change its pace."""
    if isinstance(section, list):
        return [_that_matters(entry) for entry in section]
    return section.model_dump(mode="json", exclude=set(section.pace))


def _evalset_paths(settings: Settings) -> list[str]:
    return [evalset.path for evalset in settings.evalsets]


def _audit_sources(settings: Settings) -> list[str]:
    captions = [s.captions for s in settings.evalsets if s.captions is not None]
    decisions = [] if settings.audit.decisions is None else [settings.audit.decisions]
    return [*_evalset_paths(settings), *captions, *decisions, *settings.audit.predictions]


def _derive_sources(settings: Settings) -> list[str]:
    derive = settings.derive
    wordnet = [] if derive.wordnet is None else [derive.wordnet]
    blocklist = [] if derive.blocklist is None else [derive.blocklist]
    dumps = sources.expand(derive.dumps)
    pageviews = sources.expand(derive.pageviews)
    return [*dumps, *pageviews, *wordnet, *blocklist]


def _ingest_sources(settings: Settings) -> list[str]:
    ingest = settings.ingest
    crawls = sources.expand([*ingest.wats, *ingest.warcs])
    tables = sources.expand([table.path for table in ingest.tables])
    lists = [*ingest.blocked_domains, *ingest.blocked_urls, *ingest.blocked_captions]
    model = [] if ingest.filter_model is None else [ingest.filter_model]
    return [*crawls, *tables, *sources.expand(lists), *model]


def _dedup_sources(settings: Settings) -> list[str]:
    return [] if settings.dedup.decisions is None else [settings.dedup.decisions]


def _tokenizer_sources(settings: Settings) -> list[str]:
    given = settings.train.vocabulary
    return _shards_elsewhere(settings) if given is None else [given]


def _tokenizer_spared(settings: Settings) -> tuple[str, ...]:
    return _train_spared(settings) if settings.train.vocabulary is None else ("shards",)


def _train_sources(settings: Settings) -> list[str]:
    given = settings.train.weights
    return [*_shards_elsewhere(settings), *([] if given is None else [given])]


def _shards_elsewhere(settings: Settings) -> list[str]:
    where = settings.train.shards
    # Of shards at an address, what changes in them is seen by the training, when it goes on.
    return [] if where is None or "://" in where else _shard_files(Path(where))


def _shard_files(folder: Path) -> list[str]:
    """What a folder of shards is known by; notes of where samples lie come to it and go."""
    if not folder.exists():
        return [str(folder)]
    index = folder / "index.json"
    return [str(index)] if index.exists() else list(map(str, sorted(folder.rglob("*.tar"))))


def _train_spared(settings: Settings) -> tuple[str, ...]:
    return () if settings.train.shards is None else ("shards",)


def _evaluate_sources(settings: Settings) -> list[str]:
    scored = [evalset for evalset in settings.evalsets if evalset.scored]
    labels = [evalset.labels for evalset in scored if evalset.labels is not None]
    captions = [evalset.captions for evalset in scored if evalset.captions is not None]
    baselines = [one.baselines for one in settings.evaluate.robustness if one.baselines]
    return [*_evalset_paths(settings), *labels, *captions, *baselines]


_IMAGES_OF_SETS = tuple(
    f"evalsets.{key}" for key in ("name", "path", "format", "split", "image_column")
)
"""What decides which images are looked for; how a set is scored does not."""

STAGES = (
    Stage(
        "derive",
        "jobs.derive",
        (),
        ("words", "bigrams", "titles", "queries"),
        ("derive",),
        _derive_sources,
    ),
    Stage("ingest", "jobs.ingest", (), ("candidates",), ("ingest",), _ingest_sources),
    Stage("match", "jobs.match", ("candidates", "queries"), ("matched", "counts"), ("match",)),
    Stage("draw", "jobs.draw", ("matched", "counts"), ("drawn", "draws"), ("balance",)),
    Stage(
        "download",
        "jobs.download",
        ("matched", "counts", "drawn", "draws"),
        ("images", "reached"),
        # What is an error image decides which queries are short after a round.
        ("download", "dedup.placeholder_urls", "dedup.min_quality"),
    ),
    Stage(
        "fingerprint",
        "jobs.fingerprint",
        ("images",),
        ("fingerprints",),
        ("fingerprint", *_IMAGES_OF_SETS),
        _evalset_paths,
    ),
    Stage(
        "dedup",
        "jobs.dedup",
        ("images", "fingerprints"),
        ("overlaps", "deduped", "dropped"),
        ("dedup", "evalsets.name", "evalsets.purpose"),
        _dedup_sources,
    ),
    Stage(
        "balance",
        "jobs.balance",
        ("images", "deduped", "counts", "reached"),
        ("balanced", "coverage"),
        ("balance",),
    ),
    Stage("shard", "jobs.shard", ("images", "deduped", "balanced"), ("shards",), ("shard",)),
    Stage(
        "audit",
        "jobs.audit",
        ("images", "fingerprints", "overlaps", "dropped", "shards"),
        ("audit",),
        ("audit", "dedup", *_IMAGES_OF_SETS, "evalsets.purpose", "evalsets.captions"),
        _audit_sources,
    ),
    Stage(
        "train-tokenizer",
        "jobs.train_tokenizer",
        ("shards",),
        ("vocabulary",),
        ("train.vocabulary", "train.merges", "train.vocabulary_words", "train.shards"),
        _tokenizer_sources,
        _tokenizer_spared,
    ),
    Stage(
        "train",
        "jobs.train",
        ("shards", "vocabulary"),
        ("checkpoints",),
        ("loader", "train"),
        _train_sources,
        _train_spared,
    ),
    Stage(
        "evaluate",
        "jobs.evaluate",
        ("checkpoints", "audit"),
        ("scores",),
        ("evaluate", "evalsets", "audit.significance"),
        _evaluate_sources,
        lambda settings: () if settings.train.shards is None else ("audit",),
    ),
)
"""Every stage, in order."""


class OutOfDate(WitError):
    """A stage was asked for whose inputs are out of date."""


def stale(run: Run) -> list[Stage]:
    """The stages that are missing or out of date, with all that read from them."""
    found: list[Stage] = []
    for stage in STAGES:
        unsure = {table for earlier in found for table in earlier.writes}
        if unsure.intersection(stage.tables(run.settings)) or not stage.is_fresh(run):
            found.append(stage)
    return found


def build(run: Run, *, again: bool = False) -> None:
    """Every stage that is missing or stale, in order."""
    with alone(run.root):
        for stage in STAGES:
            if not again and stage.is_fresh(run):
                run.progress.say(f"{stage.verb}: up to date")
            else:
                stage.make(run, again=again)
        report(run)


def one(run: Run, verb: str, *, again: bool = False) -> None:
    """One stage. Raises MissingTable or OutOfDate when another must come first."""
    stage = next(stage for stage in STAGES if stage.verb == verb)
    with alone(run.root):
        stage.inputs(run)
        for earlier in stale(run):
            if set(earlier.writes).intersection(stage.tables(run.settings)):
                raise OutOfDate(
                    f"{' and '.join(earlier.writes)} are out of date: run "
                    f"`wit {earlier.verb} --run {run.root}` first, or `wit build`"
                )
        if not again and stage.is_fresh(run):
            run.progress.say(f"{verb}: up to date (--again makes it once more)")
        else:
            stage.make(run, again=again)
        report(run)


def report(run: Run) -> None:
    """Write report.html, whatever tables there are."""
    from jobs.report import write_report

    path = write_report(run)
    run.progress.say(f"report: {path}")
