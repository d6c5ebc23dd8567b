"""Preprocessing: how CLIP's images become numbers, in the words of others' config files."""

from pathlib import Path
from typing import Any

from pipeline.errors import BadInput
from pipeline.trainer import feeding
from pipeline.trainer.weights.tensors import read_json, shown

MEAN, STD = list(feeding.MEAN), list(feeding.STD)
OPEN_CLIP: dict[str, Any] = {
    "mean": MEAN,
    "std": STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_BICUBIC = 3
"""Pillow's number."""


def theirs(resolution: int) -> dict[str, Any]:
    """preprocessor_config.json of transformers."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": resolution},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": resolution, "width": resolution},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }


def check_theirs(path: Path) -> None:
    """Raise BadInput when a preprocessor_config.json has other numbers than CLIP's."""
    told = read_json(path) if path.exists() else {}
    _check(path, told, {"image_mean": MEAN, "image_std": STD, "resample": _BICUBIC})


def check_open_clip(path: Path, told: Any) -> None:
    """Raise BadInput when open_clip's preprocess_cfg has other numbers than CLIP's."""
    if not isinstance(told, dict):
        raise BadInput(f"{path}: preprocess_cfg is no object")
    _check(path, told, OPEN_CLIP)


def _check(path: Path, told: dict[str, Any], due: dict[str, Any]) -> None:
    for key, value in due.items():
        found = told.get(key, value)
        if not _is_like(found, value):
            raise BadInput(
                f"{path}: {key} is {shown(found)} where CLIP has {value}: our images would not "
                "be what this model was trained on"
            )


def _is_like(found: Any, due: Any) -> bool:
    if not isinstance(due, list):
        return bool(found == due)
    if not isinstance(found, list) or len(found) != len(due):
        return False
    pairs = zip(found, due, strict=True)
    return all(isinstance(f, (int, float)) and abs(f - d) < 1e-4 for f, d in pairs)
