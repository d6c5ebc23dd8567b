"""A run: its directories, tables and manifests. Nothing else knows where a table lies.

A table is its folder and a `_manifest.json`, written last: without it the table does not exist
and is made again. The manifest holds the stage's settings, the digest of every input, and the
rows; rows in are rows out and the dropped, or the run stops. A run lies on a disk or in a store.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs import load, store_env, tables
from jobs.hold import Held, alone
from jobs.ledger import Ledger
from jobs.metrics import Metrics
from jobs.notes import Stage, changed, json_of
from jobs.progress import Progress
from jobs.scratch import scratch_of
from jobs.stamps import code_version, digest
from jobs.tables import spark_schema
from pipeline import parquet_files, storage
from pipeline.errors import BadInput, MissingTable, WitError
from pipeline.schemas import TABLES
from pipeline.settings import Settings
from pipeline.storage import Place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["MANIFEST", "SETTINGS", "OtherSettings", "Run", "spark_schema", "writer_of"]

MANIFEST = "_manifest.json"
SETTINGS = "run.toml"
_MAY_BE_EMPTY = "bigrams titles overlaps dropped coverage audit vocabulary scores".split()  # noqa: SIM905


class OtherSettings(WitError):
    """The run directory was made with other settings."""


class Run:
    """One run directory and its settings."""

    def __init__(self, root: Place, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.progress = Progress()
        self.metrics = self.progress.metrics = Metrics(root, self.progress.say)
        self.hold: Held | None = None
        """Of the process that works on the run: what it lost, it does not finish."""
        self._stage: Stage | None = None

    @classmethod
    def open(
        cls, where: str | Place, config: Place | None, sets: list[str], *, update: bool = False
    ) -> Run:
        """The run at `where`; made from `config` when it does not exist yet.

        Raises OtherSettings when it was made with others and `update` is not given.
        """
        root = storage.place(where)
        if storage.is_remote(root) and (meant := set("*?[") & set(str(root))):
            raise BadInput(
                f"--run {root} has {' '.join(sorted(meant))}, which stores take for a pattern: "
                "name another address"
            )
        kept = root / SETTINGS
        if not storage.exists(kept):
            if config is None:
                raise BadInput(
                    f"{root} is not a run directory: begin one with "
                    f"`wit build --config FILE --run {root}`"
                )
            settings = load.load(config, sets)
            try:
                storage.make_folder(root)
            except OSError as error:
                raise BadInput(
                    f"--run {root} cannot be made ({error.strerror}): name another folder"
                ) from None
            with alone(root):
                storage.put(kept, load.dump(settings))
            return cls(root, settings)
        old = load.load(kept, [])
        if config is None and not sets:
            return cls(root, old)
        settings = load.load(config or kept, sets)
        different = changed(old.model_dump(), settings.model_dump())
        folders = (root / table.folder for table in TABLES.values())
        if different and not update and any(map(storage.exists, folders)):
            raise OtherSettings(
                f"{root} was made with other settings ({', '.join(different)}): add --update to "
                "take the new ones and redo what they change, or name another --run"
            )
        if different:
            with alone(root):
                storage.put(kept, load.dump(settings))
        return cls(root, settings)

    # -- where things lie ------------------------------------------------------------------

    def path(self, table: str) -> Place:
        return self.root / TABLES[table].folder

    def folder(self, table: str) -> Path:
        """The folder of a table that only a disk can hold. Raises BadInput for a run in a store."""
        folder = self.path(table)
        if storage.is_remote(folder):
            raise BadInput(f"{folder} must be a folder of a disk: name another --run")
        return folder

    def files(self, table: str) -> list[Place]:
        """The parquet files of a finished table, in the order of their names."""
        named: list[str] | None = self.manifest(table).get("files")
        if named is None:
            return tables.files_in(self.path(table))
        return [self.path(table) / name for name in named]

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

        name = {"spark.app.name": f"webimagetext {self.root.absolute().name}"}
        with self.progress.note("starting Spark"):
            spark = session(
                self.settings.spark, scratch_of(self.root), {**store_env.options(), **name}
            )
        self.progress.started(spark)
        muster(spark, self.root, self.settings.spark, self.progress.say)
        return spark

    def read(self, table: str) -> DataFrame:
        """A finished table, for Spark."""
        manifest = self.manifest(table)
        files = [] if manifest["rows"] == 0 else self.files(table)
        return self.frame(files, TABLES[table].schema)

    def frame(self, files: Sequence[Place], schema: pa.Schema) -> DataFrame:
        """Those columns of parquet files, for Spark."""
        return tables.frame(self.spark, files, schema)

    def read_arrow(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """A finished table, in this process's memory."""
        schema = TABLES[table].schema
        files = self.files(table)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        if not files:
            return schema.empty_table()
        parts = parquet_files.tables(files, schema.names)
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

    def begin(self, table: str, *, resume: bool = False) -> Place:
        """The folder of `table`, emptied; kept as far as it came with `resume`.

        What an interrupted run left, or one that asked for less, is only taken up when it was made
        from the same inputs and settings, but for the stage's `further` ones. An interrupted run
        notes its own in `_begun.json`.
        """
        self.check_held()
        stage, folder = self._current(), self.path(table)
        begun, manifest = folder / "_begun.json", folder / MANIFEST
        before = json_of(begun) or json_of(manifest)
        if resume and not stage.again and before is not None and stage.goes_on_from(before):
            storage.put(begun, json.dumps(stage.identity, sort_keys=True))
            storage.remove(manifest)
            self.metrics.taken_up(table)
            return folder
        storage.remove(manifest)
        tables.remove(folder)
        storage.make_folder(folder)
        storage.put(begun, json.dumps(stage.identity, sort_keys=True))
        return folder

    def finish(self, table: str, ledger: Ledger, files: Sequence[Place] | None = None) -> None:
        """Check the ledger and write the manifest: from here on the table exists.

        Late tasks may add to a folder of a store: there the manifest names the table's `files`.
        Raises BadInput when nothing is left of a table that later stages cannot do without.
        """
        ledger.check(table)
        self.check_held()
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
        named = files if files is not None and storage.is_remote(self.root) else None
        manifest = {
            **identity,
            "digest": digest(identity),
            "notes": ledger.notes,
            "seconds": round(time.monotonic() - stage.began, 3),
            "code": code_version(),
            **({} if named is None else {"files": [file.name for file in named]}),
        }
        storage.put(self.path(table) / MANIFEST, json.dumps(manifest, indent=1))
        storage.remove(self.path(table) / "_begun.json")
        self.metrics.table(table, ledger, self.path(table))

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
        with self.watch(table):
            files = tables.put(kept, folder, schema, self.check_held)
        rows_out = parquet_files.rows(files)
        counts = told()
        came_in = counts.pop("", rows_out) if rows_in is None else rows_in
        counts.pop("", None)
        ledger = Ledger(came_in, rows_out, counts | (dropped or {}), notes or {})
        self.finish(table, ledger, files)

    def write_arrow(self, table: str, rows: pa.Table, ledger: Ledger) -> None:
        """Write a small table from this process's memory, and its manifest."""
        folder = self.begin(table)
        tables.put_arrow(rows.cast(TABLES[table].schema), folder / "part-00000.parquet")
        self.finish(table, ledger)

    @contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """A bar over Spark's tasks inside. What they took long for may not be this process's any
        more: see check_held."""
        with self.progress.watch(self.spark, what):
            yield
        self.check_held()

    def check_held(self) -> None:
        """Raises RunIsBusy where another process has taken the run over: nothing there is ours."""
        if self.hold is not None:
            self.hold.check()

    def _current(self) -> Stage:
        if self._stage is None:
            raise RuntimeError("a table is written inside `with run.stage(...)`")
        return self._stage


def writer_of(table: str) -> str:
    """The verb that writes `table`."""
    from jobs.walk import STAGES

    return next(stage.verb for stage in STAGES if table in stage.writes)
