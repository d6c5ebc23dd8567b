"""Pair heap: pairs of tokens, the most frequent one first, and of equals the one that sorts first.

What it says of a pair may be too much, never too little, and is put right when the pair comes up.
The loops take arrays and not the state: numba counts references to each array of a tuple at every
call.
"""

from pipeline.kernels import inlined, kernel
from pipeline.pair_table import FIRST, HEAP, Firsts, Ints, Letters, Longs


@kernel
def _compared(text: Letters, begins: Longs, one: int, other: int) -> int:
    """Below 0 where the text of token `one` sorts before that of `other`. Their first letters are
    the same."""
    size, other_size = begins[one + 1] - begins[one], begins[other + 1] - begins[other]
    for place in range(FIRST, min(size, other_size)):
        letter, other_letter = text[begins[one] + place], text[begins[other] + place]
        if letter != other_letter:
            return -1 if letter < other_letter else 1
    return int(size - other_size)


@inlined
def _is_before(
    text: Letters,
    begins: Longs,
    firsts: Firsts,
    keys: Longs,
    count: int,
    pair: int,
    other_count: int,
    other: int,
) -> bool:
    """Whether a pair comes up before another: it is more frequent, or its text sorts first."""
    if count != other_count:
        return count > other_count
    one, another = keys[pair] >> 32, keys[other] >> 32
    if one == another:
        one, another = keys[pair] & 0xFFFFFFFF, keys[other] & 0xFFFFFFFF
    if firsts[one] != firsts[another]:
        return bool(firsts[one] < firsts[another])
    return one != another and _compared(text, begins, one, another) < 0


@kernel
def push(
    sizes: Longs,
    text: Letters,
    begins: Longs,
    firsts: Firsts,
    keys: Longs,
    offered: Longs,
    heap: Ints,
    count: int,
    pair: int,
) -> None:
    place = sizes[HEAP]
    sizes[HEAP] += 1
    while place:
        above = (place - 1) >> 1
        if not _is_before(text, begins, firsts, keys, count, pair, offered[above], heap[above]):
            break
        offered[place], heap[place] = offered[above], heap[above]
        place = above
    offered[place], heap[place] = count, pair


@kernel
def sink(
    sizes: Longs,
    text: Letters,
    begins: Longs,
    firsts: Firsts,
    keys: Longs,
    offered: Longs,
    heap: Ints,
    count: int,
    pair: int,
) -> None:
    """Put a pair in the place of the first one, and let it down to its own."""
    size = sizes[HEAP]
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and _is_before(
            *(text, begins, firsts, keys),
            *(offered[below + 1], heap[below + 1], offered[below], heap[below]),
        ):
            below += 1
        if not _is_before(text, begins, firsts, keys, offered[below], heap[below], count, pair):
            break
        offered[place], heap[place] = offered[below], heap[below]
        place = below
    offered[place], heap[place] = count, pair
