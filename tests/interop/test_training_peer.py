"""open_clip's training beside ours, as `make bench-train` compares them."""

import json
from pathlib import Path

import environments
import pytest

from benchmarks import form, train

pytestmark = pytest.mark.interop


def test_a_step_of_open_clip_s_and_one_of_ours_begin_at_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not environments.is_built("open_clip"):
        pytest.skip("build/interop/open_clip is not built: run `make test-interop`")
    monkeypatch.setattr(form, "RESULTS", tmp_path)
    # It is an error there when the losses differ.
    cases = [train.Case(model, 8, vocabulary=514, rounds=1) for model in ("tiny", "tiny-RN")]
    train.main(None, tuple(cases))
    told = json.loads((tmp_path / "train.json").read_text())
    assert [line["peer_name"][:10] for line in told] == ["open_clip "] * 2
