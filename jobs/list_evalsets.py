"""List the evaluation sets that are known, or tell how to get one of them."""

import difflib
import shutil
import sys

from rich.console import Console
from rich.table import Table as Grid

from pipeline.errors import BadInput
from pipeline.evalsets.registry import SMALL_SIDE, KnownSet, known


def show(name: str | None) -> None:
    """Print every set, or where to get the one called `name` and what to write into a settings
    file."""
    # A pipe has no width: lines are not cut there.
    width = shutil.get_terminal_size((160, 50)).columns
    console = Console(
        highlight=False, soft_wrap=True, width=width if sys.stdout.isatty() else max(width, 120)
    )
    if name is None:
        console.print(_grid())
        console.print(
            f"(small) shorter sides of at most {SMALL_SIDE} pixels: hashes say less\n"
            "where to get one, and the settings to paste: wit evalsets NAME",
            markup=False,
        )
        return
    found = known().get(name)
    if found is None:
        near = difflib.get_close_matches(name, known(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(f"no evaluation set `{name}` is known: {hint}`wit evalsets` lists them")
    console.print(_told(found), markup=False)


def _grid() -> Grid:
    grid = Grid(title="evaluation sets", title_justify="left")
    grid.add_column("name")
    grid.add_column("title")
    grid.add_column("split")
    grid.add_column("images", justify="right")
    grid.add_column("classes", justify="right")
    grid.add_column("metric")
    grid.add_column("CLIP's 27")
    for one in known().values():
        title = f"{one.title} (small)" if one.is_small else one.title
        images, classes = _number(one.images), _number(one.classes)
        mark = "yes" if one.in_clip else ""
        grid.add_row(one.name, title, one.split, images, classes, one.metric, mark)
    return grid


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _told(one: KnownSet) -> str:
    images = f"{_number(one.images)} images" if one.images else "images"
    others = " or ".join(_number(count) for count in one.other_images)
    lines = [
        one.title,
        f"  evaluated  {images} of split {one.split}, {one.metric} ({one.source})",
        *([f"  also seen  {others}, as others lay it out"] if others else []),
        *([f"  classes    {_number(one.classes)}"] if one.classes else []),
        *([f"  small      {one.side} pixels: hashes say less of it"] if one.is_small else []),
        f"  get it     {one.home}",
        f"  taken as   {one.layout}",
        "",
        "[[evalsets]]",
        f'name = "{one.name}"',
        f'path = "/data/evalsets/{one.name}"',
        f'split = "{one.split}"',
        f'metric = "{one.metric}"',
    ]
    if not one.scored:
        lines.append("scored = false  # true to score it, with what is below")
    if one.metric == "map_11_point":
        lines.append(f'# labels = "/data/evalsets/{one.name}/ImageSets/Main"')
    if one.metric == "recall_at_k":
        lines.append(f'captions = "/data/evalsets/{one.name}/captions.parquet"')
    return "\n".join(lines)
