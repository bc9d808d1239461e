"""A refined posterior: what the steps come to, what they change, and how gradients come back through them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAE, SeqVAEConfig, kernels, refinement
from modeling_seqvae.gaussian import DiagonalGaussian
from modeling_seqvae.noise import sentence_generator
from modeling_seqvae.refinement import RefinedPosterior
from modeling_seqvae.tokenization import train_tokenizer

REFINED: dict[str, Any] = {"posterior": "refined", "embedding_dropout": 0, "output_dropout": 0}


def head(steps: int = 20, rate: float = 1 / 32, momentum: float = 0.5, clip: float = 28.0) -> RefinedPosterior:
    return RefinedPosterior(4, 2, steps, rate, momentum, clip).double().eval()


# The law of the steps


def test_no_step_is_the_gaussian_posterior(make_model: Callable[..., Any], batch) -> None:
    found, expected = make_model(posterior="refined", refinement_steps=0), make_model()
    expected.load_state_dict(found.state_dict())
    for model in (found, expected):
        model.train()
        torch.manual_seed(1)
        model(**batch, kl_weight=0.3).loss.backward()
    for (name, one), (_, other) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    ids = batch["input_ids"]
    found.eval(), expected.eval()
    assert torch.equal(found.encode(ids).mean, expected.encode(ids).mean)
    generators = [[sentence_generator(0, i) for i in range(4)] for _ in range(2)]
    assert torch.equal(
        found.iw_nll(ids, num_samples=5, generator=generators[0]),
        expected.iw_nll(ids, num_samples=5, generator=generators[1]),
    )


def test_steps_are_those_of_the_equation() -> None:
    """Two steps by hand, of a cost that is linear in z: its gradient in the mean is the slope, whatever the noise."""
    slope, start = torch.tensor([[3.0, -4.0]]).double(), DiagonalGaussian(*torch.zeros(2, 1, 2).double())
    found = head(2, rate=0.1, momentum=0.5, clip=2.5).refine(start, lambda z: (z * slope).sum(-1), (), kl_weight=0.0)
    first = -slope * 2.5 / 5  # clipped to a norm of 2.5
    torch.testing.assert_close(found.mean, 0.1 * first + 0.1 * (0.5 * first + first))


def test_on_a_linear_gaussian_model_the_posterior_comes_to_the_true_one() -> None:
    """x = W z + noise, with columns of W at right angles, so that the true posterior has a diagonal covariance."""
    matrix = torch.tensor([[1.0, 0.5], [2.0, -0.25], [0.0, 0.0]]).double()
    seen = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.3, 0.0]]).double()
    precision = 1 + matrix.square().sum(0) / 0.5
    mean = (seen @ matrix / 0.5) / precision

    def costs(latents: torch.Tensor) -> torch.Tensor:
        return ((seen - latents @ matrix.T).square() / (2 * 0.5)).sum(-1)

    start = DiagonalGaussian(torch.ones(2, 2).double(), torch.ones(2, 2).double())
    for steps, within in ((20, 1.0), (4000, 0.1)):
        found = head(steps, rate=0.01).refine(start, costs, ())
        assert (found.mean - mean).abs().max() < within
        assert (found.logvar + precision.log()).abs().max() < 2 * within


def test_the_bound_is_no_worse_after_the_steps(make_model, batch) -> None:
    """On average over draws and sentences; 20 steps as published of a model whose posterior is far from the best."""
    model = make_model(**REFINED)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    pooled = model.get_encoder().read(ids, mask)[1]

    def bound(posterior: DiagonalGaussian) -> float:
        latents = posterior.rsample(400, torch.Generator().manual_seed(0))
        return (model.nll_given(latents, ids, mask).mean(0) + posterior.kl()).mean().item()

    with torch.no_grad():
        before, after = bound(model.get_encoder().posterior(pooled)), bound(model.posterior(pooled, ids, mask))
    assert after < before - 0.1


# Gradients


@pytest.mark.parametrize(
    "changes",
    [
        {"refinement_clip": 28.0},
        {"refinement_clip": 0.5},
        {"tie_word_embeddings": True, "embedding_size": 8},
        {"decoder": "hybrid", "deconv_length": 4},
        {"decoder": "dilated_cnn", "num_hidden_layers": 2},
        {"decoder_skip": True, "num_hidden_layers": 2},
    ],
)
def test_gradients_come_back_through_the_steps(make_model, batch, changes, monkeypatch) -> None:
    """Of the loss in every weight, against numerical derivatives in float64: clipped or not, tied or not.

    But for the cut of what comes back, without which they are exact.
    """
    monkeypatch.setattr(refinement._Descent, "shortened", lambda descent, vector, longest: vector)
    model = make_model(**REFINED, refinement_steps=3, refinement_rate=0.2, **changes).double()

    model.train()

    def loss() -> torch.Tensor:
        torch.manual_seed(3)  # z and the steps' noise
        return model(**batch, kl_weight=0.7).loss

    loss().backward()
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        direction = torch.randn_like(weight)
        direction /= direction.norm()
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                weight += sign * 1e-5 * direction
                values.append(loss().item())
                weight -= sign * 1e-5 * direction
        expected = (values[0] - values[1]) / 2e-5
        assert (weight.grad * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def test_in_evaluation_a_posterior_does_not_depend_on_the_weight_of_the_kl(make_model, batch) -> None:
    model = make_model(**REFINED, refinement_steps=3, refinement_rate=0.2)
    expected = model.encode(batch["input_ids"], batch["attention_mask"]).kl()
    for weight in (0.0, 0.1, 1.0):
        torch.testing.assert_close(model(**batch, kl_weight=weight).kl, expected)


def test_what_comes_back_through_diverging_steps_is_no_longer_than_what_arrived(monkeypatch) -> None:
    """A curvature of 100 under a rate of 0.1: every step multiplies distances by -9. Each sentence is cut by itself."""
    mean, logvar = torch.randn(3, 2).double().requires_grad_(), torch.full((3, 2), -4.0).double().requires_grad_()
    arrives = torch.tensor([[1.0, 0.0], [0.0, 10.0], [0.0, 0.0]]).double()

    def lengths() -> torch.Tensor:
        found = head(6, rate=0.1, clip=1e9).refine(
            DiagonalGaussian(mean, logvar), lambda z: 50 * z.square().sum(-1), ()
        )
        return torch.stack(torch.autograd.grad(found.mean, [mean, logvar], arrives)).norm(dim=(0, -1))

    assert (lengths() <= arrives.norm(dim=-1) + 1e-9).all()
    monkeypatch.setattr(refinement._Descent, "shortened", lambda descent, vector, longest: vector)
    assert (lengths()[:2] > 10 * arrives.norm(dim=-1)[:2]).all()


def test_in_training_noise_and_dropout_come_back_the_same(make_model, batch) -> None:
    """The gradient of one loss, of a seed, in the encoder's weights, with dropout and word dropout on."""
    changes = {"posterior": "refined", "refinement_steps": 2, "refinement_rate": 0.2, "word_dropout": 0.3}
    model = make_model(**changes).double().train()

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return model(**batch).loss

    loss().backward()
    weight = model.get_encoder().posterior.linear.weight
    direction = torch.ones_like(weight) / weight.numel() ** 0.5
    with torch.no_grad():
        weight += 1e-5 * direction
        after = loss().item()
        weight -= 2e-5 * direction
        before = loss().item()
    assert (weight.grad * direction).sum().item() == pytest.approx((after - before) / 2e-5, rel=1e-4)


def test_in_float32_the_gradient_is_nearly_that_of_float64(make_model, batch) -> None:
    found, expected = make_model(**REFINED), make_model(**REFINED).double()
    for model in (found, expected):
        model(**batch).loss.backward()
    for (name, one), (_, other) in zip(found.named_parameters(), expected.named_parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 2e-3 * other.grad.norm() + 1e-5, name


def test_under_bfloat16_autocast_the_steps_are_in_float32(make_model, batch) -> None:
    model = make_model(**REFINED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch)
        found.loss.backward()
    expected = make_model(**REFINED)
    expected(**batch).loss.backward()
    assert found.latents.dtype == torch.float32
    for (name, one), (_, other) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 0.1 * other.grad.norm() + 1e-2, name


def test_gradients_in_weights_are_taken_on_the_way_back_alone(make_model, batch, monkeypatch) -> None:
    model, products = make_model(**REFINED, refinement_steps=3), []
    add = kernels._Blocks._add_product
    monkeypatch.setattr(kernels._Blocks, "_add_product", lambda *of: (products.append(0), add(*of))[1])
    model.encode(batch["input_ids"])
    loss = model(**batch).loss  # whose own logits are whole in evaluation
    assert not products
    assert all(weight.requires_grad for weight in model.parameters())
    loss.backward()
    assert len(products) == 2 * 3, "two differences a step"


def test_weights_learn_again_after_an_error_in_a_step(make_model, batch, monkeypatch) -> None:
    model = make_model(**REFINED)
    monkeypatch.setattr(model, "_reconstruction", lambda *of: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**batch)
    assert all(weight.requires_grad for weight in model.parameters())


# Where it is used


def test_encode_features_reconstruction_and_likelihood_are_of_the_refined_posterior(make_model, batch) -> None:
    model = make_model(**REFINED)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    amortised, refined = model.model.encode(ids, mask), model.encode(ids, mask)
    assert (amortised.mean - refined.mean).abs().max() > 0.1
    out = model(**batch)
    torch.testing.assert_close(out.latents, refined.mean)
    torch.testing.assert_close(out.kl, refined.kl())
    written = model.reconstruct(ids, mask, max_length=12)
    assert torch.equal(written, model.sample(latents=refined.mean, do_sample=False, max_length=12))
    assert torch.equal(written, model.generate(ids, attention_mask=mask, do_sample=False, max_length=12))
    latents = refined.rsample(3, torch.Generator().manual_seed(0))
    nll = model.iw_nll(ids, mask, latents=latents)
    weights = -model.nll_given(latents, ids, mask) - refined.log_prob(latents)
    weights = weights - 0.5 * (latents.square() + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(nll, math.log(3) - weights.logsumexp(0))


def test_generate_writes_from_draws_of_the_refined_posterior_where_asked(make_model, batch) -> None:
    model, ids = make_model(**REFINED), batch["input_ids"]
    written = []
    for _ in range(2):
        torch.manual_seed(5)
        with torch.no_grad():
            drawn = model(ids, sample_posterior=True).latents
        torch.manual_seed(5)
        found = model.generate(
            ids, sample_posterior=True, do_sample=False, max_length=4, return_dict_in_generate=True,
            output_hidden_states=True, output_logits=True,
        )  # fmt: skip
        at_draw = model(decoder_input_ids=ids[:, :1], latents=drawn).logits[:, 0]
        torch.testing.assert_close(found.logits[0], at_draw)
        assert found.encoder_hidden_states[-1].shape[:2] == ids.shape
        written.append(found.logits[0])
    assert torch.equal(*written)


def test_evaluation_neither_reads_nor_changes_the_random_state(make_model, batch) -> None:
    model, state = make_model(**REFINED), torch.get_rng_state()
    first = model.encode(batch["input_ids"]).mean
    torch.manual_seed(123)
    assert torch.equal(first, model.encode(batch["input_ids"]).mean)
    torch.set_rng_state(state)
    model.encode(batch["input_ids"])
    assert torch.equal(state, torch.get_rng_state())


def test_strings_are_encoded_and_scored_without_a_graph(make_model, batch) -> None:
    """`SeqVAE` works under inference_mode, in which there is no gradient by itself."""
    tokenizer = train_tokenizer(["a b c d", "b c e f g h"])
    vae = SeqVAE(make_model(**REFINED, vocab_size=len(tokenizer)), tokenizer)
    texts = ["a b", "c d e f g h a b", "b"]
    whole = vae.encode(texts)
    torch.testing.assert_close(torch.tensor(whole[:1]), torch.tensor(vae.encode(texts[:1])), rtol=1e-4, atol=1e-5)
    before = [SeqVAE(make_model(**REFINED, refinement_steps=0, vocab_size=len(tokenizer)), tokenizer), vae]
    before[0].model.load_state_dict(vae.model.state_dict())
    assert not np.allclose(*(one.elbo(texts) for one in before), atol=1e-2)
    assert vae.nll(texts, num_samples=3).shape == (3,) and len(vae.reconstruct(texts)) == 3
    with torch.no_grad():
        assert not vae.model.encode(batch["input_ids"]).mean.requires_grad


def test_what_cannot_be_refined_is_refused(make_model, batch) -> None:
    model = make_model(**REFINED)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    for ask in (model.encode, model.generate):
        with pytest.raises(ValueError, match="give input_ids"):
            ask(inputs_embeds=embeds)
    with pytest.raises(ValueError, match="pad on the right"):
        model.encode(batch["input_ids"].flip(1), batch["attention_mask"].flip(1))


@pytest.mark.parametrize(
    ("field", "value"),
    [("refinement_steps", -1), ("refinement_rate", 0.0), ("refinement_momentum", 1.0), ("refinement_clip", 0.0)],
)
def test_options_out_of_range_are_named(field, value) -> None:
    with pytest.raises(ValueError, match=field):
        SeqVAEConfig(posterior="refined", **{field: value})
