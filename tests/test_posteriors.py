"""What holds for every posterior: its draws, density and KL belong together, and depend on the sentence alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAEConfig
from modeling_seqvae.evaluation.metrics import mutual_information_corpus
from modeling_seqvae.posteriors import POSTERIORS, PopulationHead, Posterior, Proposal, head_of, prior_of

B, H, Z = 5, 4, 2
KINDS: dict[str, dict[str, Any]] = {
    "gaussian": {"posterior": "gaussian"},
    "normalised": {"posterior": "normalised", "mean_scale": 0.6},
    "flow": {"posterior": "planar_flow"},
    "linear sampler": {"posterior": "implicit"},
    "deep sampler": {"posterior": "implicit", "sampler_layers": 3},
    "vmf": {"posterior": "vmf", "concentration": 4.0},
    "refined": {"posterior": "refined", "refinement_steps": 4},
}
WITH_DENSITY = ["gaussian", "normalised", "flow", "linear sampler", "vmf", "refined"]
IN_THE_PLANE = [name for name in KINDS if name != "vmf"]
"""With a density on all of it; that on the circle has tests of its own."""


def make_head(kind: str, latent_size: int = Z) -> torch.nn.Module:
    """A head whose posteriors are well away from the prior, from each other, and from what is degenerate."""
    head = POSTERIORS[KINDS[kind]["posterior"]](H, SeqVAEConfig(**{"latent_size": latent_size, **KINDS[kind]}))
    for parameter in head.parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return head.double().eval()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def make_posterior(kind: str) -> Any:
    with torch.no_grad():
        return make_head(kind)(torch.randn(B, H).double())


@pytest.fixture
def posterior(kind: str) -> Any:
    return make_posterior(kind)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_a_posterior_offers_what_the_model_and_the_figures_ask_for(posterior) -> None:
    assert [name for name in members(Posterior) if not hasattr(posterior, name)] == []
    assert [name for name in members(Proposal) if not hasattr(posterior.proposal, name)] == []
    for tensor in (posterior.mean, posterior.variance, posterior.centre, posterior.at_centre().latents):
        assert tensor.shape == (B, Z)
    assert posterior.rsample(3).shape == (3, B, Z)
    assert posterior.kl().shape == posterior.draw().kl.shape == posterior.at_centre().kl.shape == (B,)
    assert (posterior.variance > 0).all()


# Draws


@pytest.mark.parametrize("seeds", [range(B), None], ids=["one generator a sentence", "one generator"])
def test_draws_in_parts_are_the_draws_at_once(posterior, seeds) -> None:
    def start() -> Any:
        return generators(*seeds) if seeds else generators(7)[0]

    for draw in (posterior.rsample, lambda *given: posterior.proposal.rsample_with_log_prob(*given)[0]):
        generator = start()
        parts = torch.cat([draw(count, generator) for count in (1, 4, 2)])
        torch.testing.assert_close(parts, draw(7, start()))


def test_a_sentence_s_draws_do_not_depend_on_its_batch(kind) -> None:
    head, pooled = make_head(kind), torch.randn(B, H).double()
    whole, part = head(pooled), head(pooled[[3, 1]])
    for ask in (
        lambda q, *seeds: q.rsample(6, generators(*seeds)).transpose(0, 1),
        lambda q, *seeds: q.proposal.rsample_with_log_prob(6, generators(*seeds))[1].T,
        lambda q, *seeds: q.kl(generators(*seeds)),
        lambda q, *seeds: q.draw(generators(*seeds)).latents,
        lambda q, *seeds: q.proposal.draw(generators(*seeds)).kl,
    ):
        torch.testing.assert_close(ask(part, 13, 11), ask(whole, 10, 11, 12, 13, 14)[[3, 1]])


def test_one_draw_is_the_first_of_many(posterior) -> None:
    first = posterior.draw(generators(*range(B))).latents
    torch.testing.assert_close(first, posterior.rsample(4, generators(*range(B)))[0])
    proposed = posterior.proposal.draw(generators(*range(B))).latents
    torch.testing.assert_close(proposed, posterior.proposal.rsample_with_log_prob(4, generators(*range(B)))[0][0])


def test_the_centre_is_the_same_at_every_call_and_in_any_batch(kind) -> None:
    head, pooled = make_head(kind), torch.randn(B, H).double()
    first, again, part = head(pooled).at_centre(), head(pooled).at_centre(), head(pooled[[3, 1]]).at_centre()
    state = torch.get_rng_state()
    torch.testing.assert_close(first.latents, head(pooled).centre)
    assert torch.equal(first.latents, again.latents) and torch.equal(first.kl, again.kl)
    torch.testing.assert_close(part.latents, first.latents[[3, 1]])
    torch.testing.assert_close(part.kl, first.kl[[3, 1]])
    assert torch.equal(state, torch.get_rng_state())


def test_draws_reach_every_weight(kind) -> None:
    head = make_head(kind)
    draw = head(torch.randn(B, H).double()).draw()
    (draw.latents.square() @ torch.arange(1.0, Z + 1).double() + draw.kl).sum().backward()
    assert [name for name, weight in head.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_no_sentences_have_no_draws(kind) -> None:
    posterior = make_head(kind)(torch.randn(0, H).double())
    assert posterior.rsample(3).shape == (3, 0, Z)
    assert posterior.at_centre().kl.shape == posterior.proposal.draw().kl.shape == (0,)


# Densities


@pytest.mark.parametrize("kind", WITH_DENSITY)
def test_draws_come_with_their_own_density(posterior) -> None:
    latents, log_q = posterior.rsample_with_log_prob(50, generators(3)[0])
    torch.testing.assert_close(latents, posterior.rsample(50, generators(3)[0]))
    torch.testing.assert_close(log_q, posterior.log_prob(latents))
    torch.testing.assert_close(log_q[0], posterior.log_prob(latents[0]))
    assert posterior.proposal is posterior


@pytest.mark.parametrize("kind", IN_THE_PLANE)
def test_densities_integrate_to_one(posterior) -> None:
    """The sum over a grid of the plane, the whole of which holds all the mass."""
    step = 0.1
    line = torch.arange(-12, 12, step).double()
    grid = torch.cartesian_prod(line, line)[:, None].expand(-1, B, -1)  # (points, B, Z)
    with torch.no_grad():
        mass = posterior.proposal.log_prob(grid).exp().sum(0) * step**2
    torch.testing.assert_close(mass, torch.ones(B).double(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", IN_THE_PLANE)
def test_the_density_is_that_of_the_draws(posterior) -> None:
    """The expectation of a function under draws is its integral under the density."""
    draws = posterior.proposal.rsample_with_log_prob(20_000, generators(0)[0])[0]
    step = 0.1
    line = torch.arange(-12, 12, step).double()
    grid = torch.cartesian_prod(line, line)[:, None].expand(-1, B, -1)
    density = posterior.proposal.log_prob(grid).exp() * step**2  # (points, B)
    for function in (lambda z: z[..., 0].sin(), lambda z: (z[..., 0] * z[..., 1]).tanh(), lambda z: z[..., 1].cos()):
        found, expected = function(draws), (function(grid) * density).sum(0)
        error = found.std(0) / len(draws) ** 0.5
        assert ((found.mean(0) - expected).abs() < 5 * error + 2e-3).all()


@pytest.mark.parametrize("kind", WITH_DENSITY)
def test_the_kl_is_the_mean_log_ratio_to_the_prior(posterior) -> None:
    latents, log_q = posterior.rsample_with_log_prob(20_000, generators(0)[0])
    ratio = log_q - prior_of(posterior).log_prob(latents)
    expected, error = ratio.mean(0), ratio.std(0)
    assert ((posterior.at_centre().kl - expected).abs() < 5 * error / 64**0.5).all()
    assert ((posterior.kl(generators(1)[0]) - expected).abs() < 5 * error / 64**0.5).all()
    one_draw = torch.stack([posterior.draw(generators(seed)[0]).kl for seed in range(500)])
    assert ((one_draw.mean(0) - expected).abs() < 5 * error / 500**0.5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_has_the_type_of_the_head(kind, dtype) -> None:
    posterior = make_head(kind).to(dtype)(torch.randn(B, H, dtype=dtype))
    found = [posterior.mean, posterior.variance, posterior.centre, posterior.kl(), posterior.rsample()]
    for draw in (posterior.draw(), posterior.at_centre(), posterior.proposal.draw()):
        found += [draw.latents, draw.kl]
    found += posterior.proposal.rsample_with_log_prob()
    assert {tensor.dtype for tensor in found} == {dtype}


def test_densities_are_computed_in_float32_under_autocast(kind) -> None:
    head, pooled = make_head(kind).float(), torch.randn(B, H)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = head(pooled)
        latents, log_q = posterior.proposal.rsample_with_log_prob(4)
        found = [posterior.mean, posterior.kl(), posterior.draw().kl, latents, log_q]
    assert {tensor.dtype for tensor in found} == {torch.float32}
    torch.testing.assert_close(log_q, posterior.proposal.log_prob(latents), rtol=1e-3, atol=1e-3)


# The coordinates of mutual information


@pytest.mark.parametrize("kind", WITH_DENSITY)
def test_mutual_information_in_base_coordinates_is_that_of_z(kind) -> None:
    """Brute force with the density of every z under every sentence's posterior."""
    count = 30
    with torch.no_grad():
        posterior = make_head(kind)(torch.randn(count, H).double())
        draw = posterior.draw(generators(0)[0])
        densities = posterior.log_prob(draw.latents[:, None].expand(-1, count, -1))  # z of i under posterior j
        aggregate = densities.logsumexp(1) - np.log(count)
        expected = (densities.diagonal() - aggregate).mean().item()
        found = mutual_information_corpus(posterior.base.mean, posterior.base.logvar, draw.base)
    assert expected > 0.1
    assert found == pytest.approx(expected, abs=1e-8)


def test_where_only_draws_are_known_there_are_no_such_coordinates() -> None:
    posterior = make_posterior("deep sampler")
    assert posterior.base is None
    assert posterior.draw().base is None and posterior.proposal.draw().base is None
    assert not hasattr(posterior, "log_prob")


# What callers ask of a kind


def test_a_head_says_itself_whether_it_keeps_statistics_of_all_sentences() -> None:
    keeping = [kind for kind in KINDS if isinstance(make_head(kind), PopulationHead)]
    assert keeping == ["normalised"]


def test_asking_a_configuration_leaves_the_random_state_alone(kind) -> None:
    fields, state = {"latent_size": Z, **KINDS[kind]}, torch.get_rng_state()
    config = SeqVAEConfig(**fields)
    head = head_of(config)
    assert hasattr(head(torch.zeros(1, config.hidden_size)), "log_prob") == (kind != "deep sampler")
    assert torch.equal(torch.get_rng_state(), state)


# In the model


MODELS: dict[str, dict[str, Any]] = {name: fields for name, fields in KINDS.items() if name != "gaussian"}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_evaluation_takes_the_centre_and_training_draws(make_model: Callable[..., Any], batch, changes) -> None:
    model = make_model(embedding_dropout=0, output_dropout=0, **changes)
    posterior = model.encode(batch["input_ids"])
    out = model(**batch)
    torch.testing.assert_close(out.latents, posterior.centre)
    torch.testing.assert_close(out.kl, posterior.at_centre().kl)
    assert torch.equal(model(**batch).loss, out.loss)
    model.train()
    torch.manual_seed(3)
    expected = model.encode(batch["input_ids"]).draw()  # normalised means are by the batch in training
    torch.manual_seed(3)
    drawn = model(**batch)
    torch.testing.assert_close(drawn.latents, expected.latents)
    torch.testing.assert_close(drawn.kl, expected.kl)


def test_what_each_flow_was_given_is_part_of_the_output(make_model, batch) -> None:
    model = make_model(posterior="planar_flow", num_flows=2).train()
    out = model(**batch)
    first, second = model.get_encoder().posterior.flows
    assert out.flow_inputs.shape == (4, 2, 3)
    torch.testing.assert_close(first(out.flow_inputs[:, 0])[0], out.flow_inputs[:, 1])
    torch.testing.assert_close(second(out.flow_inputs[:, 1])[0], out.latents)
    assert make_model()(**batch).flow_inputs is None


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_sentences_are_written_from_the_centre(make_model, batch, changes) -> None:
    model = make_model(**changes)
    posterior = model.encode(batch["input_ids"], batch["attention_mask"])
    expected = model.sample(latents=posterior.centre, do_sample=False, max_length=12)
    for options in ({}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        found = model.reconstruct(**{k: batch[k] for k in ("input_ids", "attention_mask")}, max_length=12, **options)
        assert len(found) == len(expected) * options.get("num_return_sequences", 1)
        assert options or torch.equal(found, expected)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_loaded_model_has_the_same_posterior(make_model, batch, changes, tmp_path) -> None:
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert {name: getattr(loaded.config, name) for name in changes} == changes
    for ask in (
        lambda m: m.encode(batch["input_ids"]).mean,
        lambda m: m.encode(batch["input_ids"]).kl(generators(0)[0]),
        lambda m: m.iw_nll(batch["input_ids"], num_samples=5, generator=generators(*range(4))),
    ):
        assert torch.equal(ask(loaded), ask(model))


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_sentence_does_not_depend_on_its_batch_or_padding(make_model, batch, changes) -> None:
    model = make_model(**changes)
    whole, alone = model(**batch), model(batch["input_ids"][1:2, :5], labels=batch["input_ids"][1:2, :5])
    for name in ("latents", "kl", "reconstruction_loss"):
        torch.testing.assert_close(alone[name], whole[name][1:2])
