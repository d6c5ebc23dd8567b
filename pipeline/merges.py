"""Merges: byte-pair encoding learned from words and their counts, compiled.

A heap offers the most frequent pair of neighbours; the words that have it are cut anew, and what
their pairs count for with them.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels import Bytes, inlined, kernel
from pipeline.pair_heap import push, sink
from pipeline.pair_table import (
    FREE,
    HEAP,
    MADE,
    PAIRS,
    TEXT,
    TOKENS,
    TOUCHED,
    Ints,
    Longs,
    State,
    first_letters,
    list_word,
    name,
    name_all,
    pair_of,
    place_again,
)

_LONGEST = 2048
"""Letters that a merge may add to the text of all tokens: a word has at most 1,024 bytes."""
_SPARE = 4
"""Merges whose pairs there is room for beyond those that there are."""
_MOST = 2.0**62
"""Pairs of letters, in all words together: sums of them are 64 bits."""
_DONE, _FULL = 0, 1


def learn(
    letters: Bytes, bounds: Longs, counts: Longs, symbols: list[str], merges: int
) -> list[tuple[str, str]]:
    """At most `merges` merges: each joins the most frequent pair of neighbours in the words.

    Word i is `letters[bounds[i]:bounds[i + 1]]`, not empty, and occurs `counts[i]` times; byte b
    is spelled `symbols[b]`, and `symbols[256 + b]` where it ends a word. Of pairs with equal counts
    the one whose text sorts first is joined. Ends early when no pair occurs twice.
    """
    if len(counts) and counts.min() < 0:
        raise ValueError(f"a word that occurs {counts.min()} times")
    if counts.astype(np.float64) @ np.diff(bounds) >= _MOST:
        raise ValueError("words that occur so often that the sums of their pairs have no room")
    state = _begun(letters, bounds, counts, symbols, merges)
    made: Any = np.empty((merges, 2), np.int32)
    _count_pairs(state)
    while _join(state, made) == _FULL:
        state = _grown(state)
    tokens = _texts(state)
    pairs = made[: state.sizes[MADE]].tolist()
    return [(tokens[left], tokens[right]) for left, right in pairs]


def _begun(letters: Bytes, bounds: Longs, counts: Longs, symbols: list[str], merges: int) -> State:
    spelled = "".join(symbols)
    text = np.zeros(len(spelled) + 2 * _LONGEST, np.uint16)
    text[: len(spelled)] = np.frombuffer(spelled.encode("utf-16-le"), np.uint16)
    begins = np.zeros(len(symbols) + merges + 1, np.int64)
    begins[1 : len(symbols) + 1] = np.cumsum([len(symbol) for symbol in symbols])
    every = len(letters)
    # Every byte begins one pair at most, and every joining makes two at most. What is never
    # written of an empty array takes no memory.
    nodes = 3 * every + 1
    if nodes >= 2**31:
        raise ValueError(f"{every:,} bytes of words are too many to learn from at a time")
    pairs = min(len(symbols) ** 2, every)
    state = State(
        sizes=np.array([len(symbols), len(spelled), 0, 0, 0, 0, 0, 0], np.int64),
        text=text,
        begins=begins,
        firsts=np.zeros(len(symbols) + merges, np.uint64),
        names=np.zeros(_slots(len(symbols) + merges), np.int32),
        keys=np.zeros(pairs, np.int64),
        totals=np.zeros(pairs, np.int64),
        heads=np.zeros(pairs, np.int32),
        marks=np.zeros(pairs, np.int32),
        slots=np.zeros(_slots(pairs), np.int32),
        offered=np.zeros(pairs, np.int64),
        heap=np.zeros(pairs, np.int32),
        touched=np.zeros(2 * (len(symbols) + merges + 2), np.int32),
        node_words=np.empty(nodes, np.int32),
        node_next=np.empty(nodes, np.int32),
        symbols=letters.astype(np.int32),
        starts=bounds[:-1].astype(np.int64),
        lengths=np.diff(bounds).astype(np.int32),
        weights=counts.astype(np.int64),
    )
    state.symbols[bounds[1:] - 1] += 256
    name_all(state)
    return state


def _slots(entries: int) -> int:
    return 1 << max(4, (2 * entries - 1).bit_length())


def _grown(state: State) -> State:
    """The same with room for all that one merge can make."""
    sizes = state.sizes
    if len(state.text) - sizes[TEXT] < _LONGEST:
        state = state._replace(text=_longer(state.text, 2 * len(state.text)))
    spare = _SPARE * len(state.touched)
    if len(state.heap) - sizes[HEAP] < len(state.touched):
        heap = 2 * len(state.heap) + spare + 1
        state = state._replace(offered=_longer(state.offered, heap), heap=_longer(state.heap, heap))
    if len(state.keys) - sizes[PAIRS] < len(state.touched):
        pairs = 2 * len(state.keys) + spare + 1
        state = state._replace(
            keys=_longer(state.keys, pairs),
            totals=_longer(state.totals, pairs),
            heads=_longer(state.heads, pairs),
            marks=_longer(state.marks, pairs),
            slots=np.zeros(_slots(pairs), np.int32),
        )
        place_again(state)
    return state


def _longer(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    found = np.zeros(size, array.dtype)
    found[: len(array)] = array
    return found


def _texts(state: State) -> list[str]:
    """Every token, as text."""
    whole = state.text[: state.sizes[TEXT]].tobytes().decode("utf-16-le")
    bounds = state.begins[: state.sizes[TOKENS] + 1].tolist()
    return [whole[begin:end] for begin, end in pairwise(bounds)]


@kernel
def _count_pairs(state: State) -> None:
    """Enter the pairs of all words."""
    sizes, slots, keys, totals = state.sizes, state.slots, state.keys, state.totals
    heads, node_words, node_next = state.heads, state.node_words, state.node_next
    symbols, starts, lengths, weights = state.symbols, state.starts, state.lengths, state.weights
    text, begins, firsts = state.text, state.begins, state.firsts
    for word in range(len(starts)):
        for place in range(starts[word], starts[word] + lengths[word] - 1):
            key = int(np.int64(symbols[place]) << 32 | np.int64(symbols[place + 1]))
            pair = pair_of(sizes, slots, keys, key)
            totals[pair] += weights[word]
            list_word(sizes, heads, node_words, node_next, pair, word)
    offered, heap = state.offered, state.heap
    for pair in range(sizes[PAIRS]):
        if totals[pair] > 1:
            push(sizes, text, begins, firsts, keys, offered, heap, totals[pair], pair)


@inlined
def _joined_in(symbols: Ints, start: int, end: int, left: int, right: int, token: int) -> int:
    """Join every `left right` of a word into `token`, from the left; returns its new end."""
    place = out = start
    while place < end:
        if place + 1 < end and symbols[place] == left and symbols[place + 1] == right:
            symbols[out] = token
            place += 2
        else:
            symbols[out] = symbols[place]
            place += 1
        out += 1
    return int(out)


@kernel
def _join(state: State, made: Ints) -> int:
    """Learn merges into `made`, until there are enough, or no pair is left, or no room."""
    sizes, slots, keys, totals = state.sizes, state.slots, state.keys, state.totals
    heads, node_words, node_next = state.heads, state.node_words, state.node_next
    symbols, starts, lengths, weights = state.symbols, state.starts, state.lengths, state.weights
    text, begins, firsts = state.text, state.begins, state.firsts
    offered, heap, marks, touched = state.offered, state.heap, state.marks, state.touched
    while sizes[MADE] < len(made):
        # A merge makes pairs of its token and one of all, on either side.
        room = 2 * (sizes[TOKENS] + 2)
        is_full = sizes[PAIRS] + room > len(keys) or sizes[HEAP] + room > len(heap)
        if is_full or sizes[TEXT] + _LONGEST > len(text):
            return _FULL
        if not sizes[HEAP]:
            break
        pair, count = int(heap[0]), offered[0]
        if 1 < totals[pair] < count:
            sink(sizes, text, begins, firsts, keys, offered, heap, totals[pair], pair)
            continue
        sizes[HEAP] -= 1
        last = sizes[HEAP]
        sink(sizes, text, begins, firsts, keys, offered, heap, offered[last], heap[last])
        if totals[pair] != count:
            continue
        left, right = keys[pair] >> 32, keys[pair] & 0xFFFFFFFF
        token = _spell(state, left, right)
        merge = sizes[MADE] + 1
        made[merge - 1, 0], made[merge - 1, 1] = left, right
        sizes[MADE] = merge
        sizes[TOUCHED] = 0
        node = int(heads[pair])
        heads[pair] = 0
        while node:
            word, following = int(node_words[node - 1]), int(node_next[node - 1])
            node_next[node - 1] = sizes[FREE]
            sizes[FREE] = node
            node = following
            begin, end, weight = starts[word], starts[word] + lengths[word], weights[word]
            while begin + 1 < end and (symbols[begin] != left or symbols[begin + 1] != right):
                begin += 1
            if begin + 1 >= end:
                continue
            # The pairs before the last one that is not joined stay what they are.
            begin = max(begin - 1, starts[word])
            for place in range(begin, end - 1):
                key = int(np.int64(symbols[place]) << 32 | np.int64(symbols[place + 1]))
                totals[pair_of(sizes, slots, keys, key)] -= weight
            end = _joined_in(symbols, begin, end, left, right, token)
            lengths[word] = end - starts[word]
            for place in range(begin, end - 1):
                one, other = np.int64(symbols[place]), np.int64(symbols[place + 1])
                found = pair_of(sizes, slots, keys, int(one << 32 | other))
                totals[found] += weight
                if token in (one, other):
                    list_word(sizes, heads, node_words, node_next, found, word)
                    if marks[found] != merge:
                        marks[found] = merge
                        touched[sizes[TOUCHED]] = found
                        sizes[TOUCHED] += 1
        for place in range(sizes[TOUCHED]):
            found = int(touched[place])
            if totals[found] > 1:
                push(sizes, text, begins, firsts, keys, offered, heap, totals[found], found)
    return _DONE


@kernel
def _spell(state: State, left: int, right: int) -> int:
    """The token that two make: a new one, unless two merges spell it: `ab c` and `a bc`."""
    begin = end = state.sizes[TEXT]
    for part in (left, right):
        for place in range(state.begins[part], state.begins[part + 1]):
            state.text[end] = state.text[place]
            end += 1
    token = name(state, begin, end)
    if token == state.sizes[TOKENS]:
        state.sizes[TOKENS] += 1
        state.sizes[TEXT] = end
        state.begins[token + 1] = end
        state.firsts[token] = first_letters(state.text, begin, end)
    return token
