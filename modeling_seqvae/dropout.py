"""Dropout whose mask costs a CPU a quarter of torch's own."""

import torch
from torch import nn
from torch.nn import functional as F


class Dropout(nn.Dropout):
    """torch's dropout; on CPUs, in training, each value's fate takes 32 bits of torch's generator, drawn 64 at a time.

    The law is the same: every value is dropped with probability p, exact to 2^-32, or scaled by 1 / (1 - p).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu":
            return F.dropout(input, self.p, self.training)
        return input * _kept(input.shape, self.p).to(input.dtype).mul_(1 / (1 - self.p))


def _kept(shape: torch.Size, p: float) -> torch.Tensor:
    """True with probability 1 - p, each by itself."""
    count = shape.numel()
    bits = torch.empty(-(-count // 2), dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    return (bits[:count] >= int(p * 2**32) - 2**31).view(shape)
