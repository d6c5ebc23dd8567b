"""Pictures of a report: plots as inline SVG, images as data addresses."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.run import Run
from pipeline import storage
from pipeline.decoding import decode
from pipeline.fingerprint import read_image
from pipeline.storage import Place

_INK, _ACCENT, _PALE = "#22303c", "#1f77b4", "#b9d3e8"
_BETWEEN, _BAD = "#e0a458", "#c0392b"
_STYLE: Any = {
    "axes.edgecolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "svg.fonttype": "none",
    # Ids inside the SVG are drawn from this, so that equal numbers give equal bytes.
    "svg.hashsalt": "webimagetext",
}


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.tight_layout()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(stream, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _axes(width: float, height: float, **subplot: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot(**subplot)


def bars(
    names: Sequence[str],
    values: Sequence[float],
    *,
    unit: str,
    of: Sequence[float] | None = None,
) -> str:
    """Horizontal bars, the first on top, each with its number; behind it, pale, what it is of."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(8.5, 0.5 + 0.32 * len(names))
        if of is not None:
            axes.barh(range(len(names)), of, color=_PALE, height=0.62)
        axes.barh(range(len(names)), values, color=_ACCENT, height=0.62)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        top = max([*values, *(of or []), 1])
        axes.set_xlim(0, top * 1.15)
        for place, value in enumerate(values):
            end, told = value, f"{value:,.0f}"
            if of is not None and of[place] > value:
                end, told = of[place], f"{told} of {of[place]:,.0f}"
            axes.text(end + top * 0.01, place, told, va="center")
        return _svg(figure)


_CURVE_POINTS = 400


def coverage(steps: Mapping[str, npt.NDArray[np.int64]], cap: int) -> str:
    """Pairs per query at up to three steps, the crowded queries first."""
    colours = (_PALE, _BETWEEN, _ACCENT)[-len(steps) :]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(8.5, 3.6)
        for (label, counts), colour in zip(steps.items(), colours, strict=True):
            curve = np.sort(counts[counts > 0])[::-1]
            # Every rank of the head, and as many of the tail as a reader can tell apart.
            ranks = np.unique(np.geomspace(1, max(len(curve), 1), _CURVE_POINTS).astype(np.int64))
            ranks = ranks[: len(curve)]
            axes.plot(ranks, curve[ranks - 1], label=label, color=colour, linewidth=2)
        axes.axhline(cap, color=_BAD, linewidth=1, linestyle="--", label=f"cap {cap:,}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("query, by rank")
        axes.set_ylabel("pairs")
        axes.legend(frameon=False)
        return _svg(figure)


def stacked(
    names: Sequence[str], parts: Mapping[str, Sequence[float]], *, unit: str, first: str
) -> str:
    """Horizontal bars of several parts, the first name on top; the part `first` stands out."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(8.5, 1.0 + 0.4 * len(names))
        ends = np.zeros(len(names))
        others = iter(mpl.colormaps["tab20c"](np.linspace(0.2, 1.0, max(1, len(parts) - 1))))
        for label, values in parts.items():
            colour = _ACCENT if label == first else next(others)
            axes.barh(range(len(names)), values, left=ends, color=colour, height=0.62, label=label)
            ends += np.asarray(values)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        return _svg(figure)


def above_a_line(
    others: tuple[Sequence[float], Sequence[float]],
    line: tuple[Sequence[float], Sequence[float]],
    own: tuple[float, float],
    *,
    labels: tuple[str, str],
) -> str:
    """Shares of others and their line, equality, and where one's own lies; both axes in logits."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(5.5, 4.5)
        axes.plot(line[0], line[0], color=_INK, linewidth=1, linestyle=":", label="no loss")
        axes.plot(*line, color=_ACCENT, linewidth=1.5, label="line of the others")
        axes.scatter(*others, color=_PALE, edgecolors=_ACCENT, s=22, label="others")
        axes.scatter(*[[at] for at in own], color=_BAD, marker="*", s=110, label="this model")
        for axis in (axes.set_xscale, axes.set_yscale):
            axis("logit", one_half="0.5")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
            axis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False)
        return _svg(figure)


def curves(
    steps: npt.NDArray[np.float64],
    values: Mapping[str, npt.NDArray[np.float64]],
    *,
    title: str,
    level: tuple[str, float, str],
) -> str:
    """Small curves over training steps; `level` is a line in one of them: whose, where, its name.

    `title` is what is read out instead of the picture.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.5, 2.1 * -(-len(values) // 2)))
        for place, (label, curve) in enumerate(values.items(), 1):
            axes = figure.add_subplot(-(-len(values) // 2), 2, place)
            # One point is no line.
            marker = "o" if np.isfinite(curve).sum() < 2 else None
            axes.plot(steps, curve, color=_ACCENT, linewidth=1.2, marker=marker, markersize=3)
            axes.set_title(label, loc="left", fontsize=9)
            if np.nanmin(curve) >= 0:
                axes.set_ylim(bottom=0)  # else noise looks like change
            if label == level[0]:
                axes.axhline(level[1], color=_BAD, linewidth=1, linestyle="--", label=level[2])
                axes.legend(frameon=False, fontsize=8)
        figure.supxlabel("step", fontsize=9)
        return _titled(_svg(figure), title)


def _titled(svg: str, title: str) -> str:
    """`svg` with a title for those who do not see it."""
    told = f"<title>{escape(title)}</title>"
    return svg.replace("<svg ", '<svg role="img" ', 1).replace(">", f">{told}", 1)


class Curve(NamedTuple):
    """Images within each distance, and how many of them chance would bring."""

    name: str
    distances: Sequence[int]
    images: Sequence[int]
    by_chance: Sequence[float | None]
    """None where it is not known."""
    threshold: int | None


_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM = 520, 170, 44, 22, 34


def threshold_curves(curves: Sequence[Curve]) -> str:
    """Curves over the distance, side by side. By hand: a page has hundreds, and matplotlib takes
    a quarter of a second for each."""
    panels = [_panel(curve, place * _WIDE) for place, curve in enumerate(curves)]
    box = f"0 0 {_WIDE * len(curves)} {_HIGH}"
    style = f'font-size="11" fill="{_INK}" style="width:100%"'
    return f'<svg viewBox="{box}" role="img" {style}>{"".join(panels)}</svg>'


def _panel(curve: Curve, left: int) -> str:
    most = max(1, *curve.images)
    last = max(1, curve.distances[-1])
    wide, high = _WIDE - _LEFT - 20, _HIGH - _TOP - _BOTTOM

    def x(distance: float) -> float:
        return left + _LEFT + round(wide * min(distance, last) / last, 1)

    def y(images: float) -> float:
        return _TOP + round(high * (1 - min(images, most) / most), 1)

    points = list(zip(curve.distances, curve.images, strict=True))
    steps = [f"M{x(0)} {y(points[0][1])}", *(f"H{x(at)}V{y(count)}" for at, count in points)]
    chance = zip(curve.distances, curve.by_chance, strict=True)
    known = [f"{x(at)} {y(count)}" for at, count in chance if count is not None]
    line = "M" + "L".join(known)
    parts = [
        f'<path d="M{x(0)} {_TOP}V{y(0)}H{x(last)}" fill="none" stroke="{_INK}"/>',
        f'<path d="{"".join(steps)}" fill="none" stroke="{_ACCENT}" stroke-width="2"/>',
        f'<path d="{line if known else ""}" fill="none" stroke="{_BETWEEN}" stroke-width="2"/>',
        *(
            f'<text x="{x(0) - 6}" y="{y(count) + 4}" text-anchor="end">{count:,}</text>'
            for count in (0, most)
        ),
        *(
            f'<text x="{x(at)}" y="{_HIGH - 20}" text-anchor="middle">{at}</text>'
            for at in range(0, last + 1, max(1, last // 8))
        ),
        f'<text x="{left + _LEFT + wide / 2}" y="{_HIGH - 4}" text-anchor="middle">'
        f"{curve.name}: bits that differ, at most</text>",
        f'<text x="{x(0)}" y="12">images <tspan fill="{_ACCENT}">found</tspan> and expected '
        f'<tspan fill="{_BETWEEN}">by chance</tspan></text>',
    ]
    if curve.threshold is not None:
        path = f"M{x(curve.threshold)} {_TOP}V{y(0)}"
        parts.append(f'<path d="{path}" stroke="{_BAD}" stroke-dasharray="4 3"/>')
    return "".join(parts)


def thumbnail(body: bytes, side: int = 128) -> str | None:
    """An image, shrunk, as a data address; None where it cannot be decoded."""
    small = decode(body)
    if small is None:
        return None
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def source(file: Place) -> Any:
    """What the rows of a parquet file are read from."""
    return storage.opened(file) if storage.is_remote(file) else file


class Downloaded(NamedTuple):
    """A downloaded pair, to be shown."""

    picture: str | None
    caption: str


def downloaded(run: Run, pair_ids: list[str]) -> dict[str, Downloaded]:
    """Some pairs that were downloaded, by name."""
    found: dict[str, Downloaded] = {}
    columns = ["pair_id", "caption", "raw_shard", "offset", "bytes"]
    for file in run.files("images") if pair_ids else []:
        wanted = [("pair_id", "in", pair_ids), ("status", "=", "success")]
        rows = pq.read_table(source(file), columns=columns, filters=wanted)
        for row in rows.to_pylist():
            body = read_image(storage.absolute(run.path("images")), row)
            found[row["pair_id"]] = Downloaded(thumbnail(body), row["caption"])
    return found
