"""Registry: the evaluation sets of CLIP and of the field, and what is known of them.

reads   registry.toml, beside this file
"""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.evalsets.splits import one_name

SMALL_SIDE = 32
"""Pixels of the shorter side; hashes of images this small say less."""


@dataclass(frozen=True)
class KnownSet:
    """An evaluation set."""

    name: str
    """As in the settings."""
    title: str
    split: str
    """That is evaluated."""
    metric: str
    home: str
    """The page that tells where to get it. Nothing here asks for it."""
    layout: str
    """In which form our reader takes it."""
    source: str
    """Where the numbers are from."""
    images: int | None = None
    """Of the split; None where sources differ."""
    other_images: tuple[int, ...] = field(default=())
    """As others lay the split out."""
    classes: int | None = None
    side: int | None = None
    """Pixels of the shorter side, where all images have the same."""
    scored: bool = True
    """False when its images alone tell no class: it is scored where its labels or captions are
    given, and otherwise only audited."""
    in_clip: bool = False
    """One of the 27 of CLIP's table 9."""

    @property
    def is_small(self) -> bool:
        """Whether its images are so small that hashes say less of them."""
        return self.side is not None and self.side <= SMALL_SIDE


@cache
def known() -> dict[str, KnownSet]:
    """Every set of the registry, in its order, by name."""
    text = (files("pipeline.evalsets") / "registry.toml").read_text(encoding="utf-8")
    found = {}
    for name, told in tomllib.loads(text).items():
        others = tuple(told.pop("other_images", ()))
        found[name] = KnownSet(name=name, other_images=others, **told)
    return found


def defaults(name: object) -> dict[str, Any]:
    """The settings that a set's name brings along."""
    one = known().get(name) if isinstance(name, str) else None
    if one is None:
        return {}
    return {"split": one.split, "metric": one.metric, "scored": one.scored}


def doubt(name: str, split: str, images: int) -> str | None:
    """What is odd about a set of that name with so many images; None when it is as known.

    Another split than the one evaluated has other numbers, of which nothing is said.
    """
    one = known().get(name)
    if one is None or one.images is None or one_name(split) != one_name(one.split):
        return None
    if images in (one.images, *one.other_images):
        return None
    return f"{name}: {images:,} images of split {split}; the registry knows {one.images:,}"
