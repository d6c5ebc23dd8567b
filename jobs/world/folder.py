"""The folder of a world: its web, its routes, its pairs and the truth about them."""

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import BadInput

PORT = 18573
"""The default port: URLs hold it, so that it decides the bytes of a world."""

ROUTES = "routes.json"
TRUTH = "truth.json"
WEB = "web"

# What a finished run must show for a kind, at the latest: an earlier stage may have its reasons.
ARRIVES = "arrives"
HEALS = "arrives in a later round"
FAILS = "fails"
UNREAD = "not ingested"
UNMATCHED = "not matched"
DROPPED = "dropped"
ONE_STAYS = "one of each group stays"
CUT = "cut at the cap"
MEASURED = "measured"
SERVED = "arrives when drawn"


@dataclass(frozen=True)
class World:
    """A finished world."""

    folder: Path
    port: int
    settings: Path
    """The TOML file of a run in it."""
    truth: dict[str, Any]
    """What was planted, as in truth.json."""


@dataclass(frozen=True)
class Candidate:
    """A url and a caption, as a page will show them."""

    url: str
    caption: str


@dataclass
class Building:
    """A world while it is made."""

    folder: Path
    port: int
    candidates: list[Candidate] = field(default_factory=list)
    routes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaks: list[dict[str, str]] = field(default_factory=list)
    copies: list[dict[str, str]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, data: bytes) -> None:
        """Write a file of the web; `path` begins with a slash, as in its URL."""
        file = self.folder / WEB / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def route(self, path: str, do: str, **how: Any) -> None:
        """Answer `path` other than with its file: see `jobs.world.server`."""
        self.routes[unquote(path)] = {"do": do, **how}

    def plant(self, kind: str, expect: str, path: str, caption: str) -> str:
        """A candidate of `kind`, whose fate must be `expect`; its URL."""
        url = path if urlsplit(path).scheme else self.base + path
        self.candidates.append(Candidate(url, caption))
        of_kind = self.kinds.setdefault(kind, {"expect": expect, "urls": []})
        of_kind["urls"].append(url)
        return url

    def finish(self, **truth: Any) -> dict[str, Any]:
        """Write the routes and the truth."""
        told = {
            "base": self.base,
            "pairs": len(self.candidates),
            "kinds": self.kinds,
            "leaks": self.leaks,
            "copies": self.copies,
            **truth,
        }
        for name, value in ((ROUTES, self.routes), (TRUTH, told)):
            text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
            (self.folder / name).write_text(text + "\n", encoding="utf-8")
        return told


def begin(folder: Path, port: int) -> Building:
    """An empty folder to build in."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is not an empty folder: name a new one for the world")
    (folder / WEB).mkdir(parents=True)
    return Building(folder.resolve(), port)


def reopen(folder: Path, settings: str) -> World | None:
    """The world in `folder`, with its settings file; None where none was finished."""
    truth = folder / TRUTH
    if not truth.exists():
        return None
    told = json.loads(truth.read_text(encoding="utf-8"))
    port = int(told["base"].rpartition(":")[2])
    return World(folder.resolve(), port, folder.resolve() / settings, told)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A tar that is the same whenever its members are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
