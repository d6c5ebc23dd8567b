"""Prompts: CLIP's templates and class names for its 27 sets, and which other sets share them.

reads   prompts.toml, beside this file
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PLAIN = ("a photo of a {}.",)
"""For a set that has no prompts of its own."""

_LIKE_IMAGENET = ("imagenet_v2", "imagenet_r", "imagenet_a", "imagenet_sketch", "tiny_imagenet")
"""Their classes are ImageNet's, or some of them."""


@dataclass(frozen=True)
class Prompts:
    """What a set's classes are called, in the order of CLIP."""

    templates: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    """Of each class its names."""
    labels: tuple[str, ...] = ()
    """Of each class what the set itself calls it; empty where that is its name."""
    numbered: str = "as listed"
    """How integers number the classes: as listed, sorted by name, by label or by number, or not."""
    is_sorted: bool = False
    """Whether the sorted names of all folders are in the order of the classes."""

    def numbers(self) -> list[int] | None:
        """Which class each integer means, from 0 on; None where sources differ."""
        places = range(len(self.classes))
        keys = {
            "as listed": lambda place: (place, ""),
            "by name": lambda place: (0, self.classes[place][0].casefold()),
            "by label": lambda place: (0, self.labels[place].casefold()),
            "by number": lambda place: (int(self.classes[place][0]), ""),
        }
        return sorted(places, key=keys[self.numbered]) if self.numbered in keys else None


def of(name: str) -> Prompts | None:
    """The prompts of the set of that name; None when CLIP has none for it."""
    return _known().get("imagenet" if name in _LIKE_IMAGENET else name)


def is_part_of_imagenet(name: str) -> bool:
    """Whether the set may hold some of ImageNet's classes only, and is scored among those."""
    return name in _LIKE_IMAGENET


@cache
def _known() -> dict[str, Prompts]:
    text = Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8")
    return {
        name: Prompts(
            tuple(told["templates"]),
            tuple((c,) if isinstance(c, str) else tuple(c) for c in told["classes"]),
            tuple(told.get("labels", ())),
            told.get("numbered", "as listed"),
            told.get("sorted", False),
        )
        for name, told in tomllib.loads(text).items()
    }
