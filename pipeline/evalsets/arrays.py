"""Arrays: images that lie in a file as rows of plain pixels.

CIFAR, STL-10 and IDX agree on bytes without a border between images; what differs is where the
first begins and how its samples are ordered. An image leaves as a PNG, which loses nothing.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import BadInput
from pipeline.evalsets import archives
from pipeline.evalsets.part import EvalImage, Part, rows_named

MAX_FILE_BYTES = 4 * 2**30
MAX_IMAGES = 10_000_000
"""Of one file: their labels are held in memory."""
_ROWS = 1024
"""Images of one part; of a packed file, which has no middle to begin at, ten times as many."""


class Grid(NamedTuple):
    """How images lie in a file."""

    offset: int
    """Of the first image's first pixel, unpacked."""
    stride: int
    """Bytes from one image to the next."""
    side: tuple[int, int]
    """Rows and columns of pixels."""
    order: Literal["planes", "turned planes", "rows"]
    """Colour by colour; so, and column by column; or pixel by pixel."""
    channels: int


@dataclass(frozen=True)
class ArrayPart(Part):
    """Some rows of a file of pixels."""

    path: str
    prefix: str
    """What stands before `#row` in a name."""
    grid: Grid
    rows: range | tuple[int, ...]
    labels: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def file(self) -> str:
        """Where the first of them lies."""
        return self.path

    def only(self, names: frozenset[str]) -> Self | None:
        """The images of those names; None when there are none."""
        rows = tuple(rows_named(self.prefix, names, self.rows))
        if not rows:
            return None
        label = dict(zip(self.rows, self.labels, strict=True))
        return replace(self, rows=rows, labels=tuple(label[row] for row in rows))

    def read(self) -> Iterator[EvalImage]:
        """The images, in their order."""
        grid = self.grid
        size = grid.side[0] * grid.side[1] * grid.channels
        try:
            with archives.opened(self.path) as stream:
                for row, label in zip(self.rows, self.labels, strict=True):
                    stream.go(grid.offset + row * grid.stride)
                    data = png(_pixels(stream.whole(size), grid))
                    yield EvalImage(f"{self.prefix}#{row}", data, self.split, label)
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be read ({error}): check its permissions"
            ) from error


def cut(
    split: str | None, path: str, prefix: str, grid: Grid, labels: list[str | None]
) -> list[Part]:
    """One image for each of `labels`, in parts of a bounded size."""
    rows = _ROWS if archives.packing_of(path) is None else 10 * _ROWS
    return [
        ArrayPart(
            split,
            path,
            prefix,
            grid,
            range(first, min(first + rows, len(labels))),
            tuple(labels[first : first + rows]),
        )
        for first in range(0, len(labels), rows)
    ]


def _pixels(data: bytes, grid: Grid) -> npt.NDArray[np.uint8]:
    """Rows, columns and colours."""
    samples = np.frombuffer(data, np.uint8)
    rows, columns = grid.side
    if grid.order == "rows":
        return samples.reshape(rows, columns, grid.channels)
    if grid.order == "planes":
        return samples.reshape(grid.channels, rows, columns).transpose(1, 2, 0)
    return samples.reshape(grid.channels, columns, rows).transpose(2, 1, 0)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Rows, columns and one or three colours as a PNG. Nothing is compressed, so that its bytes are
    the same whatever version of zlib there is."""
    rows, columns, channels = pixels.shape
    lines = np.zeros((rows, 1 + columns * channels), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(rows, columns * channels)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
