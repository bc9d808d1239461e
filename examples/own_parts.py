"""An aggregation and an objective of your own, without a change to the package:

seqvae train --corpus demo --import examples/own_parts.py --method max_pool \
    --set model.pooling_mode=soft_max --set model.sharpness=2 --set training.objective=target_kl
"""

import torch
from torch import nn

from modeling_seqvae.registry import OBJECTIVES, POOLINGS


@POOLINGS.register("soft_max")
class SoftMaxPool(nn.Module):
    """A mean of the states in which each dimension weighs the words by exp(a h), with a learned sharpness a.

    a = 0 is the average; a large a approaches the maximum. It begins at `sharpness`, an option: a field of the model.
    """

    def __init__(self, hidden_size: int, *, sharpness: float = 1.0):
        super().__init__()
        self.sharpness = nn.Parameter(torch.full((hidden_size,), float(sharpness)))

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores = (self.sharpness * states).masked_fill(~mask[:, :, None], -torch.inf)  # (B, T, H)
        return (scores.softmax(1) * states).sum(1)  # (B, H)


@OBJECTIVES.register("target_kl")
def target_kl(output, kl_weight: float, *, nats: float = 3.0) -> torch.Tensor:
    """Rec + w |KL - nats|, of the batch's mean: a KL that is pulled towards a target from both sides."""
    return output.reconstruction_loss.mean() + kl_weight * (output.kl.mean() - nats).abs()
