"""-log p(token) from hidden states, without ever holding a (N, V) tensor.

The vocabulary layer is most of the arithmetic of a sequence VAE, and its logits would be most of the memory. They are
made a block of rows at a time, and when gradients will be wanted these are taken at once, while the block is there: the
derivative of each row's value is known but for a factor, and in training that factor is the same for all rows.
"""

from collections.abc import Iterator
from typing import Any

import torch

BLOCK_BYTES = {"cpu": 1 << 26, "cuda": 1 << 29}
"""Logits made at a time: enough rows for the fastest matrix product."""
SLICE_BYTES = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits whose softmax is taken at a time: few enough to stay in a CPU's cache."""


def linear_nll(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """-log softmax(states @ weight.T)[targets] in nats: states (N, H), weight (V, H), targets (N,) -> (N,) float32.

    Equal to a cross-entropy of the logits; float64 inputs give float64. Under autocast the products are in its dtype,
    the softmax and the sum of the weight's gradient over blocks in float32. Differentiable once, in states and weight.
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        return _LinearNLL.apply(states, weight, targets, dtype)
    return _Blocks(states.to(dtype), weight.to(dtype), targets).nll()


def upcast(tensor: torch.Tensor) -> torch.Tensor:
    """Half-precision tensors as float32, others unchanged: where rounding would cost nats."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class _Blocks:
    """Blocks of logits, in one buffer that each block overwrites."""

    def __init__(self, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor):
        self.states, self.weight, self.targets = states, weight, targets
        self.wide = torch.float32 if states.dtype in (torch.bfloat16, torch.float16) else states.dtype
        count, vocabulary = len(states), len(weight)
        rows = max(64, _of(BLOCK_BYTES, states) // (vocabulary * states.itemsize))
        self.rows = -(-count // -(-count // rows)) if count else rows  # alike, none of a few rows only
        # Never more than a quarter of the rows, so that no two tensors are as large as all logits.
        self.slice = max(1, min(_of(SLICE_BYTES, states) // (vocabulary * self.wide.itemsize), -(-count // 4)))
        self.logits = states.new_empty(min(self.rows, count), vocabulary)

    def nll(self) -> torch.Tensor:
        """The value of every row, (N,)."""
        values = self.states.new_empty(len(self.states), dtype=self.wide)
        for rows, logits in self._each():
            for part, wide in self._slices(logits):
                torch.log_softmax(wide, -1, out=wide)
                values[rows][part] = _pick(wide, self.targets[rows][part]).neg_()
        return values

    def nll_and_gradients(self, factors: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The values (N,), and the gradients of sum_i factors_i value_i in states (N, H) and weight (V, H).

        No factors are factors of 1. The gradient in the weight is float32 or wider.
        """
        values = self.states.new_empty(len(self.states), dtype=self.wide)
        grad_states = torch.empty_like(self.states)
        grad_weight = torch.zeros_like(self.weight, dtype=self.wide)
        for rows, logits in self._each():
            targets = self.targets[rows]
            for part, wide in self._slices(logits):
                values[rows][part] = _to_probabilities(wide, targets[part])
                wide.scatter_add_(1, targets[part, None], -torch.ones_like(wide[:, :1]))
                if factors is not None:
                    wide.mul_(factors[rows][part, None])
                if wide.dtype != logits.dtype:
                    logits[part] = wide
            torch.mm(logits, self.weight, out=grad_states[rows])
            self._add_product(grad_weight, logits.T, self.states[rows])
        return values, grad_states, grad_weight

    def _add_product(self, total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
        """total += left @ right, in float32 or wider; a narrower product is taken in parts that stay in cache."""
        if total.dtype == left.dtype:
            total.addmm_(left, right)
            return
        size = max(1, _of(SLICE_BYTES, right) // (right.shape[1] * right.itemsize))
        for sums, part in zip(total.split(size), left.split(size), strict=True):
            sums.add_(part @ right)

    def _each(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows of a block, and their logits."""
        for start in range(0, len(self.states), self.rows):
            rows = slice(start, min(start + self.rows, len(self.states)))
            logits = self.logits[: rows.stop - rows.start]
            yield rows, torch.mm(self.states[rows], self.weight.T, out=logits)

    def _slices(self, logits: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Rows within a block, and their logits in float32 or wider: the block's own memory where it is as wide."""
        for start in range(0, len(logits), self.slice):
            part = slice(start, min(start + self.slice, len(logits)))
            yield part, logits[part].to(self.wide)


def _to_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Turns logits (n, V) into probabilities in place; returns -log of the targets', (n,), however small these are.

    The largest probability is at least 1 / V, so that its logarithm is exact, and a logit's distance from the largest
    is the distance of the logarithms: one pass of exponentials serves value and gradient.
    """
    below_largest = logits.amax(-1) - _pick(logits, targets)
    torch.softmax(logits, -1, out=logits)
    return below_largest - logits.amax(-1).log_()


def _of(sizes: dict[str, int], states: torch.Tensor) -> int:
    return sizes.get(states.device.type, sizes["cuda"])


def _pick(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return values.gather(1, targets[:, None]).squeeze(1)


class _LinearNLL(torch.autograd.Function):
    """Takes the gradients on the way forward, for equal factors of all rows; anew on the way back where they differ."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        ctx.dtype = dtype
        ctx.save_for_backward(states, weight, targets)
        nll, *ctx.gradients = _Blocks(states.to(dtype), weight.to(dtype), targets).nll_and_gradients()
        return nll

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_nll: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, targets = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, []  # scaled in place, so good for once
        if gradients and len(grad_nll) and bool((grad_nll == grad_nll[0]).all()):
            grad_states, grad_weight = (gradient.mul_(grad_nll[0]) for gradient in gradients)
        else:
            blocks = _Blocks(states.to(ctx.dtype), weight.to(ctx.dtype), targets)
            _, grad_states, grad_weight = blocks.nll_and_gradients(grad_nll)
        return grad_states.to(states.dtype), grad_weight.to(weight.dtype), None, None
