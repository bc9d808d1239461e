"""LSTM layers over a sentence, by torch's own kernels or, on a CPU, by ours where those waste arithmetic.

Two cases: training in bfloat16, where oneDNN's backward pass runs at float32's speed; and scoring one sentence under
many latents, where the words' share of the gates is the same for all of them.
Letters: T tokens, B sentences, S latents a sentence, H hidden; the gates (4H) stand in torch's order i, f, g, o.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F

from .cross_entropy import upcast

State = tuple[torch.Tensor, torch.Tensor]
LARGE = 768
"""Hidden units from which our backward pass is the faster one; below, a step is too short for single operations."""

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def run_layer(layer: Any, inputs: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
    """The states (B, T, H) of one batch-first layer over inputs (B, T, E), and the last (h, c), (1, B, H) each.

    `state` is the (h, c) to start from, zeros by default. Equal to `layer(inputs, state)` up to rounding.
    """
    if not _own_backward_is_faster(layer, inputs):
        return layer(inputs, state)
    if state is None:
        zeros = inputs.new_zeros(1, inputs.shape[0], layer.hidden_size)
        state = (zeros, zeros)
    gates = _time_first(inputs, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)  # (T, B, 4H)
    weight = layer.weight_hh_l0.to(gates.dtype)
    hidden, cell = (part[0].to(dtype) for part, dtype in zip(state, (gates.dtype, torch.float32), strict=True))
    states, last_hidden, last_cell = _Recurrence.apply(gates, weight, hidden, cell)
    return states.transpose(0, 1), (last_hidden[None], last_cell[None].to(gates.dtype))


def _own_backward_is_faster(layer: Any, inputs: torch.Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and inputs.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and layer.hidden_size >= LARGE
    )


@torch.no_grad()
def states_under_latents(layer: Any, words: torch.Tensor, latents: torch.Tensor, state: State) -> torch.Tensor:
    """The states (S, B, T, H) of a layer that reads [word ; z], for words (B, T, E) under each of latents (S, B, Z).

    `state` starts it, (S * B, H) each. The words' share of the gates is computed once for all latents, the latents'
    once for all words. No gradient.
    """
    samples, sentences, _ = latents.shape
    of_words, of_latents = layer.weight_ih_l0.split([words.shape[-1], latents.shape[-1]], 1)
    word_gates = upcast(_time_first(words, of_words))  # (T, B, 4H)
    latent_gates = upcast(F.linear(latents, of_latents, layer.bias_ih_l0 + layer.bias_hh_l0))  # (S, B, 4H)
    weight = _as_autocast(layer.weight_hh_l0)
    recurrent = _product_with(weight)
    hidden, cell = state[0].to(weight.dtype), upcast(state[1]).clone()
    states = hidden.new_empty(len(word_gates), *hidden.shape)  # (T, S * B, H)
    gates, tanh = torch.empty_like(latent_gates), torch.empty_like(cell)
    for of_word, state_after in zip(word_gates, states, strict=True):
        step = torch.add(latent_gates, of_word, out=gates).flatten(0, 1)
        hidden = _step(step.add_(recurrent(hidden)), cell, cell, tanh, state_after)
    return states.unflatten(1, (samples, sentences)).permute(1, 2, 0, 3)


def _time_first(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A linear layer of (B, T, E) as (T, B, .): of inputs that are contiguous, or it would be slow."""
    return F.linear(inputs.transpose(0, 1).contiguous(), weight, bias)


def _as_autocast(weight: torch.Tensor) -> torch.Tensor:
    device = weight.device.type
    return weight.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else weight


def _product_with(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """x -> x @ weight.T, for many products in a row.

    An ordinary product of a few rows spends half its time on reordering the weight for oneDNN: here that is done once,
    where this build of torch has the operators for it.
    """
    if not _can_reorder(weight.dtype):
        return lambda rows: rows @ weight.T
    reordered = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, reordered, None, "none", [], "")


@cache
def _can_reorder(dtype: torch.dtype) -> bool:
    operators = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in operators):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _step(
    gates: torch.Tensor, before: torch.Tensor, cell: torch.Tensor, tanh: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Activates gates (N, 4H) in place; writes the cell, its tanh and the state of one word, from the cell before it.

    tanh(x) = 2 sigmoid(2x) - 1 throughout: torch's own tanh takes four times as long on CPUs.
    """
    i, f, g, o = gates.chunk(4, 1)
    g.mul_(2)
    gates.sigmoid_()
    g.mul_(2).sub_(1)
    torch.mul(f, before, out=cell).addcmul_(i, g)
    torch.mul(cell, 2, out=tanh).sigmoid_().mul_(2).sub_(1)
    return torch.mul(o, tanh, out=hidden)


class _Recurrence(torch.autograd.Function):
    """An LSTM from its input gates (T, B, 4H): matrix products in their dtype, everything else in float32 or wider."""

    @staticmethod
    def forward(
        ctx: Any, gates: torch.Tensor, weight: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        activated = gates.to(cell.dtype, copy=True)  # (T, B, 4H), i f g o
        hiddens = hidden.new_empty(len(gates) + 1, *hidden.shape)
        cells = cell.new_empty(len(gates) + 1, *cell.shape)
        tanhs = cell.new_empty(len(gates), *cell.shape)
        hiddens[0], cells[0] = hidden, cell
        recurrent = _product_with(weight)
        for t, step in enumerate(activated):
            _step(step.add_(recurrent(hiddens[t])), cells[t], cells[t + 1], tanhs[t], hiddens[t + 1])
        ctx.save_for_backward(activated, weight, hiddens, cells, tanhs)
        return hiddens[1:], hiddens[-1].clone(), cells[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad_states: torch.Tensor, grad_hidden: torch.Tensor, grad_cell: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        activated, weight, hiddens, cells, tanhs = ctx.saved_tensors
        gates = activated.unflatten(-1, (4, -1))  # (T, B, 4, H)
        grad_gates = torch.empty_like(gates, dtype=weight.dtype)
        grad_hidden, grad_cell = upcast(grad_hidden), upcast(grad_cell).clone()
        recurrent = _product_with(weight.T.contiguous())
        for t in reversed(range(len(gates))):
            i, f, g, o = gates[t].unbind(1)
            of_i, of_f, of_g, of_o = grad_gates[t].unbind(1)
            grad_hidden = grad_hidden + grad_states[t]
            grad_cell += torch.ops.aten.tanh_backward(grad_hidden * o, tanhs[t])
            sigmoid_backward(grad_cell * g, i, grad_input=of_i)
            sigmoid_backward(grad_cell * cells[t], f, grad_input=of_f)
            tanh_backward(grad_cell * i, g, grad_input=of_g)
            sigmoid_backward(grad_hidden * tanhs[t], o, grad_input=of_o)
            grad_cell *= f
            grad_hidden = upcast(recurrent(grad_gates[t].flatten(1)))
        flat = grad_gates.flatten(2)
        grad_weight = flat.flatten(0, 1).T @ hiddens[:-1].flatten(0, 1)
        return flat, grad_weight, grad_hidden.to(hiddens.dtype), grad_cell
