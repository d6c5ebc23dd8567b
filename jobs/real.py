"""Real: a corpus from a folder of real sources, its images served over loopback."""

import json
import shutil
from pathlib import Path

from jobs import planted
from jobs.demo import OtherWorld, build_in, tell
from jobs.report import write_report
from jobs.world import World, make_real
from jobs.world.folder import TRUTH
from pipeline.errors import BadInput


def main(root: Path, data: Path, wordnet: Path, sets: list[str]) -> None:
    """Lay the data out as a web beside the run, build in it, and tell what was found."""
    if not data.is_dir():
        raise BadInput(f"--data {data} is no folder: docs/real-run.md tells what it must hold")
    folder = root.with_name(f"{root.name}-world")
    run = build_in(_world(folder, data, wordnet), root, sets)
    lines = planted.compare(run, json.loads((folder / TRUTH).read_text(encoding="utf-8")))
    (root / "planted.json").write_text(json.dumps(planted.as_json(lines), indent=1))
    write_report(run)
    tell(run, lines)


def _world(folder: Path, data: Path, wordnet: Path) -> World:
    truth, settings, source = folder / TRUTH, folder / "real.toml", folder / "source.txt"
    named = f"{data.resolve()} and {wordnet.resolve()}"
    if truth.exists() and settings.exists():
        told = json.loads(truth.read_text(encoding="utf-8"))
        laid_out = source.read_text(encoding="utf-8") if source.exists() else "nothing"
        if laid_out != named:
            raise OtherWorld(
                f"{folder} was laid out from {laid_out}, not from {named}: name another --run, or "
                f"remove {folder} and the run beside it"
            )
        port = int(told["base"].rpartition(":")[2])
        return World(folder.resolve(), port, settings.resolve(), told)
    shutil.rmtree(folder, ignore_errors=True)
    world = make_real(folder, data, wordnet=wordnet)
    source.write_text(named, encoding="utf-8")
    return world
