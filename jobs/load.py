"""Settings: one TOML file and `--set a.b=c` -> Settings. Nothing else reads a settings file."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import storage
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.storage import Place


def load(config: Place | None, sets: list[str]) -> Settings:
    """The settings of `config`, with each `section.key=value` of `sets` laid over them.

    Relative paths are taken from the working directory, as on a command line, and made absolute:
    a run goes on from anywhere. An address stays what it is.
    """
    tree: dict[str, Any] = {}
    if config is not None:
        try:
            tree = tomllib.loads(storage.read(config).decode())
        except FileNotFoundError:
            raise BadInput(f"{config} does not exist: name a settings file with --config") from None
        except OSError as error:
            raise BadInput(
                f"{config} cannot be read ({error.strerror}): name a settings file with --config"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{config} is not TOML: {error}") from None
    for assignment in sets:
        _lay(tree, assignment)
    origin = " with --set ".join([str(config or "the settings"), *sets])
    return parse(_absolute(tree), origin=origin)


_PATHS = (
    *("dumps", "pageviews", "wordnet", "blocklist", "wats", "warcs", "path", "filter_model"),
    *("blocked_domains", "blocked_urls", "blocked_captions", "captions"),
    *("decisions", "predictions", "vocabulary", "labels", "baselines"),
    "event_log",
)


def _absolute(tree: Any, key: str = "") -> Any:
    """`tree` with every path made absolute."""
    if key == "classes":  # a class may be called as a setting is
        return tree
    if isinstance(tree, dict):
        return {name: _absolute(value, name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_absolute(value, key) for value in tree]
    is_path = key in _PATHS and isinstance(tree, str) and not storage.is_address(tree)
    return str(Path(tree).absolute()) if is_path else tree


def parse(tree: Mapping[str, Any], *, origin: str) -> Settings:
    """`tree` as Settings; every mistake is named with its path."""
    try:
        return Settings.model_validate(dict(tree))
    except ValidationError as error:
        mistakes = []
        for mistake in error.errors():
            path = ".".join(str(step) for step in mistake["loc"])
            near = difflib.get_close_matches(path, _known(), n=1)
            is_unknown = mistake["type"] == "extra_forbidden"
            hint = f" (did you mean {near[0]}?)" if is_unknown and near else ""
            mistakes.append(f"{path}: {mistake['msg']}{hint}")
        raise BadInput(f"{origin}: {'; '.join(mistakes)}: see docs/settings.md") from None


def _known() -> list[str]:
    """The path of every setting."""
    return [
        path
        for section, values in Settings().model_dump().items()
        for path in (section, *(f"{section}.{key}" for key in values))
    ]


def _lay(tree: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise BadInput(f"--set {assignment}: write it as --set section.key=value")
    *sections, key = path.strip().split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadInput(f"--set {assignment}: `{section}` is not a section")
        tree = inner
    tree[key] = _value(text.strip())


def _value(text: str) -> Any:
    """`text` as a TOML value; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def dump(settings: Settings) -> str:
    """`settings` as TOML that `load` reads back to an equal value."""
    tree = settings.model_dump(exclude_none=True)
    lines: list[str] = []
    for section, values in tree.items():
        if isinstance(values, list):
            for entry in values:
                lines += [f"[[{section}]]", *_assignments(entry), ""]
        else:
            lines += [f"[{section}]", *_assignments(values), ""]
    return "\n".join(lines)


def _assignments(values: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else str(_toml(key))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(_assignments(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, once nothing but ASCII and no lone surrogate is left.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
