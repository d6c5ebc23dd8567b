"""Notes: what a run writes down of a stage that is under way, and how it is read again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline import storage
from pipeline.storage import Place


@dataclass
class Stage:
    name: str
    settings: Any
    inputs: dict[str, str]
    began: float
    again: bool
    further: frozenset[str]

    @property
    def identity(self) -> dict[str, Any]:
        return {"stage": self.name, "settings": self.settings, "inputs": self.inputs}

    def goes_on_from(self, before: dict[str, Any]) -> bool:
        """Whether what was made `before` stays good, as its note or its manifest tells."""
        different = changed(before.get("settings"), self.settings)
        is_of_the_same = [before.get(key) == self.identity[key] for key in ("stage", "inputs")]
        return all(is_of_the_same) and self.further.issuperset(different)


def json_of(path: Place) -> dict[str, Any] | None:
    """A manifest or a note; None where it is not there or not whole."""
    try:
        found: dict[str, Any] = json.loads(storage.read(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found


def changed(old: Any, new: Any, at: str = "") -> list[str]:
    """The paths at which two trees of settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        inner = [changed(old.get(k), new.get(k), f"{at}.{k}" if at else str(k)) for k in keys]
        return [path for paths in inner for path in paths]
    return [] if old == new else [at]
