"""Pair table: what learning merges holds: tokens, their texts, pairs of them, and who has which.

Pairs lie in an open-addressing table, and so do the texts of tokens. Each pair has a list of the
words that it is or was in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.kernels import GOLDEN, inlined, kernel

Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Letters = npt.NDArray[np.uint16]
Firsts = npt.NDArray[np.uint64]

FIRST = 4
"""Letters of a token that one number holds, for comparing."""

TOKENS, TEXT, PAIRS, HEAP, NODES, FREE, MADE, TOUCHED = range(8)
"""Places in `State.sizes`."""


class State(NamedTuple):
    """What learning holds. Numbers of tokens, pairs and words are places in these arrays."""

    sizes: Longs
    text: Letters
    """The letters of all tokens, one behind the other, ..."""
    begins: Longs
    """... where each begins, ..."""
    firsts: Firsts
    """... its first letters as one number that sorts as they do, ..."""
    names: Ints
    """... and a table of them: a token's number and 1 at its hash or behind."""
    keys: Longs
    """Of pairs: left << 32 | right, ..."""
    totals: Longs
    """... how often it occurs, ..."""
    heads: Ints
    """... its list of words, by the node and 1, ..."""
    marks: Ints
    """... the merge that last made more of it, ..."""
    slots: Ints
    """... and the table: a pair's number and 1 at its hash or behind."""
    offered: Longs
    """Of the heap: a count, ..."""
    heap: Ints
    """... and its pair."""
    touched: Ints
    """The pairs that a merge makes more of."""
    node_words: Ints
    node_next: Ints
    symbols: Ints
    """Of all words, each in the room that it had at first."""
    starts: Longs
    lengths: Ints
    weights: Longs


@inlined
def slot_of(slots: Ints, keys: Longs, key: int) -> int:
    """Where in the table a pair is, or could be put."""
    mask = len(slots) - 1
    value = np.uint64(key) * np.uint64(GOLDEN)
    slot = np.int64((value ^ (value >> np.uint64(32))) & np.uint64(mask))
    while slots[slot] and keys[slots[slot] - 1] != key:
        slot = (slot + 1) & mask
    return int(slot)


@kernel
def place_again(state: State) -> None:
    for pair in range(state.sizes[PAIRS]):
        state.slots[slot_of(state.slots, state.keys, state.keys[pair])] = pair + 1


@inlined
def pair_of(sizes: Longs, slots: Ints, keys: Longs, key: int) -> int:
    """The number of a pair, a new one where it was never seen."""
    slot = slot_of(slots, keys, key)
    if not slots[slot]:
        keys[sizes[PAIRS]] = key
        sizes[PAIRS] += 1
        slots[slot] = sizes[PAIRS]
    return int(slots[slot]) - 1


@inlined
def list_word(
    sizes: Longs, heads: Ints, node_words: Ints, node_next: Ints, pair: int, word: int
) -> None:
    """Put `word` into the list of `pair`, unless it was put there last."""
    head = heads[pair]
    if head and node_words[head - 1] == word:
        return
    if sizes[FREE]:
        node = sizes[FREE]
        sizes[FREE] = node_next[node - 1]
    else:
        sizes[NODES] += 1
        node = sizes[NODES]
    node_words[node - 1] = word
    node_next[node - 1] = head
    heads[pair] = node


@kernel
def name(state: State, begin: int, end: int) -> int:
    """The token that `text[begin:end]` spells: the one that is there, or the next number."""
    value = np.uint64(end - begin)
    for place in range(begin, end):
        value = (value ^ np.uint64(state.text[place])) * np.uint64(GOLDEN)
        value ^= value >> np.uint64(29)
    mask = len(state.names) - 1
    slot = np.int64(value & np.uint64(mask))
    while state.names[slot]:
        token = np.int64(state.names[slot]) - 1
        start = state.begins[token]
        size = end - begin if state.begins[token + 1] - start == end - begin else -1
        same = 0
        while same < size and state.text[start + same] == state.text[begin + same]:
            same += 1
        if same == size:
            return int(token)
        slot = (slot + 1) & mask
    token = state.sizes[TOKENS]
    state.names[slot] = token + 1
    return int(token)


@kernel
def first_letters(text: Letters, begin: int, end: int) -> int:
    value = np.uint64(0)
    for place in range(begin, begin + FIRST):
        value <<= np.uint64(16)
        if place < end:
            value |= np.uint64(text[place])
    return value


@kernel
def name_all(state: State) -> None:
    """Enter the first tokens into the table of their texts."""
    tokens = state.sizes[TOKENS]
    for token in range(tokens):
        begin, end = state.begins[token], state.begins[token + 1]
        state.firsts[token] = first_letters(state.text, begin, end)
        state.sizes[TOKENS] = token
        name(state, begin, end)
    state.sizes[TOKENS] = tokens
