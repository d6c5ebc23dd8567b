"""Loss: each image must know its caption among the batch's, and each caption its image."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(image_BE: Tensor, text_BE: Tensor, logit_scale: Tensor) -> Tensor:
    """The symmetric cross entropy of CLIP, figure 3. `logit_scale` is the logarithm of it.

    Logits are always computed in fp32: from bf16 their gradient errs three times as much.
    """
    with torch.autocast(image_BE.device.type, enabled=False):
        image_BE = F.normalize(image_BE.float(), dim=-1)
        text_BE = F.normalize(text_BE.float(), dim=-1)
        logits_BB = logit_scale.float().exp() * image_BE @ text_BE.T
        own_B = torch.arange(len(logits_BB), device=logits_BB.device)
        images_to_texts = F.cross_entropy(logits_BB, own_B)
        texts_to_images = F.cross_entropy(logits_BB.T, own_B)
        return (images_to_texts + texts_to_images) / 2
