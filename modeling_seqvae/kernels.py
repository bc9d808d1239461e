"""What makes the model fast, in one place. Inside `plain()` the model is plain torch: slower and equal.

The model calls `linear_nll`, `run_layer`, `states_under_latents` and `Dropout` where it could call torch; programs call
`fast_matmul` around whole steps and `prepare_process` once; `frozen` spares gradients that nobody asks for.
"""

import ctypes
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache, wraps
from threading import Lock
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class _OfProcess:
    """A setting of the whole process, for as long as any thread is inside a block that wants it.

    The first block enters the `change`, and the last one to end leaves it.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[None]] = nullcontext):
        self.blocks = 0
        self._change = change
        self._changed = ExitStack()
        self._lock = Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self.blocks:
                self._changed.enter_context(self._change())
            self.blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self.blocks -= 1
                if not self.blocks:
                    self._changed.close()


_PLAIN = _OfProcess()


@contextmanager
def plain() -> Iterator[None]:
    """Inside, all of this module is the plain torch that it stands for, in the whole process.

    Results are equal up to rounding; the masks of `Dropout` have the same law and are others. It is for second
    derivatives, which the faster versions have not, and for comparing with them; export and `torch.func` do without it.
    """
    with _PLAIN():
        yield


def _is_plain() -> bool:
    return _PLAIN.blocks > 0 or torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()


def is_bare(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is torch's own of this type and nothing more, so that its weights are all that a call would use.

    One that was replaced or wrapped, or that a hook prepares, as for weights that are offloaded, has to be called.
    """
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is kind and "forward" not in vars(layer) and not any(hooks)


def weight_of(layer: nn.Linear) -> torch.Tensor:
    """The weight of a linear layer that is not called. Raises ValueError where only a call would have it."""
    weight = layer.weight
    if not isinstance(weight, torch.Tensor) or (weight.is_meta and not is_bare(layer, nn.Linear)):
        raise ValueError(
            "this posterior reads weights without calling their layers, so that they cannot be quantised or offloaded: "
            "leave out model.encoder.posterior, or choose a device_map that keeps model.encoder on a device"
        )
    return weight


@contextmanager
def frozen(weights: Iterable[torch.Tensor]) -> Iterator[None]:
    """Inside, no gradient is taken in weights that have one, only in what passes through them."""
    weights = list(weights)
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A `backward` whose results are constants: where they are to be differentiated, RuntimeError.

    torch's own `once_differentiable` says nothing as long as the gradient that comes in is a constant, as a loss's is.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "second derivatives (create_graph=True) are not known here: inside modeling_seqvae.kernels.plain() the "
                "model is plain torch"
            )
        return backward(ctx, *gradients)

    return checked


def upcast(tensor: torch.Tensor) -> torch.Tensor:
    """Half-precision tensors as float32, others unchanged: where rounding would cost nats."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _product_dtype(tensor: torch.Tensor) -> torch.dtype:
    """In which a matrix product with the tensor is taken: autocast's, or its own."""
    device = tensor.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else tensor.dtype


# The vocabulary layer's loss: -log p(token) from hidden states, without ever holding a (N, V) tensor.
#
# The layer is most of the arithmetic of a sequence VAE, and its logits would be most of the memory. They are made a
# block of rows at a time, and when gradients will be wanted these are taken at once, while the block is there: the
# derivative of each row's value is known but for a factor, and in training that factor is the same for all rows.

BLOCK_BYTES = {"cpu": 1 << 26, "cuda": 1 << 29}
"""Logits made at a time: enough rows for the fastest matrix product."""
SLICE_BYTES = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits whose softmax is taken at a time: few enough to stay in a CPU's cache."""
NOT_COUNTED = -100
"""The target of a position whose value is 0."""


def linear_nll(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """-log softmax(states @ weight.T)[targets] in nats: states (..., H), weight (V, H), targets (...) -> (...) float32.

    0 where `counted` (...) is false. Equal to `token_nll` of the logits; float64 inputs give float64. Under autocast
    the products are in its dtype, the softmax and the sum of the weight's gradient over blocks in float32.
    Differentiable in states and weight; the second derivatives take the memory of all logits. On a GPU nothing is
    waited for if the loss is a `batch_mean`.
    """
    if _is_plain():
        return token_nll(F.linear(states, weight), targets, counted)
    if counted is not None and _selects_rows(states):
        nll = _row_nll(states[counted], weight, targets[counted], None)
        return nll.new_zeros(counted.shape).masked_scatter(counted, nll)
    rows = None if counted is None else counted.flatten()
    return _row_nll(states.flatten(0, -2), weight, targets.flatten(), rows).view(targets.shape)


def token_nll(logits: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor | None = None) -> torch.Tensor:
    """-log softmax(logits)[targets] in nats, in float32 or wider: logits (..., V), targets (...) -> (...).

    0 where `counted` (...) is false.
    """
    if counted is not None:
        targets = targets.masked_fill(~counted, NOT_COUNTED)
    return F.cross_entropy(upcast(logits).movedim(-1, 1), targets, reduction="none", ignore_index=NOT_COUNTED)


def batch_mean(values: torch.Tensor) -> torch.Tensor:
    """The mean of (B,), whose gradient shows without a look at its values that it is the same for all of them.

    torch's own mean divides after it has copied the gradient B times.
    """
    return values.sum() / len(values)


def _selects_rows(states: torch.Tensor) -> bool:
    """Whether rows that do not count are left out: a GPU has to be waited for to tell how many count."""
    return states.device.type == "cpu"


def _row_nll(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor | None
) -> torch.Tensor:
    dtype = _product_dtype(states)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        return _LinearNLL.apply(states, weight, targets, counted, dtype)
    return _blocks(states, weight, targets, counted, dtype).nll(counted)


def _blocks(
    states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor | None, dtype: torch.dtype
) -> "_Blocks":
    """Rows that do not count are zeros, so that they add nothing to the gradient of the weight."""
    states, weight = states.to(dtype), weight.to(dtype)
    if counted is not None:
        states, targets = states.masked_fill(~counted[:, None], 0), targets.masked_fill(~counted, 0)
    return _Blocks(states, weight, targets)


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

    def nll(self, counted: torch.Tensor | None = None) -> torch.Tensor:
        """The value of every row, (N,), 0 where it is not counted."""
        values = self.states.new_empty(len(self.states), dtype=self.wide)
        for rows, logits in self._each():
            for part, wide in self._slices(logits):
                torch.log_softmax(wide, -1, out=wide)
                values[rows][part] = _pick(wide, self.targets[rows][part]).neg_()
        return values if counted is None else values.masked_fill_(~counted, 0)

    def nll_and_gradients(
        self, of_weight: bool, factors: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The values (N,), and the gradients of sum_i factors_i value_i in states (N, H) and weight (V, H).

        No factors are factors of 1. The gradient in the weight, None if it is not asked for, is float32 or wider.
        """
        values = self.states.new_empty(len(self.states), dtype=self.wide)
        grad_states = torch.empty_like(self.states)
        grad_weight = torch.zeros_like(self.weight, dtype=self.wide) if of_weight else None
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
            if grad_weight is not None:
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
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        counted: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        ctx.dtype = dtype
        ctx.save_for_backward(states, weight, targets, counted)
        blocks = _blocks(states, weight, targets, counted, dtype)
        nll, *ctx.gradients = blocks.nll_and_gradients(of_weight=ctx.needs_input_grad[1])
        return nll if counted is None else nll.masked_fill_(~counted, 0)

    @staticmethod
    def backward(ctx: Any, grad_nll: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, targets, counted = ctx.saved_tensors
        if torch.is_grad_enabled():  # what is returned will be differentiated again
            nll = token_nll(F.linear(states.to(ctx.dtype), weight.to(ctx.dtype)), targets, counted)
            wanted = [each for each, needs in zip((states, weight), ctx.needs_input_grad, strict=False) if needs]
            found = iter(torch.autograd.grad(nll, wanted, grad_nll, create_graph=True))
            return *(next(found) if needs else None for needs in ctx.needs_input_grad[:2]), None, None, None
        gradients, ctx.gradients = ctx.gradients, []  # scaled in place, so good for once
        if gradients and len(grad_nll) and _is_even(grad_nll):
            grad_states, grad_weight = gradients
            for gradient in filter(torch.is_tensor, gradients):
                gradient.mul_(grad_nll[0])
        else:
            blocks = _blocks(states, weight, targets, counted, ctx.dtype)
            _, grad_states, grad_weight = blocks.nll_and_gradients(ctx.needs_input_grad[1], grad_nll)
        if counted is not None:
            grad_states.masked_fill_(~counted[:, None], 0)
        grad_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_states.to(states.dtype), grad_weight, None, None, None


def _is_even(factors: torch.Tensor) -> bool:
    """Whether all factors (N,) are one number. Its stride tells, of one that was expanded; else a GPU is waited for."""
    return factors.stride() == (0,) or bool((factors == factors[0]).all())


# LSTM layers over a sentence, by torch's own kernels or by ours where those waste arithmetic.
#
# On a CPU: training in bfloat16, where oneDNN's backward pass runs at float32's speed; and scoring one sentence under
# many latents, where the words' share of the gates is the same for all of them.
# Letters: T tokens, B sentences, S latents a sentence, H hidden; the gates (4H) stand in torch's order i, f, g, o.

State = tuple[torch.Tensor, torch.Tensor]
LARGE = 768
"""Hidden units from which our backward pass is the faster one; below, a step is too short for single operations."""

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def run_layer(layer: Any, inputs: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
    """The states (B, T, H) of one batch-first layer over inputs (B, T, E), and the last (h, c), (1, B, H) each.

    `state` is the (h, c) to start from, zeros by default. Equal to `layer(inputs, state)` up to rounding.
    """
    if torch.compiler.is_exporting():
        return _exported_layer(layer, inputs, state)
    if _is_plain() or not is_bare(layer, nn.LSTM):
        return _called(layer, inputs, state)
    by_cudnn = _learns_on_a_gpu(inputs)
    if not by_cudnn and not _own_backward_is_faster(layer, inputs):
        return _called(layer, inputs, state)
    if state is None:
        zeros = inputs.new_zeros(1, inputs.shape[0], layer.hidden_size)
        state = (zeros, zeros)
    if by_cudnn:
        return _learning_layer(layer, inputs, state)
    gates = _time_first(inputs, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)  # (T, B, 4H)
    weight = layer.weight_hh_l0.to(gates.dtype)
    hidden, cell = (part[0].to(dtype) for part, dtype in zip(state, (gates.dtype, torch.float32), strict=True))
    states, last_hidden, last_cell = _Recurrence.apply(gates, weight, hidden, cell)
    return states.transpose(0, 1), (last_hidden[None], last_cell[None].to(gates.dtype))


def _called(layer: Any, inputs: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
    """The layer by torch: without autocast where oneDNN's LSTM fails in its dtype."""
    if not _fails_under_autocast(inputs):
        return layer(inputs, state)
    dtype = next(layer.parameters(), inputs).dtype
    with torch.autocast("cpu", enabled=False):
        return layer(inputs.to(dtype), None if state is None else (state[0].to(dtype), state[1].to(dtype)))


def _exported_layer(layer: Any, inputs: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
    """The layer as a loop of the graph: exporters unroll torch's own, for sentences of one length alone."""
    from torch._higher_order_ops import scan  # no public name yet, and needed by nothing else

    weight, shape = layer.weight_hh_l0, (1, inputs.shape[0], layer.hidden_size)

    def read(before: State, gates: torch.Tensor) -> tuple[State, torch.Tensor]:
        i, f, g, o = (gates + F.linear(before[0], weight)).chunk(4, -1)
        cell = f.sigmoid() * before[1] + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        return (hidden, cell), hidden.clone()

    hidden, cell = (inputs.new_zeros(shape), inputs.new_zeros(shape)) if state is None else state
    word_gates = F.linear(inputs, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0).transpose(0, 1)
    last, states = scan(read, (hidden[0].clone(), cell[0].clone()), word_gates)
    return states.transpose(0, 1), (last[0][None], last[1][None])


def _learns_on_a_gpu(inputs: torch.Tensor) -> bool:
    return inputs.device.type == "cuda" and torch.is_grad_enabled()


def _learning_layer(layer: Any, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    """The layer by cuDNN, in the weights' dtype and in training mode, of whichever mode the layer is.

    Under autocast torch has cuDNN compute in float16, also where products are to be in bfloat16: most gradients of an
    encoder, of a mean over a batch, would be 0 there. And from a call in evaluation mode cuDNN has no way back.
    """
    dtype = layer.weight_hh_l0.dtype
    start = [part.to(dtype) for part in state]
    with torch.autocast(inputs.device.type, enabled=False):
        # with biases, 1 layer, no dropout, in training mode, one direction, batch first
        states, *last = torch.lstm(inputs.to(dtype), start, layer._flat_weights, True, 1, 0.0, True, False, True)
    return states, (last[0], last[1])


def _own_backward_is_faster(layer: Any, inputs: torch.Tensor) -> bool:
    large = torch.is_grad_enabled() and layer.hidden_size >= LARGE
    return large and _under_cpu_autocast(inputs) and not _fails_under_autocast(inputs)


def _fails_under_autocast(inputs: torch.Tensor) -> bool:
    """Whether oneDNN has no LSTM in autocast's dtype: on CPUs in float16, in bfloat16 where its instructions lack."""
    if not _under_cpu_autocast(inputs):  # asked first: at every call of a layer
        return False
    return torch.get_autocast_dtype("cpu") != torch.bfloat16 or not has_bfloat16(inputs.device)


def _under_cpu_autocast(inputs: torch.Tensor) -> bool:
    return inputs.device.type == "cpu" and torch.is_autocast_enabled("cpu")


@torch.no_grad()
def states_under_latents(layer: Any, words: torch.Tensor, latents: torch.Tensor, state: State) -> torch.Tensor:
    """The states (S, B, T, H) of a layer that reads [word ; z], for words (B, T, E) under each of latents (S, B, Z).

    `state` starts it, (S * B, H) each. No gradient. On a CPU the words' share of the gates is computed once for all
    latents, the latents' once for all words.
    """
    samples, sentences, _ = latents.shape
    if _is_plain() or words.device.type != "cpu" or not is_bare(layer, nn.LSTM):
        z = latents[:, :, None].expand(-1, -1, words.shape[1], -1)  # (S, B, T, Z)
        inputs = torch.cat([words.expand(samples, -1, -1, -1), z], -1).flatten(0, 1)
        return _called(layer, inputs, (state[0][None], state[1][None]))[0].unflatten(0, (samples, sentences))
    of_words, of_latents = layer.weight_ih_l0.split([words.shape[-1], latents.shape[-1]], 1)
    word_gates = upcast(_time_first(words, of_words))  # (T, B, 4H)
    latent_gates = upcast(F.linear(latents, of_latents, layer.bias_ih_l0 + layer.bias_hh_l0))  # (S, B, 4H)
    weight = layer.weight_hh_l0.to(_product_dtype(layer.weight_hh_l0))
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
    @differentiable_once
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


# Dropout whose mask costs a CPU a quarter of torch's own.


class Dropout(nn.Dropout):
    """torch's dropout; on CPUs, in training, each value's fate takes 32 bits of torch's generator, drawn 64 at a time.

    The law is the same: every value is dropped with probability p, exact to 2^-32, or scaled by 1 / (1 - p).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu" or _is_plain():
            return F.dropout(input, self.p, self.training)
        return input * _dropout_mask(input.shape, self.p).to(input.dtype).mul_(1 / (1 - self.p))


def _dropout_mask(shape: torch.Size, p: float) -> torch.Tensor:
    """True with probability 1 - p, each by itself."""
    count = shape.numel()
    bits = torch.empty(-(-count // 2), dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    return (bits[:count] >= int(p * 2**32) - 2**31).view(shape)


# Faster float32 matrix products on CPUs, at the same precision, around whole steps only; and who has bfloat16.

TOLERANCE = 1e-6


@contextmanager
def fast_matmul(device: torch.device) -> Iterator[None]:
    """Inside, float32 matrix products on a CPU go to its fastest library, if that library is as exact as the default.

    The setting is process-wide and on other devices would allow bf16 or TF32 inside float32 products, so it is
    restored on leaving, and left alone unless `device` is a CPU on which a product was checked first.
    """
    if device.type != "cpu" or _is_plain() or _current() is None or not _is_exact():
        yield
        return
    with _FAST():
        yield


@contextmanager
def _multiplying_fast() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


_FAST = _OfProcess(_multiplying_fast)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself, so that it is faster there than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _current() -> str | None:
    """The setting; None where the caller uses torch's newer `fp32_precision` instead, which excludes this one."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@cache
def _is_exact() -> bool:
    """Whether "medium" keeps float32's precision here, by one product compared with float64."""
    left, right = torch.rand((2, 256, 256), generator=torch.Generator().manual_seed(0)) - 0.5
    exact = left.double() @ right.double()
    with _FAST():
        error = (left @ right - exact).norm() / exact.norm()
    return bool(error < TOLERANCE)


# What a program may choose for its whole process: numbers that cost a CPU too much, and memory that it frees and needs
# again at every step, kept for it by the C library.

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def prepare_process() -> None:
    """For programs that compute for long: `keep_freed_memory`, and numbers nearer to 0 than 1e-38 count as 0.

    Arithmetic with such numbers takes a CPU many times as long. The gradients of an encoder whose posteriors have all
    become one are full of them. The setting holds for this thread and for those that begin later.
    """
    keep_freed_memory()
    torch.set_flush_denormal(True)


def keep_freed_memory() -> bool:
    """From here on, CPU memory that this process frees stays its own; False where the C library is not GNU's.

    A training step frees and asks again for hundreds of megabytes of gradients and activations. By default every large
    tensor is memory that the system has to clear first, page by page, and that is given back after use. The setting is
    the whole process's and lasts: it is for programs to choose, and importing this package does not.
    """
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, -1))


def release_freed_memory() -> None:
    """Give back the freed memory that lies between what is in use, which grows when batches are of many lengths.

    The address space stays the process's own, so that the next steps need not ask for it again.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """GNU's C library, whose allocator the two functions above speak to; None where the process has another."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
