"""Inside `plain()` the model is plain torch, slower, and every value is the same; on a GPU nothing is waited for."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from modeling_seqvae import decoders, kernels, modeling_seqvae

KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "two layers, skip": {"num_hidden_layers": 2, "decoder_skip": True},
    "language model": {"latent_size": 0},
    "normalised": {"posterior": "normalised"},
    "linear sampler": {"posterior": "implicit"},
    "unigram": {"decoder": "unigram"},
}
OURS = ("_LinearNLL", "_Blocks", "_Recurrence", "_step", "_dropout_mask")


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def model(request: pytest.FixtureRequest, make_model, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Without dropout, whose masks are others, or a maximum, whose place may be another after rounding to bfloat16."""
    monkeypatch.setattr(kernels, "LARGE", 1)  # no layer is too small for our recurrence
    return make_model(embedding_dropout=0, output_dropout=0, pooling_mode="avg", **request.param)


@contextmanager
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`plain()`, where whatever is ours raises."""

    def refuse(*given: Any) -> None:
        raise AssertionError("a kernel ran")

    with monkeypatch.context() as patch, kernels.plain():
        for name in OURS:
            patch.setattr(kernels, name, refuse)
        patch.setattr(torch, "set_float32_matmul_precision", refuse)
        yield


def training_step(model, batch) -> tuple[torch.Tensor, ...]:
    """Loss, NLL and gradients of every weight that has one, at one draw of z."""
    model.train().zero_grad()
    torch.manual_seed(3)
    with kernels.fast_matmul(torch.device("cpu")):
        out = model(**batch, kl_weight=0.7)
        out.loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.eval()
    return out.loss.detach(), out.reconstruction_loss.detach(), gradients


def test_a_training_step_has_the_same_values_and_gradients(model, batch, monkeypatch) -> None:
    ours = training_step(model, batch)
    with without_kernels(monkeypatch):
        plain = training_step(model, batch)
    torch.testing.assert_close(ours, plain)


def test_in_bfloat16_they_are_the_same_to_its_precision(model, batch, monkeypatch) -> None:
    found = []
    for context in (nullcontext(), without_kernels(monkeypatch)):
        with context, torch.autocast("cpu", torch.bfloat16):
            found.append(training_step(model, batch))
    (loss, nll, gradients), (plain_loss, plain_nll, plain_gradients) = found
    torch.testing.assert_close((loss, nll), (plain_loss, plain_nll), rtol=0.02, atol=0.02)
    assert gradients.keys() == plain_gradients.keys()
    whole, plain_whole = (nn.utils.parameters_to_vector(g.values()) for g in (gradients, plain_gradients))
    assert (whole - plain_whole).norm() < 0.05 * plain_whole.norm()


def test_evaluation_has_the_same_values(model, batch, monkeypatch) -> None:
    ids, mask = batch["input_ids"], batch["attention_mask"]

    def figures() -> list[torch.Tensor]:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(len(ids))]
        out = model(**batch)
        return [out.loss, out.logits, out.kl, model.iw_nll(ids, mask, num_samples=7, generator=seeds)]

    ours, written = figures(), model.sample(5, generator=torch.Generator().manual_seed(1), max_length=9)
    with without_kernels(monkeypatch):
        torch.testing.assert_close(figures(), ours)
        assert torch.equal(model.sample(5, generator=torch.Generator().manual_seed(1), max_length=9), written)


def test_dropout_has_torch_s_own_masks() -> None:
    values = torch.ones(40, 50)
    with kernels.plain():
        torch.manual_seed(5)
        left = kernels.Dropout(0.3)(values)
    torch.manual_seed(5)
    assert torch.equal(left, nn.functional.dropout(values, 0.3))


def test_the_switch_returns_to_what_it_was() -> None:
    with pytest.raises(KeyError), kernels.plain():
        with kernels.plain():
            pass
        assert kernels._is_plain()
        raise KeyError
    assert not kernels._is_plain()


# A GPU


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_selects_rows", lambda states: False)


def test_rows_that_do_not_count_change_nothing_where_they_are_not_left_out(model, batch, monkeypatch) -> None:
    selected = training_step(model, batch), model.iw_nll(batch["input_ids"], latents=None, num_samples=1).shape
    monkeypatch.setattr(kernels, "_selects_rows", lambda states: False)
    whole = training_step(model, batch), model.iw_nll(batch["input_ids"], num_samples=1).shape
    torch.testing.assert_close(whole[0], selected[0])
    assert whole[1] == selected[1]


@pytest.mark.parametrize("with_gradients", [True, False])
def test_values_that_do_not_count_are_0_and_have_no_gradient(as_on_a_gpu, with_gradients) -> None:
    """Whatever factors the values have in the loss: one of all, or one each."""
    states, weight = torch.randn(3, 5, 4).double(), torch.randn(11, 4).double().requires_grad_(with_gradients)
    targets, counted = torch.randint(11, (3, 5)), torch.rand(3, 5) < 0.6
    targets = targets.masked_fill(~counted, -100)
    states.requires_grad_(with_gradients)
    found = kernels.linear_nll(states, weight, targets, counted)
    expected = kernels.token_nll(states @ weight.T, targets, counted)
    torch.testing.assert_close(found, expected)
    assert (found[~counted] == 0).all() and found[counted].all()
    if with_gradients:
        for factors in (torch.ones(3, 5), torch.rand(3, 5), torch.rand(3, 1).expand(3, 5)):
            totals = [(nll * factors).sum() for nll in (found, expected)]
            ours, plain = (torch.autograd.grad(total, [states, weight], retain_graph=True) for total in totals)
            torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("changes", [{}, {"decoder": "unigram"}, {"latent_size": 0}])
def test_a_training_step_waits_for_no_value(make_model, batch, monkeypatch, changes) -> None:
    """On a device without values, which raises where one is asked for; only the mask is looked at, once and first."""
    asked = []
    monkeypatch.setattr(modeling_seqvae, "_refuse_left_padding", asked.append)
    model = make_model(**changes).to("meta").train()
    batch = {name: tensor.to("meta") for name, tensor in batch.items()}
    loss = model(**batch).loss
    loss.backward()
    assert loss.is_meta and len(asked) == 1
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_word_that_is_written_waits_for_no_value_in_the_model(make_model) -> None:
    model = make_model().to("meta")
    words, latents = torch.ones(3, 1, dtype=torch.long, device="meta"), torch.empty(3, 3, device="meta")
    with torch.no_grad():
        first = model(latents=latents, decoder_input_ids=words, use_cache=True)
        mask = torch.ones_like(words)
        again = model(latents=latents, decoder_input_ids=words, decoder_attention_mask=mask, cache=first.cache)
    assert again.logits.is_meta and again.cache.get_seq_length() == 2


def test_the_gradient_of_a_batch_mean_shows_that_it_is_even() -> None:
    values, seen = torch.randn(4, requires_grad=True) * 1, []
    values.register_hook(lambda gradient: seen.append(gradient.stride()))
    mean = kernels.batch_mean(values)
    mean.backward()
    torch.testing.assert_close(mean, values.mean())
    assert seen == [(0,)]


def test_a_vocabulary_layer_with_a_bias_keeps_it(make_model, batch) -> None:
    """Our loss is of a layer without one; any other layer is called."""
    model = make_model()
    biased = nn.Linear(8, 20)
    states, targets = torch.randn(4, 6, 8), batch["input_ids"][:, 1:]
    counted = batch["attention_mask"][:, 1:].bool()
    found = decoders.Decoder.nll(model.model.decoder, biased, states, targets, counted)
    expected = kernels.token_nll(biased(states)[:, :-1], targets, counted)
    torch.testing.assert_close(found, expected)
