"""Demo: a small web with planted trouble, its corpus, and what was found of the planted."""

import json
import shutil
from pathlib import Path

from jobs import planted, walk
from jobs.options import opened
from jobs.report import write_report
from jobs.run import Run
from jobs.world import World, make_world, serve
from jobs.world.folder import reopen
from pipeline.errors import BadInput, WitError
from pipeline.storage import is_address
from pipeline.trainer.sinks import METRICS, lines_of


class PlantedNotFound(WitError):
    """The run made something else of the planted than it must."""


class OtherWorld(WitError):
    """The world beside the run is not the one that was asked for."""


def main(root: Path, pairs: int, sets: list[str], master: str | None = None) -> None:
    """Make the world beside the run, build in it, and check the outcome."""
    if is_address(root):
        raise BadInput(f"--run {root}: the world lies beside the run, so name a folder")
    build_in(_world(root.with_name(f"{root.name}-world"), pairs), root, sets, master)


def build_in(world: World, root: Path, sets: list[str], master: str | None = None) -> None:
    """Build the corpus of a world while its server is up, and tell what became of the planted."""
    run = opened(root, world.settings, sets, update=True, master=master)
    with serve(world.folder, world.port):
        walk.build(run)
    lines = planted.compare(run, world.truth)
    (root / "planted.json").write_text(json.dumps(planted.as_json(lines), indent=1))
    write_report(run)
    tell(run, lines)


def tell(run: Run, lines: list[planted.Line]) -> None:
    """Print what was planted and found. Raises PlantedNotFound when it is not as expected."""
    run.progress.say("planted and found:")
    for line in lines:
        mark = "ok  " if line.ok else "FAIL"
        became = ", ".join(f"{word} {count}" for word, count in line.became.items())
        run.progress.say(
            f"  {mark} {line.kind:<22} {line.found} of {line.planted} {line.expected}: {became}"
        )
    wrong = [line.kind for line in lines if not line.ok]
    if wrong:
        raise PlantedNotFound(
            f"not as planted: {', '.join(wrong)}: see the lines above, and follow a pair with "
            f"`wit follow PAIR_ID --run {run.root}`"
        )
    run.progress.say(f"learned: {learned(run)}")
    run.progress.say(f"all as planted; the report is {run.root / 'report.html'}")


def learned(run: Run) -> str:
    """What the training came to: its loss at first and at last, and what the model knows now."""
    lines = list(lines_of(run.folder("checkpoints") / METRICS))
    told = []
    if lines:
        first, last = lines[0], lines[-1]
        told.append(
            f"loss {first['loss']:.2f} at step {first['step']}, "
            f"{last['loss']:.2f} at step {last['step']}"
        )
    scores = json.loads((run.path("scores") / "scores.json").read_text(encoding="utf-8"))
    for name, one in scores["sets"].items():
        found = one.get("zero_shot", {}).get("all", {}).get("accuracy")
        if found is not None:
            told.append(f"{name} {found:.1%} zero-shot (chance {one['chance']:.1%})")
    return "; ".join(told)


def _world(folder: Path, pairs: int) -> World:
    """The world in `folder`, made when it is not there whole."""
    world = reopen(folder, "demo.toml")
    if world is None:
        shutil.rmtree(folder, ignore_errors=True)
        return make_world(folder, pairs)
    if world.truth["pairs"] != pairs:
        raise OtherWorld(
            f"{folder} is a world of {world.truth['pairs']} pairs, not of {pairs}: name another "
            f"--run, or remove {folder} and the run beside it"
        )
    return world
