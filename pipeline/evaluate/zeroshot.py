"""Zero-shot: a classifier made of nothing but the names of its classes. CLIP, section 3.1.4.

Shapes: P prompts, K classes, L tokens, N images, E embedding.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from pipeline.evaluate.encode import autocast
from pipeline.evaluate.metrics import TOP, Answers, Ints, ahead
from pipeline.tokenizer import Tokenizer
from pipeline.trainer.model import CLIP

Embedding = npt.NDArray[np.float32]

_STEP = 8
"""Lengths of text are rounded up to this, so that there are few of them."""
_TILE = 2**24
"""Scores that are in memory at a time."""


def text_embeddings(
    model: CLIP,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    device: torch.device,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
) -> Embedding:
    """PE: the direction of each text. Texts of like length are encoded together, and no further
    than the longest of them reaches: the attention is causal."""
    context = len(model.positional_embedding)
    tokens_PL = tokenizer.encode_batch(list(texts), context)
    lengths_P = (tokens_PL == tokenizer.end).argmax(axis=1) + 1
    order_P = np.argsort(lengths_P, kind="stable")
    out_PE: Embedding | None = None
    for first in range(0, len(order_P), batch_size):
        rows = order_P[first : first + batch_size]
        length = min(-(-int(lengths_P[rows[-1]]) // _STEP) * _STEP, context)
        tokens_BL = torch.from_numpy(tokens_PL[rows, :length]).to(device)
        with torch.inference_mode(), autocast(device, precision):
            text_BE = model.encode_text(tokens_BL).float()
        unit_BE = F.normalize(text_BE, dim=-1).cpu().numpy()
        if out_PE is None:
            out_PE = np.empty((len(order_P), unit_BE.shape[1]), np.float32)
        out_PE[rows] = unit_BE
    return np.empty((0, 0), np.float32) if out_PE is None else out_PE


def class_embeddings(
    model: CLIP,
    tokenizer: Tokenizer,
    names: Sequence[Sequence[str]],
    templates: Sequence[str],
    device: torch.device,
    *,
    batch_size: int = 256,
    precision: str = "fp32",
) -> Embedding:
    """KE: for each class the mean direction of its prompts, of length one; every name of a class in
    every template."""
    prompts, owners = [], []
    for number, own in enumerate(names):
        prompts += [template.replace("{}", name) for name in own for template in templates]
        owners += [number] * (len(own) * len(templates))
    prompt_PE = text_embeddings(
        model, tokenizer, prompts, device, batch_size=batch_size, precision=precision
    )
    sum_KE = np.zeros((len(names), prompt_PE.shape[1]), np.float64)
    np.add.at(sum_KE, owners, prompt_PE)
    mean_KE: Embedding = unit(sum_KE).astype(np.float32)
    return mean_KE


def unit(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The direction of each row; of one that is nothing, nothing."""
    found: npt.NDArray[np.floating] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), 1e-12
    )
    return found


def predict(embedding_NE: Embedding, class_KE: Embedding) -> Ints:
    """N: the class whose direction is nearest, the first of those that are equally near. An image's
    own length does not matter."""
    unknown_N = np.zeros(len(embedding_NE), np.int64)
    return answers(embedding_NE, class_KE, unknown_N).predicted_N


def answers(
    embedding_NE: Embedding,
    class_KE: Embedding,
    truth_N: Ints,
    targets_NK: npt.NDArray[np.int8] | None = None,
) -> Answers:
    """What the nearest class is, and whether the truth is among the five nearest."""
    images, classes = len(embedding_NE), len(class_KE)
    predicted_N, in_top_N = np.zeros(images, np.int64), np.zeros(images, np.bool_)
    positive_N = np.zeros(images, np.float32) if classes == 2 else None
    scores_NK = None if targets_NK is None else np.zeros((images, classes), np.float32)
    rows = max(1, _TILE // max(classes, 1))
    for first in range(0, images, rows):
        some = slice(first, first + rows)
        # Of several labels, images are compared with one another: then their lengths matter.
        score_NK = unit(embedding_NE[some]) @ class_KE.T
        predicted_N[some] = score_NK.argmax(axis=1)
        in_top_N[some] = ahead(score_NK, truth_N[some]) < TOP
        if positive_N is not None:
            positive_N[some] = score_NK[:, 1] - score_NK[:, 0]
        if scores_NK is not None:
            scores_NK[some] = score_NK
    if targets_NK is not None:
        return Answers(classes, truth_N, predicted_N, None, None, scores_NK, targets_NK)
    return Answers(classes, truth_N, predicted_N, in_top_N, positive_N)
