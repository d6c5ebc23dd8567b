"""Classes: which class a label of an evaluation set means, and what it is called in a prompt.

A label is what the set is distributed with: a folder's name, a number, a word of a table. Where
the class cannot be told for certain the set is refused, and not scored on guesses.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline import evalsets
from pipeline.errors import BadInput
from pipeline.evaluate import prompts
from pipeline.evaluate.prompts import Prompts
from pipeline.settings import EvalSet

_SHOWN = 5
"""Labels in an error."""
_OTHER = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Classes:
    """The classes that a set is scored among, and the label of each image's class."""

    names: Sequence[tuple[str, ...]]
    """Of each class, as prompts have them."""
    keys: list[str]
    """Of each class a name that is its own: the same in sets that share classes."""
    place: Mapping[str, int]
    """Which class a label means."""
    templates: list[str]
    how: str
    """How labels were told from one another."""


def classes_of(evalset: EvalSet, labels: Collection[str]) -> Classes:
    """The classes of a set that has these labels. Raises BadInput where they do not fit."""
    there = sorted(set(labels))
    known = prompts.of(evalset.name)
    own = () if known is None else known.templates
    templates = list(evalset.templates or own or prompts.PLAIN)
    if any("{}" not in template for template in templates) or not templates:
        raise BadInput(f"evalsets.{evalset.name}: every template needs a {{}} for the class")
    if isinstance(evalset.classes, dict):
        names = {label: _names(told) for label, told in evalset.classes.items()}
        if unknown := [label for label in there if label not in names]:
            raise _unknown(evalset, unknown, len(names))
        place = {label: number for number, label in enumerate(names)}
        found = Classes(list(names.values()), list(names), place, templates, "as settings tell")
    elif evalset.classes is not None:
        given = Prompts((), tuple(_names(told) for told in evalset.classes))
        found = _among(evalset, there, given, templates)
    elif known is not None:
        found = _among(evalset, there, known, templates)
    else:
        called = [(evalsets.class_name(label),) for label in there]
        place = {label: number for number, label in enumerate(there)}
        found = Classes(called, there, place, templates, "by label")
    if len(found.names) < 2:
        raise BadInput(
            f"evalsets.{evalset.name}: {len(found.names)} class in split `{evalset.split}` "
            f"({', '.join(there)}): nothing can be told apart; correct `path` or `label_column`, "
            "or set scored = false"
        )
    return found


def _names(told: str | list[str]) -> tuple[str, ...]:
    return (told,) if isinstance(told, str) else tuple(told)


def _among(evalset: EvalSet, there: list[str], listed: Prompts, templates: list[str]) -> Classes:
    """The classes of a list, and which of them each label means."""
    found = _placed(evalset, there, listed)
    if found is None:
        raise _unknown(evalset, there, len(listed.classes))
    how, place = found
    chosen = list(range(len(listed.classes)))
    is_part = evalset.classes is None and prompts.is_part_of_imagenet(evalset.name)
    if is_part:
        # ImageNet-R and -A hold 200 classes, and are scored among those.
        chosen = sorted(set(place.values()))
    new = {old: number for number, old in enumerate(chosen)}
    keys = listed.labels or tuple(" / ".join(names) for names in listed.classes)
    return Classes(
        [listed.classes[old] for old in chosen],
        [keys[old] for old in chosen],
        {label: new[old] for label, old in place.items()},
        templates,
        how,
    )


def _placed(
    evalset: EvalSet, there: list[str], listed: Prompts
) -> tuple[str, dict[str, int]] | None:
    count = len(listed.classes)
    by_name = _by_name(listed)
    if all(by_name.get(_plain(label)) is not None for label in there):
        return "by name", {label: by_name[_plain(label)] or 0 for label in there}
    numbers = listed.numbers()
    if numbers is not None:
        numeric = {label: int(label) for label in there if label.isascii() and label.isdecimal()}
        if len(numeric) == len(there):
            # A class of the number of classes only exists where they are counted from 1.
            ends = {0, count} & set(numeric.values())
            first = 1 if ends == {count} else 0
            is_within = all(first <= number < count + first for number in numeric.values())
            if is_within and not ends:
                raise BadInput(
                    f"evalsets.{evalset.name}: its numbers may count from 0 or from 1, as neither "
                    f"0 nor {count} is among them: give its classes in the settings as a table, "
                    '`classes = {1 = "tench", ...}`'
                )
            if is_within:
                how = f"by number from {first}"
                return how, {label: numbers[n - first] for label, n in numeric.items()}
        order = evalsets.own_classes(evalset)
        if order is not None and len(set(order)) == count and set(there) <= set(order):
            return "by the set's own list", {
                label: numbers[number] for number, label in enumerate(order)
            }
    if listed.is_sorted and len(there) == count:
        return "by sorted label", {label: number for number, label in enumerate(there)}
    return None


def _by_name(listed: Prompts) -> dict[str, int | None]:
    """The class of each name and label; None where several have it."""
    found: dict[str, int | None] = {}
    for place, names in enumerate(listed.classes):
        for name in {_plain(name) for name in names}:
            found[name] = None if name in found else place
    for place, label in enumerate(listed.labels):
        found[_plain(label)] = place
    return found


def _plain(name: str) -> str:
    """Without what sources spell in several ways."""
    return _OTHER.sub("", name).casefold()


def _unknown(evalset: EvalSet, labels: list[str], count: int) -> BadInput:
    some = ", ".join(f"`{label}`" for label in labels[:_SHOWN])
    more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    return BadInput(
        f"evalsets.{evalset.name}: its labels ({some}{more}) are not those of the {count:,} "
        "classes that are known: give them in the settings, as a list in the order of the numbers "
        'or as a table of labels, `classes = {n01440764 = "tench", ...}`'
    )
