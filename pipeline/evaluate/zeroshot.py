"""Zero-shot: a classifier made of nothing but the names of its classes. CLIP, section 3.1.4.

Shapes: K classes, T templates, L tokens, N images, E embedding.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from pipeline.tokenizer import Tokenizer
from pipeline.trainer.model import CLIP


def class_embeddings(
    model: CLIP,
    tokenizer: Tokenizer,
    names: list[str],
    templates: list[str],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """KE: for each name the mean direction of its prompts, of length one."""
    context = len(model.positional_embedding)
    rows = []
    for name in names:
        prompts = [template.replace("{}", name) for template in templates]
        tokens_TL = torch.from_numpy(tokenizer.encode_batch(prompts, context)).to(device)
        with torch.inference_mode():
            prompt_TE = F.normalize(model.encode_text(tokens_TL).float(), dim=-1)
            rows.append(F.normalize(prompt_TE.mean(dim=0), dim=-1))
    out: npt.NDArray[np.float32] = torch.stack(rows).cpu().numpy()
    return out


def predict(
    embedding_NE: npt.NDArray[np.float32], class_KE: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """N: the class whose direction is nearest. An image's own length does not matter."""
    nearest: npt.NDArray[np.int64] = (embedding_NE @ class_KE.T).argmax(axis=1)
    return nearest
