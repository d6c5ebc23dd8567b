"""Lets torchvision be imported where its compiled operators do not load.

They are built for CUDA's torch, and do not load beside one for CPUs. No image goes through them: to
declare the two that the import asks for is enough.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_COMPILED = next(Path(find_spec("torchvision").origin).parent.glob("_C*.so"))
try:
    torch.ops.load_library(str(_COMPILED))
except OSError:
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
