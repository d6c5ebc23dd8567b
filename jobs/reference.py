"""Reference: docs/settings.md, made from the settings themselves. `make docs` writes it."""

import inspect
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import settings

_HEAD = """\
# Settings

One TOML file per run; `--set section.key=value` lays a value over it. This page is made from
`pipeline/settings/` by `make docs`.
"""


def page() -> str:
    """The page: a table for each section, in the order of the walk."""
    parts = [_HEAD]
    for name, field in settings.Settings.model_fields.items():
        kind: Any = field.annotation
        if name == "evalsets":
            parts.append(_section("[[evalsets]]", settings.EvalSet))
        else:
            parts.append(_section(f"[{name}]", kind))
        if name == "ingest":
            parts.append(_section("[[ingest.tables]]", settings.TableSource))
        if name == "evaluate":
            parts.append(_section("[[evaluate.robustness]]", settings.Robustness))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| key | default | what it is |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        told = " ".join(inspect.cleandoc(field.description or "").split())
        lines.append(f"| `{name}` | {_default(field)} | {told} |")
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{value!r}`".replace("|", "\\|")


def main() -> None:
    """Write the page."""
    path = Path(__file__).parent.parent / "docs" / "settings.md"
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
