"""Every knob, in the order of the walk. Imports neither Spark nor torch.

One TOML file per run; a table of it per class here. Models are frozen and closed: an unknown or
mistyped key stops the run and is named with its path.
"""

from typing import Self

from pydantic import model_validator

from pipeline.settings.closed import Closed
from pipeline.settings.images import (
    AuditSettings,
    DedupSettings,
    DownloadSettings,
    EvalSet,
    FingerprintSettings,
    ShardSettings,
)
from pipeline.settings.text import (
    BalanceSettings,
    DeriveSettings,
    IngestSettings,
    MatchSettings,
    SparkSettings,
    TableSource,
)
from pipeline.settings.training import (
    EvaluateSettings,
    LoaderSettings,
    Robustness,
    TrainSettings,
)

__all__ = [
    "AuditSettings",
    "BalanceSettings",
    "DedupSettings",
    "DeriveSettings",
    "DownloadSettings",
    "EvalSet",
    "EvaluateSettings",
    "FingerprintSettings",
    "IngestSettings",
    "LoaderSettings",
    "MatchSettings",
    "Robustness",
    "Settings",
    "ShardSettings",
    "SparkSettings",
    "TableSource",
    "TrainSettings",
]


class Settings(Closed):
    """A run: one TOML file."""

    spark: SparkSettings = SparkSettings()
    derive: DeriveSettings = DeriveSettings()
    ingest: IngestSettings = IngestSettings()
    match: MatchSettings = MatchSettings()
    balance: BalanceSettings = BalanceSettings()
    download: DownloadSettings = DownloadSettings()
    evalsets: list[EvalSet] = []
    fingerprint: FingerprintSettings = FingerprintSettings()
    dedup: DedupSettings = DedupSettings()
    shard: ShardSettings = ShardSettings()
    audit: AuditSettings = AuditSettings()
    loader: LoaderSettings = LoaderSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [evalset.name for evalset in self.evalsets]
        if len(set(names)) < len(names) or "corpus" in names:
            raise ValueError("evalsets: every name must be its own, and not `corpus`")
        return self
