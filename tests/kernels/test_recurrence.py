"""Our recurrences are nn.LSTM's, forward and backward."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from modeling_seqvae import kernels
from modeling_seqvae.kernels import has_bfloat16, run_layer, states_under_latents

B, T, E, Z, H, S = 3, 5, 4, 2, 6, 7


@pytest.fixture(autouse=True)
def no_size_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LARGE", 1)


def layer_of(input_size: int, dtype: torch.dtype = torch.float64) -> nn.LSTM:
    layer = nn.LSTM(input_size, H, batch_first=True).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1)
    return layer


def own(layer: nn.LSTM, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Our recurrence as `run_layer` calls it, in any precision."""
    gates = inputs.transpose(0, 1) @ layer.weight_ih_l0.T + layer.bias_ih_l0 + layer.bias_hh_l0
    states, last_hidden, last_cell = kernels._Recurrence.apply(gates, layer.weight_hh_l0, hidden, cell)
    return states.transpose(0, 1), last_hidden, last_cell


def theirs(layer: nn.LSTM, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, ...]:
    states, (last_hidden, last_cell) = layer(inputs, (hidden[None], cell[None]))
    return states, last_hidden[0], last_cell[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_products_are_those_of_the_weight(dtype: torch.dtype) -> None:
    weight, rows = torch.randn(24, H).to(dtype), torch.randn(B, H).to(dtype)
    product = kernels._product_with(weight)
    for _ in range(2):
        torch.testing.assert_close(product(rows), rows @ weight.T)


def test_without_the_operators_products_are_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_can_reorder", lambda dtype: False)
    weight, rows = torch.randn(24, H), torch.randn(B, H)
    assert torch.equal(kernels._product_with(weight)(rows), rows @ weight.T)


def test_values_and_all_gradients_are_those_of_nn_lstm() -> None:
    layer = layer_of(E)
    given = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((B, T, E), (B, H), (B, H))]
    results, gradients = [], []
    for recur in (own, theirs):
        outputs = recur(layer, *given)
        total = sum((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() for output in outputs)
        results.append(outputs)
        gradients.append(torch.autograd.grad(total, [*given, *layer.parameters()]))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("started", [False, True])
def test_bfloat16_training_errs_no_more_than_torchs_own(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_can = has_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(kernels, "has_bfloat16", lambda device: True)
    layer, inputs = layer_of(E, torch.float32), torch.randn(B, T, E, requires_grad=True)
    state = (torch.randn(1, B, H), torch.randn(1, B, H)) if started else None

    def gradients(recur) -> list[torch.Tensor]:
        states, (hidden, cell) = recur(inputs, state)
        total = states.float().sum() + hidden.float().square().sum() + cell.float().sum()
        return list(torch.autograd.grad(total, [inputs, *layer.parameters()]))

    exact = gradients(layer)
    with torch.autocast("cpu", torch.bfloat16):
        states, (hidden, cell) = run_layer(layer, inputs, state)
        assert {states.dtype, hidden.dtype, cell.dtype} == {torch.bfloat16}
        assert hidden.shape == cell.shape == (1, B, H)
        ours = gradients(lambda *arguments: run_layer(layer, *arguments))
        torchs = gradients(layer) if torch_can else exact
    assert all(gradient.dtype == torch.float32 for gradient in ours)
    for gradient, other, truth in zip(ours, torchs, exact, strict=True):
        allowed = max(1.5 * (other - truth).norm().item(), 2**-7 * truth.norm().item())
        assert (gradient - truth).norm() < allowed


def test_second_derivatives_that_are_not_known_are_an_error() -> None:
    layer, inputs = layer_of(E), torch.randn(B, T, E, dtype=torch.float64, requires_grad=True)
    states = own(layer, inputs, *torch.zeros(2, B, H, dtype=torch.float64))[0]
    with pytest.raises(RuntimeError, match=r"second derivatives \(create_graph=True\) are not known here"):
        torch.autograd.grad(states.sum(), inputs, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_where_autocast_has_no_lstm_torchs_layer_is_in_float32(
    monkeypatch: pytest.MonkeyPatch, learns: bool, bare: bool, dtype: torch.dtype
) -> None:
    """oneDNN's LSTM fails in float16, and without its instructions in bfloat16; here without looking at this CPU's."""
    monkeypatch.setattr(kernels, "has_bfloat16", lambda device: dtype == torch.float16)
    layer, wide = layer_of(E, torch.float32), layer_of(E + Z, torch.float32)
    if not bare:
        for one in (layer, wide):
            one.register_forward_hook(lambda *arguments: None)
    inputs, state = torch.randn(B, T, E), (torch.randn(1, B, H), torch.randn(1, B, H))
    latents, start = torch.randn(S, B, Z), (torch.randn(S * B, H), torch.randn(S * B, H))

    def found() -> list[torch.Tensor]:
        states, (hidden, cell) = run_layer(layer, inputs, state)
        gradients = torch.autograd.grad(states.float().sum(), list(layer.parameters())) if learns else ()
        return [states, hidden, cell, run_layer(layer, inputs)[0], *gradients]

    with torch.set_grad_enabled(learns):
        expected = found()
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(found(), expected)
    under = states_under_latents(wide, inputs, latents, start)
    with torch.autocast("cpu", dtype):
        error = states_under_latents(wide, inputs, latents, start).float() - under
    assert error.norm() < 2**-7 * under.norm()


def test_without_autocast_the_layer_itself_runs() -> None:
    layer, inputs = layer_of(E), torch.randn(B, T, E, dtype=torch.float64)
    states, (hidden, cell) = run_layer(layer, inputs)
    expected, (last_hidden, last_cell) = layer(inputs)
    assert torch.equal(states, expected) and torch.equal(hidden, last_hidden) and torch.equal(cell, last_cell)


def test_states_under_latents_are_those_of_each_latent_alone() -> None:
    layer = layer_of(E + Z)
    words, latents = torch.randn(B, T, E, dtype=torch.float64), torch.randn(S, B, Z, dtype=torch.float64)
    hidden, cell = torch.randn(2, S * B, H, dtype=torch.float64)
    states = states_under_latents(layer, words, latents, (hidden, cell))
    assert states.shape == (S, B, T, H)
    for number, z in enumerate(latents):
        inputs = torch.cat([words, z[:, None].expand(-1, T, -1)], -1)
        start = tuple(part.unflatten(0, (S, B))[number][None].contiguous() for part in (hidden, cell))
        torch.testing.assert_close(states[number], layer(inputs, start)[0])


def test_the_state_to_start_from_is_left_alone() -> None:
    layer = layer_of(E + Z)
    start = tuple(torch.randn(2, S * B, H, dtype=torch.float64))
    before = [part.clone() for part in start]
    words, latents = torch.randn(B, T, E, dtype=torch.float64), torch.randn(S, B, Z, dtype=torch.float64)
    states_under_latents(layer, words, latents, start)
    assert all(torch.equal(part, copy) for part, copy in zip(start, before, strict=True))


@pytest.mark.parametrize(("device", "learns"), [("cuda", True), ("cuda:1", True), ("cpu", False)])
def test_gradients_on_a_gpu_are_asked_for_where_there_will_be_some(device: str, learns: bool) -> None:
    inputs = SimpleNamespace(device=torch.device(device))
    assert kernels._learns_on_a_gpu(inputs) is learns
    with torch.no_grad():
        assert not kernels._learns_on_a_gpu(inputs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_gradients_on_a_gpu_are_not_in_autocasts_precision(
    monkeypatch: pytest.MonkeyPatch, training: bool, begun: bool
) -> None:
    """Without a GPU: that cuDNN is called in training mode, without autocast, and that this changes nothing else."""
    layer = layer_of(E, torch.float32).train(training)
    inputs = torch.randn(B, T, E, requires_grad=True)
    state = tuple(torch.randn(1, B, H).bfloat16() for _ in range(2)) if begun else None
    wide = tuple(part.float() for part in state) if state else None
    states, last = layer(inputs, wide)
    expected = [states, *last, *torch.autograd.grad(states.square().sum(), [inputs, *layer.parameters()])]
    modes, lstm = [], torch.lstm
    monkeypatch.setattr(kernels, "_learns_on_a_gpu", lambda inputs: True)
    monkeypatch.setattr(torch, "lstm", lambda *arguments: modes.append(arguments[6]) or lstm(*arguments))
    with torch.autocast("cpu", torch.bfloat16):
        states, last = run_layer(layer, inputs, state)
    found = [states, *last, *torch.autograd.grad(states.square().sum(), [inputs, *layer.parameters()])]
    torch.testing.assert_close(found, expected)
    assert modes == [True] and layer.training is training
