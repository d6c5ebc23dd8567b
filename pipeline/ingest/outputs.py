"""Outputs: how probable a fasttext model finds its labels, each loss in its own way.

Every text is summed alone and in order, as fasttext does, so that no batch changes a score.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.kernels import kernel

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Number = Any
"""Of the width that a kernel's arithmetic makes it."""

_LOG_GUARD = 1e-5
"""fasttext adds it to a probability before it takes the logarithm."""


_SIGMOID_RANGE, _SIGMOID_STEPS = 8, 512


def tree_of(counts: list[int]) -> Ints:
    """Huffman's tree of the labels: of each node left, right and the node above; -1 for none.

    The labels are its first nodes, the commonest first; the last one is the root.
    """
    n = len(counts)
    tree: Any = np.full((2 * n - 1, 3), -1, np.int32)
    sizes = [*counts, *[10**15] * (n - 1)]
    leaf, inner = n - 1, n
    for node in range(n, 2 * n - 1):
        for side in range(2):
            if leaf >= 0 and sizes[leaf] < sizes[inner]:
                least, leaf = leaf, leaf - 1
            else:
                least, inner = inner, inner + 1
            tree[node, side] = least
            tree[least, 2] = node
        sizes[node] = sizes[tree[node, 0]] + sizes[tree[node, 1]]
    return tree  # type: ignore[no-any-return]


def path_to(tree: Ints, leaf: int) -> Ints:
    """From the root to a leaf: the number of each output, and 1 where the way goes right."""
    labels = (len(tree) + 1) // 2
    path = []
    node = leaf
    while (above := int(tree[node, 2])) >= 0:
        path.append((above - labels, int(tree[above, 1] == node)))
        node = above
    return np.array(path[::-1], np.int32).reshape(-1, 2)


@kernel
def _dot(hidden: Floats, outputs: Floats, output: Number) -> Number:
    found = np.float32(0.0)
    for d in range(len(hidden)):
        found += outputs[output, d] * hidden[d]
    return found


@kernel
def _right(hidden: Floats, outputs: Floats, output: Number) -> Number:
    """The probability of going right at an inner node."""
    found = _dot(hidden, outputs, output)
    return np.float32(1.0 / np.float64(np.float32(1.0) + np.float32(math.exp(-found))))


@kernel
def _log(probability: Number) -> Number:
    return np.float32(math.log(np.float64(np.float32(probability)) + _LOG_GUARD))


@kernel
def best_leaves(hidden: Floats, outputs: Floats, tree: Ints, best: Ints, scores: Floats) -> None:
    """Search the tree depth first, left before right, leaving ways that cannot win any more."""
    labels = len(outputs)
    nodes = np.empty(len(tree) + 1, np.int32)
    logs = np.empty(len(tree) + 1, np.float32)
    least = _log(0.0)
    for text in range(len(hidden)):
        nodes[0] = len(tree) - 1
        logs[0] = 0.0
        left = 1
        highest = least
        while left:
            left -= 1
            node, so_far = nodes[left], logs[left]
            if so_far < highest:
                continue
            if tree[node, 0] < 0:
                highest = so_far
                best[text] = node
                scores[text] = np.float32(math.exp(so_far))
                continue
            right = _right(hidden[text], outputs, node - labels)
            nodes[left] = tree[node, 1]
            logs[left] = so_far + _log(right)
            nodes[left + 1] = tree[node, 0]
            logs[left + 1] = so_far + _log(np.float32(1.0 - np.float64(right)))
            left += 2


@kernel
def score_leaf(hidden: Floats, outputs: Floats, path: Ints, scores: Floats) -> None:
    for text in range(len(hidden)):
        so_far = np.float32(0.0)
        for step in range(len(path)):
            right = _right(hidden[text], outputs, path[step, 0])
            if path[step, 1] == 0:
                right = np.float32(1.0 - np.float64(right))
            so_far += _log(right)
        scores[text] = np.float32(math.exp(so_far))


@kernel
def probabilities(hidden: Floats, outputs: Floats, is_softmax: Number, found: Floats) -> None:
    """Of every text and label: a softmax over the labels, or a sigmoid of each."""
    labels = len(outputs)
    for text in range(len(hidden)):
        highest = np.float32(-np.inf)
        for label in range(labels):
            found[text, label] = _dot(hidden[text], outputs, label)
            highest = max(highest, found[text, label])
        total = np.float32(0.0)
        for label in range(labels):
            if is_softmax:
                found[text, label] = np.float32(math.exp(np.float64(found[text, label] - highest)))
                total += found[text, label]
            else:
                found[text, label] = _sigmoid(found[text, label])
        for label in range(labels):
            if is_softmax:
                found[text, label] /= total
            found[text, label] = np.float32(math.exp(_log(found[text, label])))


@kernel
def _sigmoid(x: Number) -> Number:
    """As fasttext looks it up, in a table of so many steps."""
    if x > _SIGMOID_RANGE:
        return np.float32(1.0)
    if not x >= -_SIGMOID_RANGE:
        return np.float32(0.0)
    scaled = (x + np.float32(_SIGMOID_RANGE)) * np.float32(_SIGMOID_STEPS)
    step = np.int64(scaled / np.float32(_SIGMOID_RANGE) / np.float32(2))
    at = np.float32(step * 2 * _SIGMOID_RANGE) / np.float32(_SIGMOID_STEPS)
    at -= np.float32(_SIGMOID_RANGE)
    return np.float32(1.0 / (1.0 + np.float64(np.float32(math.exp(-at)))))
