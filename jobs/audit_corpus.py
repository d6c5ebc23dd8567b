"""Audit corpus: which evaluation images and captions a corpus holds that somebody else made.

reads   tars or tables of captions, evaluation sets
writes  report.html, summary.json, overlaps.parquet, to_remove.csv, captions

A folder of its own, and no run: what took long lies in `_work`, named by all that it depends on,
so that an interrupted audit goes on and another one with other decisions is quick.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import audit_captions, audit_sources, outside
from jobs.audit import write_audit, write_pairs
from jobs.audit_sources import Corpus
from jobs.lock import alone
from jobs.pictures import Downloaded, thumbnail
from jobs.progress import Progress
from jobs.run import spark_schema
from jobs.stamps import digest, stamp
from jobs.subject import Subject, batches, some
from pipeline import caption_tables, dedup, fingerprint, scan, tars
from pipeline.audit import counted, references
from pipeline.decisions import read as read_decisions
from pipeline.errors import BadInput
from pipeline.evalsets import registry
from pipeline.schemas import OVERLAPS, SCANNED
from pipeline.second_look import second_look
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SECTIONS = ("evalsets", "fingerprint", "dedup", "audit", "spark")


def main(
    named: list[str], evals: Path, out: Path, decisions: Path | None, predictions: list[Path]
) -> None:
    """Audit the corpus that is `named` against the evaluation sets of a settings file."""
    progress = Progress()
    settings = _settings(evals, decisions, predictions, progress)
    outside.check_is_no_run(out, "audit")
    corpus = audit_sources.corpus(named, out.absolute() / "_work" / "scanned")
    outside.make_folder(out, "_work/scanned")
    with alone(out):
        _Audit(corpus, settings, out.absolute(), progress).write()
    progress.say(f"report: {out / 'report.html'}")


def _settings(
    evals: Path, decisions: Path | None, predictions: list[Path], progress: Progress
) -> Settings:
    settings = outside.settings_of(evals, _SECTIONS, "an audit of a corpus", progress)
    if not settings.evalsets:
        raise BadInput(f"--evals {evals}: no [[evalsets]]: name at least one there")
    changes: dict[str, Any] = {}
    # Before hours of reading, and not behind them.
    if decisions is not None:
        read_decisions(decisions)
        changes["decisions"] = str(decisions.absolute())
    missing = [str(path) for path in predictions if not path.is_file()]
    if missing:
        raise BadInput(f"--predictions: {missing[0]} does not exist: name another file")
    if predictions:
        changes["predictions"] = [str(path.absolute()) for path in predictions]
    return settings.model_copy(update={"audit": settings.audit.model_copy(update=changes)})


class _Audit:
    """One corpus, one folder."""

    def __init__(self, corpus: Corpus, settings: Settings, out: Path, progress: Progress) -> None:
        self._corpus, self._settings = corpus, settings
        self._out, self._work, self._progress = out, out / "_work", progress

    @cached_property
    def _spark(self) -> "SparkSession":
        from jobs.spark import session

        with self._progress.note("starting Spark"):
            return session(self._settings.spark, self._work / "scratch")

    def write(self) -> None:
        told = self._scan() if self._corpus.shards else None
        captions = self._captions()
        subject = self._subject(told)
        staged = self._work / f".report-{uuid4().hex}"
        staged.mkdir()
        try:
            audit, cascade = self._settings.audit, self._settings.dedup
            sets = [] if captions is None else audit_captions.told(captions)
            audited = write_audit(staged, subject, audit, cascade, sets)
            (staged / "removed.csv").unlink()  # from this corpus nothing was removed yet
            # What to leave out of the corpus.
            write_pairs(staged / "to_remove.csv", audited.sure)
            if captions is not None:
                for file in (audit_captions.FOUND, audit_captions.PAIRS):
                    shutil.copyfile(captions / file, staged / file)
            for made in staged.iterdir():
                place = self._out / made.name
                if place.is_dir():
                    shutil.rmtree(place)
                made.replace(place)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    # -- what takes long, each step once ---------------------------------------------------

    def _once(self, name: str, of: Any, make: Callable[[Path], None]) -> Path:
        """The folder that `make` filled, when it was made `of` the same before."""
        folder = self._work / f"{name}.{digest(of)[:20]}"
        if not folder.exists():
            staged = self._work / f".{name}-{uuid4().hex}"
            staged.mkdir()
            try:
                with self._progress.note(name):
                    make(staged)
                staged.replace(folder)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return folder

    def _scan(self) -> scan.Told:
        """The scans of all shards, those made that are missing."""
        shards = self._corpus.shards
        todo = [shard for shard in shards if not Path(shard.file).exists()]
        done = f", {len(shards) - len(todo):,} of them before" if todo != shards else ""
        self._progress.say(f"{len(shards):,} shards{done}")
        if todo:
            with self._progress.watch(self._spark, "shards"):
                failed = scan.failures(self._spark, todo)
            if failed:
                name, error = failed[0]
                raise BadInput(
                    f"{len(failed):,} shards cannot be read, the first {name} ({error}): mend "
                    "them or leave them out; the others are done and stay"
                )
        told = scan.Told()
        for shard in shards:
            told.add(scan.read_told(shard))
        return told

    @property
    def _scanned(self) -> "DataFrame":
        files = [shard.file for shard in self._corpus.shards]
        return self._spark.read.schema(spark_schema(SCANNED)).parquet(*files)

    def _evals_are(self) -> Any:
        """What the evaluation sets are known by."""
        sets = [(s.model_dump(mode="json"), stamp(s.path)) for s in self._settings.evalsets]
        return [sets, self._settings.fingerprint.model_dump(mode="json")]

    def _evaluation(self) -> Path:
        """The fingerprints of the evaluation sets."""

        def make(folder: Path) -> None:
            settings = self._settings
            tasks = settings.spark.partitions
            rows = fingerprint.evaluation(
                self._spark, settings.evalsets, settings.fingerprint, tasks
            )
            rows.write.parquet(str(folder / "rows"))

        return self._once("evaluation", self._evals_are(), make) / "rows"

    def _corpus_is(self) -> Any:
        shards = [Path(shard.file).name for shard in self._corpus.shards]
        return [shards, [(str(path), stamp(str(path))) for path in self._corpus.tables]]

    def _overlaps(self, evaluation: Path) -> list[Path]:
        """Every image of the corpus near an evaluation image, by set, image and pair."""

        def make(folder: Path) -> None:
            known = self._spark.read.parquet(str(evaluation))
            both = scan.fingerprints(self._scanned).unionByName(scan.whole(known))
            cascade = self._settings.dedup
            near = dedup.overlaps(both, cascade)
            found = second_look(near, self._scanned, both, cascade)
            # Sorted when it is written: Spark looks twice at what it sorts.
            found.write.parquet(str(folder / "unsorted"))
            rows = self._spark.read.schema(spark_schema(OVERLAPS)).parquet(str(folder / "unsorted"))
            ordered = rows.sort("source", "eval_id", "pair_id")
            ordered.write.parquet(str(folder / "rows"))
            shutil.rmtree(folder / "unsorted")

        of = [self._corpus_is(), self._evals_are(), self._settings.dedup.model_dump(mode="json")]
        return sorted((self._once("overlaps", of, make) / "rows").glob("*.parquet"))

    def _captions(self) -> Path | None:
        """The caption overlap; None where no evaluation set has captions."""
        wanted = audit_captions.of_evaluation(self._settings.evalsets)
        if not wanted.captions:
            if self._corpus.tables:
                raise BadInput(
                    "--corpus names tables, of which captions alone are audited, and no set of "
                    "--evals has any: name them there with `captions = ...`"
                )
            return None

        def make(folder: Path) -> None:
            tables = self._corpus.tables
            corpus = caption_tables.of_tables(self._spark, tables) if tables else self._scanned
            if not tables:
                corpus = corpus.where("caption IS NOT NULL").select("pair_id", "caption")
            audit_captions.look_for(wanted, corpus, folder, self._settings.audit.confidence)

        confidence = self._settings.audit.confidence
        return self._once("captions", [self._corpus_is(), wanted, confidence], make)

    # -- what is told of it ----------------------------------------------------------------

    def _subject(self, told: scan.Told | None) -> Subject:
        name = Path(self._corpus.name).name or self._corpus.name
        if told is None:
            return Subject(
                name=name,
                images=0,
                digest=counted.digest_of([]),
                evalsets=[],
                variants=[],
                counts={},
                overlaps=list,
                removed=lambda _: set(),
                kept=lambda _: set(),
                pictures=self._pictures,
                eval_ids=lambda _: pa.array([], pa.string()),
            )
        evaluation = self._evaluation()
        overlaps = self._overlaps(evaluation)
        sets = references.evaluation(self._settings.evalsets)
        names = [evalset.name for evalset in sets]
        known = partial(some, sorted(evaluation.glob("*.parquet")))
        hashed = pc.field("dropped_for").is_null()
        counts = counted.counts(
            known(counted.COLUMNS, hashed), names, self._settings.dedup.min_quality
        )
        unread: Counter[str] = Counter()
        for batch in known(["source"], ~hashed):
            unread.update(batch.column("source").to_pylist())
        for evalset in sets:
            doubt = registry.doubt(evalset.name, evalset.split, counts[evalset.name].images)
            if doubt is not None:
                self._progress.say(doubt)

        def eval_ids(source: str) -> pa.Array:
            is_of_set = (pc.field("source") == source) & (pc.field("variant") == "original")
            found = [batch.column("id") for batch in known(["id"], hashed & is_of_set)]
            return pa.concat_arrays([pa.array([], pa.string()), *found])

        scans = [Path(shard.file) for shard in self._corpus.shards]
        hashes = some(scans, ["sha256"], hashed)
        return Subject(
            name=name,
            images=told.images,
            digest=counted.digest_of(batch.column("sha256") for batch in hashes),
            evalsets=self._settings.evalsets,
            variants=self._settings.fingerprint.variants,
            counts=counts,
            overlaps=lambda: batches(overlaps, OVERLAPS),
            removed=lambda _: set(),
            kept=lambda pair_ids: set(pair_ids.to_pylist()),
            pictures=self._pictures,
            eval_ids=eval_ids,
            scan={
                "shards": len(self._corpus.shards),
                **told.as_json(),
                "unread_of_sets": dict(sorted(unread.items())),
            },
        )

    def _pictures(self, pair_ids: list[str]) -> dict[str, Downloaded]:
        by_name = {shard.name: shard.file for shard in self._corpus.shards}
        wanted: dict[str, list[str]] = {}
        for pair_id in pair_ids:
            ends = [at for at, letter in enumerate(pair_id) if letter == "/"]
            file = next(by_name[pair_id[:end]] for end in ends if pair_id[:end] in by_name)
            wanted.setdefault(file, []).append(pair_id)
        found: dict[str, Downloaded] = {}
        columns = ["pair_id", "path", "offset", "bytes", "caption"]
        for file, names in wanted.items():
            rows = pq.read_table(file, columns=columns, filters=[("pair_id", "in", names)])
            for row in rows.to_pylist():
                try:
                    body = tars.read(Path(row["path"]), row["offset"], row["bytes"])
                except OSError:  # the tar is gone since: the pair is told without its picture
                    body = b""
                found[row["pair_id"]] = Downloaded(thumbnail(body), row["caption"] or "")
        return found
