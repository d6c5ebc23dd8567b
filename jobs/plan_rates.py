"""Rates: what a row of each stage costs, and where each figure comes from.

`plan_rates.toml` ships with the package; a file of the same form, as `make bench-walk` writes it,
is laid over it, and one of `make bench-scale` over that. Every figure is a table `{value, origin}`.
"""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import BadInput

ASSUMPTIONS = "assumptions"
_OF_EVERY_STAGE = (
    "rows_per_core_second",
    "bytes_out_per_row",
    "shuffle_bytes_per_row",
    "memory_gb_per_task",
)
STAGES = {
    "derive": _OF_EVERY_STAGE,
    "ingest": (
        *_OF_EVERY_STAGE,
        "bytes_in_per_row",
        "wat_links_per_core_second",
        "warc_links_per_core_second",
        "table_rows_per_core_second",
    ),
    "match": _OF_EVERY_STAGE,
    "draw": (*_OF_EVERY_STAGE, "shuffle_bytes_per_claim"),
    "download": (*_OF_EVERY_STAGE, "dead_links_per_core_second"),
    "fingerprint": (*_OF_EVERY_STAGE, "decoded_per_core_second"),
    "dedup": (*_OF_EVERY_STAGE, "memory_gb_per_million_hashes"),
    "balance": (*_OF_EVERY_STAGE, "shuffle_bytes_per_claim"),
    "shard": _OF_EVERY_STAGE,
    "audit": _OF_EVERY_STAGE,
    "train-tokenizer": _OF_EVERY_STAGE,
}
"""The figures of each stage, in the order of the walk."""
_SHARES = (
    "kept_by_ingest",
    "matched",
    "like_published",
    "alive",
    "kept_by_dedup",
    "busy",
)
_OTHERS = (
    "queries_together",
    "seconds_per_link",
    "bytes_received_per_image",
    "eval_images",
    "overlaps_per_image",
    "memory_gb_per_executor",
)
_MAY_BE_ZERO = ("shuffle_bytes_per_row", "bytes_out_per_row", "eval_images", "overlaps_per_image")


class Figure(NamedTuple):
    """A number, and where and how it was measured."""

    value: float
    origin: str


class Rates(NamedTuple):
    """Every figure, by stage and name."""

    stages: dict[str, dict[str, Figure]]
    assumptions: dict[str, Figure]

    def of(self, stage: str, name: str) -> float:
        return self.stages[stage][name].value

    def share(self, name: str) -> float:
        return self.assumptions[name].value


def reference() -> Rates:
    """The figures that ship with the package."""
    return _of_text(files("jobs").joinpath("plan_rates.toml").read_text("utf-8"), "plan_rates.toml")


def read(paths: Sequence[Path], assumed: Sequence[str] = ()) -> Rates:
    """The reference with the figures of `paths` laid over it in turn, and then `assumed`, each
    name=value.

    Raises BadInput for what is no figure of a plan.
    """
    found = _tree(reference())
    for path in paths:
        for stage, figures in _tree(_of_text(_text(path), str(path), whole=False)).items():
            found[stage].update(figures)
    for assignment in assumed:
        name, equals, text = assignment.partition("=")
        try:
            value = float(text)
        except ValueError:
            equals = ""
        if not equals:
            raise BadInput(f"--assume {assignment}: write it as --assume name=number")
        found[ASSUMPTIONS][name.strip()] = {"value": value, "origin": "--assume"}
    return _checked(found, "--assume")


def dump(tree: Mapping[str, Mapping[str, Figure]]) -> str:
    """Figures by stage, as TOML that `read` lays over the reference."""
    lines = []
    for stage, figures in tree.items():
        lines.append(f"[{stage}]")
        for name, (value, origin) in figures.items():
            lines.append(f"{name} = {{ value = {value:.6g}, origin = {json.dumps(origin)} }}")
        lines.append("")
    return "\n".join(lines)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: `make bench-walk` writes such a file") from None
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}): name a file of rates with --rates"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not TOML ({error}): `make bench-walk` writes one") from None


def _of_text(text: str, origin: str, *, whole: bool = True) -> Rates:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{origin} is not TOML ({error}): `make bench-walk` writes one") from None
    return _checked(tree, origin, whole=whole)


def _checked(tree: Mapping[str, Any], origin: str, *, whole: bool = True) -> Rates:
    names = {**STAGES, ASSUMPTIONS: (*_SHARES, *_OTHERS)}
    for stage in tree:
        if stage not in names:
            raise BadInput(f"{origin}: no stage is called `{stage}`: it is one of {_list(names)}")
    found: dict[str, dict[str, Figure]] = {}
    for stage, known in names.items():
        figures = tree.get(stage, {})
        if not isinstance(figures, dict):
            raise BadInput(f"{origin}: `{stage}` is a table of figures: see jobs/plan_rates.toml")
        for name in figures:
            if name not in known:
                raise BadInput(
                    f"{origin}: {stage} has no figure `{name}`: it is one of {_list(known)}"
                )
        missing = [name for name in known if name not in figures] if whole else []
        if missing:
            raise BadInput(f"{origin}: {stage}.{missing[0]} is missing: add it to the file")
        found[stage] = {
            name: _figure(figures[name], f"{origin}: {stage}.{name}") for name in figures
        }
    assumptions = found.pop(ASSUMPTIONS)
    return Rates(found, assumptions)


def _figure(given: Any, where: str) -> Figure:
    name = where.rpartition(".")[2]
    value = given.get("value") if isinstance(given, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f'{where} has no number: write it as {{ value = 1.0, origin = "..." }}')
    if not isinstance(given.get("origin"), str) or given.keys() - {"value", "origin"}:
        raise BadInput(f"{where}: say in `origin`, and nowhere else, where it was measured")
    low = 0.0 if name in _MAY_BE_ZERO else math.nextafter(0.0, 1.0)
    high = 1.0 if name in _SHARES else math.inf
    if not (low <= value <= high and value < math.inf):
        what = "more than 0 and at most 1" if name in _SHARES else "a number above 0"
        raise BadInput(f"{where} is {value:g}: it must be {what}")
    return Figure(float(value), given["origin"])


def _list(names: Any) -> str:
    return ", ".join(names)


def _tree(rates: Rates) -> dict[str, dict[str, Any]]:
    every = {**rates.stages, ASSUMPTIONS: rates.assumptions}
    return {stage: {name: f._asdict() for name, f in one.items()} for stage, one in every.items()}
