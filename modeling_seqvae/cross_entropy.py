"""-log p(token) from hidden states, without ever holding more than one (N, V) tensor.

The vocabulary layer is most of the arithmetic of a sequence VAE, and its logits most of the memory. Rows are taken in
blocks whose logits stay in cache, so that the softmax costs no extra trip through memory.
"""

from collections.abc import Iterator
from typing import Any

import torch

BLOCK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits computed at a time: a CPU's last-level cache, a GPU's appetite for large products."""


def linear_nll(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(states @ weight.T)[targets] in nats: states (N, H), weight (V, H), targets (N,) -> (N,) float32.

    Equal to a cross-entropy of the logits; float64 inputs give float64. Differentiable once, in states and weight.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, weight = states.to(dtype), weight.to(dtype)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        return _LinearNLL.apply(states, weight, targets)
    return torch.cat([_block_nll(block @ weight.T, target)[0] for block, target in _blocks(states, targets, weight)])


def _blocks(
    states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    elements = BLOCK_ELEMENTS.get(states.device.type, BLOCK_ELEMENTS["cuda"])
    rows = max(64, elements // weight.shape[0])
    return zip(states.split(rows), targets.split(rows), strict=True)


def _block_nll(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The negative log-likelihood (n,) and log-normaliser (n,) of a block of logits (n, V), in float32 or wider."""
    logits = upcast(logits)
    normaliser = logits.logsumexp(-1)
    return normaliser - logits.gather(-1, targets[:, None]).squeeze(-1), normaliser


def upcast(tensor: torch.Tensor) -> torch.Tensor:
    """Half-precision tensors as float32, others unchanged: where rounding would cost nats."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class _LinearNLL(torch.autograd.Function):
    """Keeps the logits, the one (N, V) tensor, and rebuilds the softmax block by block on the way back."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = states.new_empty(states.shape[0], weight.shape[0])  # (N, V)
        parts = []
        start = 0
        for block, target in _blocks(states, targets, weight):
            rows = logits[start : start + len(block)]
            torch.mm(block, weight.T, out=rows)
            parts.append(_block_nll(rows, target))
            start += len(block)
        nll = torch.cat([part for part, _ in parts])
        ctx.save_for_backward(states, weight, targets, logits, torch.cat([part for _, part in parts]))
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_nll: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        states, weight, targets, logits, normaliser = ctx.saved_tensors
        grad_states = torch.empty_like(states)
        grad_weight = torch.zeros_like(weight)
        start = 0
        for block, target in _blocks(states, targets, weight):
            rows = slice(start, start + len(block))
            grad_logits = upcast(logits[rows]).sub(normaliser[rows, None]).exp_()  # softmax
            grad_logits.scatter_add_(-1, target[:, None], grad_logits.new_full((len(block), 1), -1.0))
            grad_logits = grad_logits.mul_(grad_nll[rows, None]).to(weight.dtype)
            torch.mm(grad_logits, weight, out=grad_states[rows])
            grad_weight.addmm_(grad_logits.T, block)
            start += len(block)
        return grad_states, grad_weight, None
