"""Real: a corpus from a folder of real sources, its images served over loopback."""

import shutil
from pathlib import Path

from jobs.demo import OtherWorld, build_in
from jobs.world import World, make_real
from jobs.world.folder import reopen
from pipeline.errors import BadInput


def main(root: Path, data: Path, wordnet: Path, sets: list[str], master: str | None = None) -> None:
    """Lay the data out as a web beside the run, build in it, and tell what was found."""
    if not data.is_dir():
        raise BadInput(f"--data {data} is no folder: docs/real-run.md tells what it must hold")
    build_in(_world(root.with_name(f"{root.name}-world"), data, wordnet), root, sets, master)


def _world(folder: Path, data: Path, wordnet: Path) -> World:
    """The world in `folder`, laid out when it is not there whole."""
    source = folder / "source.txt"
    named = f"{data.resolve()} and {wordnet.resolve()}"
    world = reopen(folder, "real.toml")
    if world is None:
        shutil.rmtree(folder, ignore_errors=True)
        world = make_real(folder, data, wordnet=wordnet)
        source.write_text(named, encoding="utf-8")
        return world
    laid_out = source.read_text(encoding="utf-8") if source.exists() else "nothing"
    if laid_out != named:
        raise OtherWorld(
            f"{folder} was laid out from {laid_out}, not from {named}: name another --run, or "
            f"remove {folder} and the run beside it"
        )
    return world
