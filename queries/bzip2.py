"""Bzip2: any stretch of a bz2 file, read block by block without what comes before it.

reads   a bz2 file of one stream or many, from any byte
writes  the text of each block that begins in the asked bytes, and of those after it

A block begins at any bit, with a 48-bit magic; so does the end of a stream. Hadoop's codec splits
bz2 at the same magic, but decodes several times slower than the C library behind `bz2`.
"""

import bz2
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels import kernel

_BLOCK = 0x314159265359
_END = 0x177245385090
_MAGIC_BITS = 48
_HEADER_BITS = 32
"""The begin of a stream, before its first magic: `BZh` and the level."""
_END_BITS = _MAGIC_BITS + 32
"""The end of a stream: its magic and the checksum of all its blocks."""
_LONGEST = 8 * 2_300_000
"""Bits of a stored block: its 900,000 symbols have at most 20 bits each, and their tables few."""
_WINDOW = 1 << 16
"""Bytes searched for magics at a time: a stored block is about four of them."""
_FOREVER = 1 << 62

# The eight bits that lie 24 bits before the last byte read are always inside of a magic that ends
# in that byte, wherever it ends. 16 of 256 values pass, so that few bytes are looked at closely.
_INNER = np.zeros(256, bool)
_INNER[[(magic << shift >> 24) & 0xFF for magic in (_BLOCK, _END) for shift in range(8)]] = True


class Stretch(NamedTuple):
    """A file's text, in the file's order: of the asked bytes, or else of those beyond them."""

    text: bytes | None
    """None where the file is unreadable: what is on its two sides does not belong together."""
    own: bool


def is_packed(stream: BinaryIO) -> bool:
    """Whether a file is bz2, by its first bytes; left at its beginning."""
    stream.seek(0)
    found = stream.read(3) == b"BZh"
    stream.seek(0)
    return found


def blocks(stream: BinaryIO, begin: int, end: int) -> Iterator[Stretch]:
    """The blocks whose first bit lies in bytes [begin, end), then those beyond, while asked.

    A file's every block, readable or not, is the own one of exactly one of its ranges. A block
    that cannot be decoded is one stretch without text, and those whose magic is damaged are part
    of it. Memory: a block holds at most 46 MB, since five symbols stand for at most 259 bytes.
    """
    further = covered = None
    for start, after, text in _walk(stream, 8 * begin, 8 * end):
        further = after
        # A magic may occur by chance inside of a block. Where that block begins in this range, it
        # was stepped over; but it may begin before this range, and only a start that does not
        # decode gives cause to look. Inside of a readable block, such a start is none.
        if text is None and covered is None:
            covered = _covered(stream, 8 * begin)
        if text is not None or start >= (covered or 0):
            yield Stretch(text, own=True)
    if further is not None:
        for _, _, text in _walk(stream, further, _FOREVER):
            yield Stretch(text, own=False)


def _covered(stream: BinaryIO, begin: int) -> int:
    """The bit at which the last readable block that begins before bit `begin` ends."""
    before = _walk(stream, max(0, begin - _LONGEST), begin)
    return max((after for _, after, text in before if text is not None), default=0)


def _walk(stream: BinaryIO, first: int, last: int) -> Iterator[tuple[int, int, bytes | None]]:
    """For each start of a block in bits [first, last): its bit, where to go on, and its text."""
    if first == 0 and _misses_a_stream(stream, 0):
        yield 0, 1, None
    while (start := _next_start(stream, first, last)) is not None:
        text, first, is_last = _decoded(stream, start)
        yield start, first, text
        # Within a stream, the block before a damaged magic fails with it. Between streams nothing
        # would tell, so each block that ends a stream looks after the one that follows it.
        if is_last and _misses_a_stream(stream, first + _END_BITS):
            yield start, first, None


def _next_start(stream: BinaryIO, first: int, last: int) -> int | None:
    return next((bit for bit, is_block in _magics(stream, first, last) if is_block), None)


def _misses_a_stream(stream: BinaryIO, end: int) -> bool:
    """Whether a magic follows the stream that ends at bit `end`, but not where it should be."""
    begin = (end + 7) // 8 * 8
    magic = next((bit for bit, _ in _magics(stream, begin, _FOREVER)), None)
    return magic not in (None, begin + _HEADER_BITS)


def _decoded(stream: BinaryIO, start: int) -> tuple[bytes | None, int, bool]:
    """A block's text, the bit at which it ends, and whether its stream ends there.

    No text where no readable block starts; the search for the next one goes on behind the magic.
    """
    decompressor = bz2.BZ2Decompressor()
    decompressor.decompress(b"BZh9")  # the largest blocks, and so any
    fed = start
    for magic, is_block in _magics(stream, start + _MAGIC_BITS, start + _LONGEST):
        # The decoder gets the file's own bits up to the byte in which the next magic ends. If the
        # block ends at this magic, its text comes out, its checksum compared. If not, the magic is
        # there by chance: nothing comes out yet, and the decoder gets more, up to the next magic.
        # It never gets the whole checksum of the stream, which it does not know from the middle.
        stop = start + (magic + _MAGIC_BITS - start + 7) // 8 * 8
        bits = _aligned(stream, fed, stop)
        try:
            text = decompressor.decompress(bits)
            rest = decompressor.decompress(b"")
        except OSError:  # "Invalid data stream"; the file's own errors are raised above
            break
        if text and not rest:  # the checksum is compared when all of the text is out
            return text, magic, not is_block
        fed = stop
    return None, start + 1, False


def _aligned(stream: BinaryIO, first: int, last: int) -> bytes:
    """The file's bits [first, last), a multiple of eight, as bytes."""
    begin, shift = divmod(first, 8)
    stored = np.frombuffer(_read(stream, begin, (last + 7) // 8 - begin), np.uint8)
    if shift == 0:
        return stored.tobytes()
    return ((stored[:-1] << shift) | (stored[1:] >> (8 - shift))).tobytes()


def _magics(stream: BinaryIO, first: int, last: int) -> Iterator[tuple[int, bool]]:
    """Every magic that begins in bits [first, last), and whether it is that of a block."""
    while first < last:
        begin = first // 8
        size = min(_WINDOW, (last + 7) // 8 - begin)
        window = np.frombuffer(_read(stream, begin, size + 6), np.uint8)
        bit, is_block = _next_magic(window, first - 8 * begin)
        while 0 <= bit < 8 * size:
            yield 8 * begin + bit, is_block
            bit, is_block = _next_magic(window, bit + 1)
        if len(window) < size + 6:
            return
        first = 8 * (begin + size)


@kernel
def _next_magic(window: NDArray[np.uint8], first: int) -> tuple[int, bool]:
    """The first magic at or after a bit of the window, and whether it is a block's; -1 for none."""
    seen = 0
    for at in range(first // 8, len(window)):
        seen = ((seen << 8) | window[at]) & 0xFF_FFFF_FFFF_FFFF
        if not _INNER[(seen >> 24) & 0xFF]:
            continue
        for shift in range(7, -1, -1):
            magic = (seen >> shift) & 0xFFFF_FFFF_FFFF
            bit = 8 * (at - 5) - shift
            if magic in (_BLOCK, _END) and bit >= first:
                return bit, magic == _BLOCK
    return -1, False


def _read(stream: BinaryIO, begin: int, size: int) -> bytes:
    stream.seek(begin)
    return stream.read(size)
