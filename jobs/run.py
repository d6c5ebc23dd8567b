"""A run: its directories, tables and manifests. Nothing else knows where a table lies.

A table is its folder and a `_manifest.json`, written last: without it the table does not exist
and is made again. The manifest holds the stage's settings, the digest of every input, and the
rows; rows in are rows out and the dropped, or the run stops.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import load
from jobs.ledger import Ledger
from jobs.lock import alone
from jobs.notes import Stage, changed, json_of, write_whole
from jobs.progress import Progress
from jobs.stamps import code_version, digest
from pipeline.errors import BadInput, MissingTable, WitError
from pipeline.schemas import TABLES
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MANIFEST = "_manifest.json"
SETTINGS = "run.toml"
_MAY_BE_EMPTY = "bigrams titles overlaps dropped coverage audit vocabulary scores".split()  # noqa: SIM905


class OtherSettings(WitError):
    """The run directory was made with other settings."""


class Run:
    """One run directory and its settings."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.progress = Progress()
        self._stage: Stage | None = None

    @classmethod
    def open(cls, root: Path, config: Path | None, sets: list[str], *, update: bool = False) -> Run:
        """The run at `root`; made from `config` when it does not exist yet.

        Raises OtherSettings when `root` was made with others and `update` is not given.
        """
        kept = root / SETTINGS
        if not kept.exists():
            if config is None:
                raise BadInput(
                    f"{root} is not a run directory: begin one with "
                    f"`wit build --config FILE --run {root}`"
                )
            settings = load.load(config, sets)
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(
                    f"--run {root} cannot be made ({error.strerror}): name another folder"
                ) from None
            with alone(root):
                write_whole(kept, load.dump(settings))
            return cls(root, settings)
        old = load.load(kept, [])
        if config is None and not sets:
            return cls(root, old)
        settings = load.load(config or kept, sets)
        different = changed(old.model_dump(), settings.model_dump())
        is_begun = any((root / table.folder).exists() for table in TABLES.values())
        if different and is_begun and not update:
            raise OtherSettings(
                f"{root} was made with other settings ({', '.join(different)}): add --update to "
                "take the new ones and redo what they change, or name another --run"
            )
        if different:
            with alone(root):
                write_whole(kept, load.dump(settings))
        return cls(root, settings)

    # -- where things lie ------------------------------------------------------------------

    def path(self, table: str) -> Path:
        return self.root / TABLES[table].folder

    def files(self, table: str) -> list[Path]:
        """The parquet files of a finished table, in the order of their names."""
        self.manifest(table)
        return sorted(
            file
            for file in self.path(table).rglob("*.parquet")
            if not any(part.startswith(("_", ".")) for part in file.relative_to(self.root).parts)
        )

    def manifest(self, table: str) -> dict[str, Any]:
        """The manifest of a finished table. Raises MissingTable."""
        manifest = self.find_manifest(table)
        if manifest is None:
            verb = writer_of(table)
            raise MissingTable(
                f"{self.path(table)} has no manifest: run `wit {verb} --run {self.root}` first"
            )
        return manifest

    def find_manifest(self, table: str) -> dict[str, Any] | None:
        """The manifest of `table`, or None when the table does not exist or is not whole."""
        return json_of(self.path(table) / MANIFEST)

    def rows(self, table: str) -> int:
        """The rows of a finished table."""
        return int(self.manifest(table)["rows"])

    # -- reading ---------------------------------------------------------------------------

    @cached_property
    def spark(self) -> SparkSession:
        from jobs.muster import muster
        from jobs.spark import session

        with self.progress.note("starting Spark"):
            spark = session(self.settings.spark, self.root / "_scratch")
        muster(spark, self.root, self.settings.spark, self.progress.say)
        return spark

    def read(self, table: str) -> DataFrame:
        """A finished table, for Spark."""
        manifest = self.manifest(table)
        schema = spark_schema(TABLES[table].schema)
        files = [str(file) for file in self.files(table)]
        if manifest["rows"] == 0 or not files:
            return self.spark.createDataFrame([], schema)
        return self.spark.read.schema(schema).parquet(*files)

    def read_arrow(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """A finished table, in this process's memory."""
        schema = TABLES[table].schema
        files = self.files(table)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        if not files:
            return schema.empty_table()
        parts = [pq.ParquetFile(file).read(columns=schema.names) for file in files]
        return pa.concat_tables([part.cast(schema) for part in parts])

    # -- writing ---------------------------------------------------------------------------

    @contextmanager
    def stage(
        self,
        name: str,
        settings: Any,
        inputs: Mapping[str, str],
        *,
        again: bool = False,
        further: frozenset[str] = frozenset(),
    ) -> Iterator[None]:
        """What is written inside is written by stage `name`; all of it anew, if `again`.

        `further` are the settings, as `section.key`, with whose change it goes on from what it
        has made.
        """
        self._stage = Stage(name, settings, dict(inputs), time.monotonic(), again, further)
        try:
            with self.progress.stage(name):
                yield
        finally:
            self._stage = None

    def begin(self, table: str, *, resume: bool = False) -> Path:
        """The folder of `table`, emptied; kept as far as it came with `resume`.

        What an interrupted run left, or one that asked for less, is only taken up when it was made
        from the same inputs and settings, but for the stage's `further` ones. An interrupted run
        notes its own in `_begun.json`.
        """
        stage, folder = self._current(), self.path(table)
        begun, manifest = folder / "_begun.json", folder / MANIFEST
        before = json_of(begun) or json_of(manifest)
        if resume and not stage.again and before is not None and stage.goes_on_from(before):
            write_whole(begun, json.dumps(stage.identity, sort_keys=True))
            manifest.unlink(missing_ok=True)
            return folder
        manifest.unlink(missing_ok=True)
        _remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(begun, json.dumps(stage.identity, sort_keys=True))
        return folder

    def finish(self, table: str, ledger: Ledger) -> None:
        """Check the ledger and write the manifest: from here on the table exists.

        Raises BadInput when nothing is left of a table that later stages cannot do without.
        """
        ledger.check(table)
        stage = self._current()
        if not ledger.rows_out and table not in _MAY_BE_EMPTY:
            reasons = ", ".join(f"{why} {n:,}" for why, n in ledger.dropped.items())
            what = f"none of {ledger.rows_in:,} rows is left{reasons and f' ({reasons})'}"
            if not ledger.rows_in:
                what = "its sources hold no row"
            raise BadInput(
                f"{table}: {what}: mend the cause and run `wit {stage.name} --again`, with "
                "--update where you changed the settings"
            )
        identity = {
            **stage.identity,
            "table": table,
            "rows": ledger.rows_out,
            "rows_in": ledger.rows_in,
            "dropped": dict(sorted(ledger.dropped.items())),
            "content": ledger.content,
        }
        manifest = {
            **identity,
            "digest": digest(identity),
            "notes": ledger.notes,
            "seconds": round(time.monotonic() - stage.began, 3),
            "code": code_version(),
        }
        write_whole(self.path(table) / MANIFEST, json.dumps(manifest, indent=1))
        (self.path(table) / "_begun.json").unlink(missing_ok=True)

    def write(
        self,
        table: str,
        frame: DataFrame,
        *,
        rows_in: int | None = None,
        reasons: tuple[str, ...] = (),
        dropped: dict[str, int] | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        """Write a Spark table and its manifest.

        `frame` has the table's columns. Rows with a reason in a further column `dropped_for` are
        counted and not written. A further column `rows` says how many rows came in for this one:
        the dropped that it stands for, or the equal rows that it merges. `dropped` are those that
        the stage counted itself. `rows_in` is checked against all of them.
        """
        from jobs.counting import counted

        schema = TABLES[table].schema
        folder = self.begin(table)
        kept, told = counted(frame, schema.names, reasons)
        # Executors outlive a killed driver for a while, and Spark commits whatever lies in the
        # folder that it writes to: no two drivers have the same one.
        own = folder / f"_written_{uuid4().hex}"
        with self.progress.watch(self.spark, table):
            kept.write.parquet(str(own))
        files = [file.replace(folder / file.name) for file in own.glob("*.parquet")]
        shutil.rmtree(own, ignore_errors=True)  # a late attempt may still write there
        rows_out = sum(pq.read_metadata(file).num_rows for file in files)
        counts = told()
        came_in = counts.pop("", rows_out) if rows_in is None else rows_in
        counts.pop("", None)
        self.finish(table, Ledger(came_in, rows_out, counts | (dropped or {}), notes or {}))

    def write_arrow(self, table: str, rows: pa.Table, ledger: Ledger) -> None:
        """Write a small table from this process's memory, and its manifest."""
        folder = self.begin(table)
        pq.write_table(rows.cast(TABLES[table].schema), folder / "part-00000.parquet")
        self.finish(table, ledger)

    def _current(self) -> Stage:
        if self._stage is None:
            raise RuntimeError("a table is written inside `with run.stage(...)`")
        return self._stage


def _remove(folder: Path) -> None:
    """Remove a folder into which tasks of a killed driver may still write.

    Moved away first, nothing is added to it while it is emptied.
    """
    gone = folder.with_name(f".{folder.name}.{uuid4().hex}")
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def writer_of(table: str) -> str:
    """The verb that writes `table`."""
    from jobs.walk import STAGES

    return next(stage.verb for stage in STAGES if table in stage.writes)


def spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)
