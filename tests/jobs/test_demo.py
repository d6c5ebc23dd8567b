"""jobs.demo"""

import json
from pathlib import Path

from jobs.demo import learned
from jobs.run import Run
from pipeline.settings import Settings


def _run(root: Path, losses: list[float], sets: dict[str, object]) -> Run:
    run = Run(root, Settings())
    for table in ("checkpoints", "scores"):
        run.path(table).mkdir(parents=True)
    lines = [json.dumps({"step": 10 * n, "loss": loss}) for n, loss in enumerate(losses, 1)]
    (run.path("checkpoints") / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (run.path("scores") / "scores.json").write_text(json.dumps({"sets": sets}))
    return run


def test_the_demo_tells_how_far_the_loss_fell_and_what_is_known_now(tmp_path: Path) -> None:
    sets = {"shapes": {"chance": 0.04, "zero_shot": {"all": {"accuracy": 0.893}}}}
    told = learned(_run(tmp_path, [4.1, 3.0, 1.25], sets))
    expected = "loss 4.10 at step 10, 1.25 at step 30; shapes 89.3% zero-shot (chance 4.0%)"
    assert told == expected


def test_a_demo_without_a_log_or_a_scored_set_tells_what_there_is(tmp_path: Path) -> None:
    sets = {"captions": {"chance": None}, "shapes": {"chance": 0.5, "zero_shot": {"all": {}}}}
    assert (
        learned(_run(tmp_path / "no set", [4.0], sets)) == "loss 4.00 at step 10, 4.00 at step 10"
    )
    assert learned(_run(tmp_path / "nothing", [], {})) == ""
