"""The plain webdataset pipeline of README.md, run as it stands there, with each version."""

import re
from pathlib import Path

import corpus
import environments
import pytest
from asking import Strangers

pytestmark = pytest.mark.interop
_VERSIONS = [name for name in environments.PINS if name.startswith("webdataset-")]
_README = Path(__file__).parents[2] / "README.md"
_SHARDS = re.compile(r'"runs/demo/09_shards/\{[0-9.]+\}\.tar"')
_TELL = """
import json, sys
told = {"shapes": [], "captions": []}
for images, captions in loader:
    told["shapes"].append([str(images.dtype), *images.shape])
    told["captions"] += captions
with open(sys.argv[1], "w") as out:
    json.dump(told, out)
"""


def _block() -> str:
    blocks = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "import webdataset" in block]
    return found


@pytest.mark.parametrize(
    "name", [name for name in environments.PINS if name.startswith("webdataset-")]
)
def test_the_readme_s_own_pipeline_gives_every_pair_once(
    name: str, strangers: Strangers, shards: Path, told: list[corpus.Pair], tmp_path: Path
) -> None:
    here = f'"{shards}/{{000000..{corpus.SHARDS - 1:06d}}}.tar"'
    block, replaced = _SHARDS.subn(lambda _: here, _block())
    assert replaced == 1
    script = tmp_path / "own_trainer.py"
    script.write_text(block + _TELL)
    found = strangers.read(name, script)
    assert sorted(found["captions"]) == sorted(pair.caption for pair in told)
    assert {tuple(shape[:1] + shape[2:]) for shape in found["shapes"]} == {
        ("torch.uint8", 224, 224, 3)
    }
    assert sum(shape[1] for shape in found["shapes"]) == corpus.PAIRS
