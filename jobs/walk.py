"""The walk: every stage, what it reads and writes, and whether it must be run again."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobs import stage_sources
from jobs.hold import alone
from jobs.run import Run
from jobs.stamps import MISSING, stamps
from pipeline import storage
from pipeline.errors import BadInput, WitError
from pipeline.schemas import TABLES
from pipeline.settings import Settings
from pipeline.storage import Place


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
    sources: Callable[[Settings], list[str]] = stage_sources.nothing
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
        known_by = stamps(self.sources(run.settings))
        return tables | {f"file {path}": told for path, told in known_by.items()}

    def is_fresh(self, run: Run) -> bool:
        """Whether its tables exist and were made from these settings and inputs."""
        tables = (*self.writes, *self.tables(run.settings))
        manifests = [run.find_manifest(table) for table in tables]
        if any(manifest is None for manifest in manifests):
            return False
        return self.made(run, manifests[: len(self.writes)])

    def made(self, run: Run, manifests: Sequence[Mapping[str, Any] | None]) -> bool:
        """Whether that is what it makes of the run's settings and of what it reads now."""
        settings, inputs = self.settings(run.settings), self.inputs(run)
        return all(
            manifest is not None
            and manifest["settings"] == settings
            and manifest["inputs"] == inputs
            for manifest in manifests
        )

    def make(self, run: Run, *, again: bool = False) -> None:
        """Run the job. What an interrupted one left is taken up, unless `again`."""
        inputs = self.inputs(run)
        missing = [name.removeprefix("file ") for name, told in inputs.items() if told == MISSING]
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


def _tokenizer_spared(settings: Settings) -> tuple[str, ...]:
    return _train_spared(settings) if settings.train.vocabulary is None else ("shards",)


def _train_spared(settings: Settings) -> tuple[str, ...]:
    return () if settings.train.shards is None else ("shards",)


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
        stage_sources.of_derive,
    ),
    Stage("ingest", "jobs.ingest", (), ("candidates",), ("ingest",), stage_sources.of_ingest),
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
        stage_sources.of_evalsets,
    ),
    Stage(
        "dedup",
        "jobs.dedup",
        ("images", "fingerprints"),
        ("overlaps", "deduped", "dropped"),
        ("dedup", "evalsets.name", "evalsets.purpose"),
        stage_sources.of_dedup,
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
        stage_sources.of_audit,
    ),
    Stage(
        "train-tokenizer",
        "jobs.train_tokenizer",
        ("shards",),
        ("vocabulary",),
        ("train.vocabulary", "train.merges", "train.vocabulary_words", "train.shards"),
        stage_sources.of_tokenizer,
        _tokenizer_spared,
    ),
    Stage(
        "train",
        "jobs.train",
        ("shards", "vocabulary"),
        ("checkpoints",),
        ("loader", "train"),
        stage_sources.of_train,
        _train_spared,
    ),
    Stage(
        "evaluate",
        "jobs.evaluate",
        ("checkpoints", "audit"),
        ("scores",),
        ("evaluate", "evalsets", "audit.significance"),
        stage_sources.of_evaluate,
        lambda settings: () if settings.train.shards is None else ("audit",),
    ),
)
"""Every stage, in order."""


_ON_A_DISK = ("train-tokenizer", "train", "evaluate")
"""Stages that a run in a store does not have."""
_WITH_TORCH = ("train", "evaluate")
"""Stages that are run where torch is."""


def training_elsewhere(root: Place) -> str | None:
    """Why a run at `root` is not trained here, and how it is; None where it is."""
    if storage.is_remote(root):
        shards = root / TABLES["shards"].folder
        return (
            f"{root} lies in a store, and a training wants a run on a disk: `wit train-tokenizer "
            f"--config FILE --run FOLDER --set train.shards={shards}`, then `wit train --run "
            "FOLDER` and `wit evaluate --run FOLDER`"
        )
    if importlib.util.find_spec("torch") is None:
        return (
            "a training wants torch, which this Python does not have: go on with "
            f"`wit build --run {root}` where `make setup` was run"
        )
    return None


class OutOfDate(WitError):
    """A stage was asked for whose inputs are out of date."""


def stage_of(verb: str) -> Stage:
    """The stage that is called so."""
    return next(stage for stage in STAGES if stage.verb == verb)


def stale(run: Run) -> list[Stage]:
    """The stages that are missing or out of date, with all that read from them."""
    found: list[Stage] = []
    for stage in _stages_of(run):
        unsure = {table for earlier in found for table in earlier.writes}
        if unsure.intersection(stage.tables(run.settings)) or not stage.is_fresh(run):
            found.append(stage)
    return found


def _stages_of(run: Run) -> list[Stage]:
    """The stages that the run has where it lies, in order."""
    lacking = _ON_A_DISK if storage.is_remote(run.root) else ()
    return [stage for stage in STAGES if stage.verb not in lacking]


def _made_here(run: Run) -> list[Stage]:
    """Those that can be run here."""
    lacking = _WITH_TORCH if training_elsewhere(run.root) is not None else ()
    return [stage for stage in _stages_of(run) if stage.verb not in lacking]


def build(run: Run, *, again: bool = False) -> None:
    """Every stage that is missing or stale, in order."""
    with _at_work(run):
        for stage in _made_here(run):
            if not again and stage.is_fresh(run):
                run.progress.say(f"{stage.verb}: up to date")
            else:
                stage.make(run, again=again)
        report(run)
    elsewhere = training_elsewhere(run.root)
    if elsewhere is not None:
        run.progress.say(f"the shards are made; {elsewhere}")


def one(run: Run, verb: str, *, again: bool = False) -> None:
    """One stage. Raises MissingTable or OutOfDate when another must come first."""
    stage = stage_of(verb)
    if stage not in _made_here(run):
        raise BadInput(f"{verb}: {training_elsewhere(run.root)}")
    with _at_work(run):
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


@contextmanager
def _at_work(run: Run) -> Iterator[None]:
    """Hold the run while this process works on it."""
    with alone(run.root, run.progress.say) as hold:
        run.hold = hold
        try:
            yield
        finally:
            run.hold = None


def report(run: Run) -> None:
    """Write report.html, whatever tables there are."""
    from jobs.report import write_report

    path = write_report(run)
    run.progress.say(f"report: {path}")
