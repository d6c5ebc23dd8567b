"""Objectives: the two that CLIP was weighed against in figure 2 of its paper, to compare with.

Both learn to tell the caption from the image, where the contrastive one only tells which caption.
They are for small comparisons: nothing in `wit train` uses them.

In names of tensors: B images, N texts, L tokens, W words (tokens of the vocabulary), D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.model import CLIP
from pipeline.trainer.transformer import Transformer


def _is_told(tokens_BL: Tensor) -> Tensor:
    """BL: whether a token is behind the start and not behind the end; the rest is padding."""
    places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    # The end has the highest number of all tokens, so argmax finds it.
    return (places_L > 0) & (places_L <= tokens_BL.argmax(dim=-1, keepdim=True))


class BagOfWords(nn.Module):
    """Predicts which words the caption has, in no order. Joulin et al. 2016, arXiv 1511.02251."""

    def __init__(self, arch: Architecture, vocabulary: int) -> None:
        super().__init__()
        self.visual = CLIP(arch, vocabulary).visual
        self.words = nn.Linear(arch.embed, vocabulary)

    def forward(self, image_BCHW: Tensor, tokens_BL: Tensor) -> Tensor:
        """The cross entropy between what is predicted and the caption's words, all alike."""
        return -(self._log_chances(image_BCHW) * self._bags(tokens_BL)).sum(dim=1).mean()

    def scores(self, image_BCHW: Tensor, tokens_NL: Tensor) -> Tensor:
        """BN: how well each text fits each image: the mean log-probability of its words."""
        return self._log_chances(image_BCHW) @ self._bags(tokens_NL).T

    def _log_chances(self, image_BCHW: Tensor) -> Tensor:
        logits_BW = self.words(self.visual(image_BCHW))
        return logits_BW.float().log_softmax(dim=-1)  # type: ignore[no-any-return]

    def _bags(self, tokens_BL: Tensor) -> Tensor:
        """BW: of each text, 1 / the number of its different words at each of them."""
        is_told = _is_told(tokens_BL) & (tokens_BL != self.words.out_features - 1)
        bags_BW = torch.zeros(len(tokens_BL), self.words.out_features, device=tokens_BL.device)
        bags_BW.scatter_reduce_(1, tokens_BL, is_told.to(bags_BW.dtype), "amax")
        return bags_BW / bags_BW.sum(dim=1, keepdim=True).clamp(min=1)


class CaptionPrediction(nn.Module):
    """Predicts the caption word for word: a transformer whose start is the image.

    The paper's has 63 million parameters (section 2.3), as has the text encoder of its base models;
    so the sizes here are those of the architecture's text encoder.
    """

    def __init__(self, arch: Architecture, vocabulary: int) -> None:
        super().__init__()
        width = arch.text_width
        self.visual = CLIP(arch, vocabulary).visual
        self.start = nn.Linear(arch.embed, width)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(arch.context, width) * 0.01)
        self.transformer = Transformer(width, arch.text_layers, is_causal=True)
        self.ln_final = nn.LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, image_BCHW: Tensor, tokens_BL: Tensor) -> Tensor:
        """The mean cross entropy of a caption's next token, the end among them."""
        told_BL = self._log_chances(self._starts(image_BCHW), tokens_BL)
        return -told_BL.sum() / _is_told(tokens_BL).sum()

    def scores(self, image_BCHW: Tensor, tokens_NL: Tensor) -> Tensor:
        """BN: the log-probability of each text given each image. Every pair passes by itself."""
        starts_BD = self._starts(image_BCHW)
        rows = [
            self._log_chances(start_D.expand(len(tokens_NL), -1), tokens_NL).sum(dim=1)
            for start_D in starts_BD
        ]
        return torch.stack(rows)

    def _starts(self, image_BCHW: Tensor) -> Tensor:
        return self.start(self.visual(image_BCHW))  # type: ignore[no-any-return]

    def _log_chances(self, starts_BD: Tensor, tokens_BL: Tensor) -> Tensor:
        """BL: the log-probability of each token, given the image and what is before; else 0."""
        known_BLD = self.token_embedding(tokens_BL[:, 1:-1])
        x_BLD = torch.cat([starts_BD.unsqueeze(1).to(known_BLD.dtype), known_BLD], dim=1)
        x_BLD = self.transformer(x_BLD + self.positional_embedding[: x_BLD.shape[1]])
        # The word that comes next is compared with the words that went in.
        logits_BLW = F.linear(self.ln_final(x_BLD), self.token_embedding.weight).float()
        flat = F.cross_entropy(
            logits_BLW.flatten(0, 1), tokens_BL[:, 1:].flatten(), reduction="none"
        )
        told_BL = -flat.view(len(tokens_BL), -1) * _is_told(tokens_BL)[:, 1:]
        return F.pad(told_BL, (1, 0))
