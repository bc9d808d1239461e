"""The importance-weighted bound: closed forms of a linear-Gaussian model, and the text model's use of it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import MultivariateNormal

from modeling_seqvae import modeling_seqvae
from modeling_seqvae.flows import FlowPosterior, PlanarFlow
from modeling_seqvae.gaussian import DiagonalGaussian, log_prior
from modeling_seqvae.implicit import SampledPosterior, SharedGaussian
from modeling_seqvae.likelihood import importance_weighted_nll

B, D, Z = 3, 5, 2
NOISE = 0.7


class LinearGaussian:
    """z ~ N(0, I), x ~ N(W z, s^2 I) with orthogonal columns in W, so that the true posterior is a DiagonalGaussian."""

    def __init__(self) -> None:
        self.weight = torch.linalg.qr(torch.randn(D, Z).double())[0] * torch.tensor([1.5, 0.8]).double()  # (D, Z)
        self.x = torch.randn(B, D).double()
        covariance = self.weight @ self.weight.T + NOISE**2 * torch.eye(D).double()
        self.nll = -MultivariateNormal(torch.zeros(D).double(), covariance).log_prob(self.x)  # (B,)

    def reconstruction(self, latents: torch.Tensor) -> torch.Tensor:
        """-log p(x|z): (S, B, Z) -> (S, B)."""
        squared_error = (self.x - latents @ self.weight.T).square().sum(-1)
        return 0.5 * squared_error / NOISE**2 + D * math.log(NOISE * math.sqrt(2 * math.pi))

    def posterior(self, shift: float = 0.0, log_scale: float = 0.0) -> DiagonalGaussian:
        """The exact posterior, moved and widened."""
        variance = 1 / (1 + self.weight.square().sum(0) / NOISE**2)
        mean = self.x @ self.weight * variance / NOISE**2
        return DiagonalGaussian(mean + shift, (variance.log() + log_scale).expand_as(mean))

    def repeated(self, times: int) -> "LinearGaussian":
        """The first sentence only, `times` times: independent estimates of one quantity."""
        self.x, self.nll = self.x[:1].expand(times, -1), self.nll[:1].expand(times)
        return self


@pytest.fixture
def toy() -> LinearGaussian:
    return LinearGaussian()


def estimate(toy: LinearGaussian, posterior: Any, num_samples: int, at_once: int = 1000, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return importance_weighted_nll(posterior, toy.reconstruction, num_samples, at_once, generator)


@pytest.mark.parametrize("num_samples", [1, 7])
def test_the_exact_posterior_gives_the_exact_likelihood_with_any_draw(toy: LinearGaussian, num_samples: int) -> None:
    torch.testing.assert_close(estimate(toy, toy.posterior(), num_samples), toy.nll)


def test_any_posterior_reaches_the_closed_form(toy: LinearGaussian) -> None:
    proposal = toy.posterior(shift=0.3, log_scale=0.5)
    torch.testing.assert_close(estimate(toy, proposal, 20_000), toy.nll, rtol=0, atol=0.03)


def test_the_bound_is_above_the_truth_and_falls_with_the_number_of_samples(toy: LinearGaussian) -> None:
    toy.repeated(4000)
    proposal = toy.posterior(shift=0.4, log_scale=0.5)
    bounds = [estimate(toy, proposal, num_samples).mean().item() for num_samples in (1, 4, 16, 64)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] - bounds[-1] > 0.1
    assert bounds[-1] > toy.nll[0].item() - 0.01


def test_one_sample_is_the_negative_elbo_in_expectation(toy: LinearGaussian) -> None:
    toy.repeated(20_000)
    proposal = toy.posterior(shift=0.4, log_scale=0.5)
    reconstruction = toy.reconstruction(proposal.rsample(1, torch.Generator().manual_seed(1))).mean()
    negative_elbo = reconstruction + proposal.kl()[0]
    torch.testing.assert_close(estimate(toy, proposal, 1).mean(), negative_elbo, rtol=0, atol=0.05)


@pytest.mark.parametrize("at_once", [1, 3, 10, 50])
def test_samples_at_once_do_not_change_the_result(toy: LinearGaussian, at_once: int) -> None:
    proposal = toy.posterior(shift=0.4)
    torch.testing.assert_close(estimate(toy, proposal, 10, at_once), estimate(toy, proposal, 10, 10))


def test_no_more_samples_than_allowed_are_held_at_once(toy: LinearGaussian) -> None:
    seen: list[int] = []
    proposal = toy.posterior()

    def reconstruction(latents: torch.Tensor) -> torch.Tensor:
        seen.append(len(latents))
        return toy.reconstruction(latents)

    importance_weighted_nll(proposal, reconstruction, num_samples=23, samples_at_once=5)
    assert seen == [5, 5, 5, 5, 3]
    seen.clear()
    importance_weighted_nll(proposal, reconstruction, 0, samples_at_once=5, latents=proposal.rsample(12))
    assert seen == [5, 5, 2]


def test_given_latents_are_the_draws(toy: LinearGaussian) -> None:
    proposal = toy.posterior(shift=0.4)
    latents = proposal.rsample(10, torch.Generator().manual_seed(0))
    given = importance_weighted_nll(proposal, toy.reconstruction, 0, 4, latents=latents)
    torch.testing.assert_close(given, estimate(toy, proposal, 10))


@pytest.mark.parametrize(("at_once", "likely"), [(6, 1), (2, 3)])
def test_weights_far_apart_neither_overflow_nor_vanish(toy: LinearGaussian, at_once: int, likely: int) -> None:
    def reconstruction(latents: torch.Tensor) -> torch.Tensor:
        return toy.reconstruction(latents) + 1e4 * torch.arange(len(latents))[:, None]

    bound = importance_weighted_nll(toy.posterior(), reconstruction, 6, at_once)
    torch.testing.assert_close(bound, toy.nll + math.log(6 / likely))


def test_no_samples_are_refused(toy: LinearGaussian) -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        estimate(toy, toy.posterior(), 0)


@pytest.mark.parametrize("shape", [(B, Z), (4, 1, Z), (4, B, Z + 1), (0, B, Z)])
def test_latents_of_another_shape_are_refused(toy: LinearGaussian, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"latents must be \(S, 3, 2\)"):
        importance_weighted_nll(toy.posterior(), toy.reconstruction, 5, 5, latents=torch.zeros(shape).double())


# Other posteriors of the linear-Gaussian model


def flow(toy: LinearGaussian) -> FlowPosterior:
    """Three flows of the widened posterior."""
    flows = [PlanarFlow(Z).double() for _ in range(3)]
    for parameter in (parameter for one in flows for parameter in one.parameters()):
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return FlowPosterior(toy.posterior(shift=0.2, log_scale=0.5), flows)


def linear_sampler(toy: LinearGaussian) -> SharedGaussian:
    """The posterior moved, widened and turned."""
    posterior = toy.posterior(shift=0.3)
    turn = torch.linalg.qr(torch.tensor([[1.0, 0.4], [-0.2, 1.0]]).double())[0]
    return SharedGaussian(posterior.mean, 1.3 * posterior.variance[0].sqrt().diag() @ turn)


def sampler_of_unknown_density(toy: LinearGaussian) -> SampledPosterior:
    linear = linear_sampler(toy)
    return SampledPosterior(lambda noise: linear.mean + noise @ linear.matrix.T, linear.mean)


def bent_sampler(toy: LinearGaussian) -> SampledPosterior:
    """Draws along a curve, skewed: nothing that a Gaussian fits well."""
    posterior = toy.posterior(shift=0.2)

    def sample(noise: torch.Tensor) -> torch.Tensor:
        first, second = noise.unbind(-1)
        bent = torch.stack([first + 0.4 * second.square(), second.exp()], -1)
        return posterior.mean + posterior.variance.sqrt() * bent

    return SampledPosterior(sample, posterior.mean)


OTHERS: list[Callable[[LinearGaussian], Any]] = [flow, linear_sampler, sampler_of_unknown_density, bent_sampler]


@pytest.mark.parametrize("make", OTHERS)
def test_every_posterior_reaches_the_closed_form(toy: LinearGaussian, make) -> None:
    """Within Monte-Carlo error, judged by twenty estimates of each sentence."""
    posterior = make(toy)
    estimates = torch.stack([estimate(toy, posterior, 4000, seed=seed) for seed in range(20)])
    error = estimates.std(0) / 20**0.5
    assert (error < 0.02).all()
    assert ((estimates.mean(0) - toy.nll).abs() < 4 * error + 1e-3).all()


@pytest.mark.parametrize("make", OTHERS)
def test_every_posterior_s_bound_falls_to_the_truth(toy: LinearGaussian, make) -> None:
    posterior = make(toy.repeated(4000))
    bounds = [estimate(toy, posterior, count).mean().item() for count in (1, 4, 16, 64)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] > toy.nll[0].item() - 0.01


@pytest.mark.parametrize("make", OTHERS)
def test_one_draw_s_reconstruction_and_kl_are_that_bound_in_expectation(toy: LinearGaussian, make) -> None:
    """The -ELBO that the evaluator reports, of the posterior or of the proposal that stands for it."""
    posterior = make(toy.repeated(20_000))
    draw = posterior.proposal.draw(torch.Generator().manual_seed(1))
    bound = toy.reconstruction(draw.latents[None])[0] + draw.kl
    expected = estimate(toy, posterior, 1)
    error = (bound.var() / len(bound) + expected.var() / len(expected)).sqrt()
    assert (bound.mean() - expected.mean()).abs() < 4 * error
    assert bound.mean() > toy.nll[0] - 4 * error


def test_the_fitted_proposal_agrees_with_the_exact_density(toy: LinearGaussian) -> None:
    exact, fitted = (estimate(toy, make(toy), 20_000) for make in (linear_sampler, sampler_of_unknown_density))
    torch.testing.assert_close(fitted, exact, rtol=0, atol=0.02)


def test_given_latents_are_weighted_by_the_proposal(toy: LinearGaussian) -> None:
    for make in OTHERS:
        posterior = make(toy)
        latents = posterior.proposal.rsample_with_log_prob(10, torch.Generator().manual_seed(0))[0]
        given = importance_weighted_nll(posterior, toy.reconstruction, 0, 4, latents=latents)
        torch.testing.assert_close(given, estimate(toy, posterior, 10))


# The text model: p(x|z) is its decoder, q(z|x) its encoder.


POSTERIORS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "flow": {"posterior": "planar_flow"},
    "linear sampler": {"posterior": "implicit"},
    "deep sampler": {"posterior": "implicit", "sampler_layers": 2},
    "vmf": {"posterior": "vmf", "concentration": 10.0},
    "refined": {"posterior": "refined"},
}


@pytest.fixture(params=POSTERIORS.values(), ids=POSTERIORS)
def changes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def by_hand(model, ids: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The bound of one sentence (1, T) without padding, from latents (S, 1, Z), one draw at a time."""
    posterior, weights = model.encode(ids).proposal, []
    for z in latents:
        reconstruction = model(ids, labels=ids, latents=z).reconstruction_loss
        log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
        if model.config.posterior == "vmf":  # uniform on the sphere of three dimensions, whose area is 4π
            log_prior = torch.full_like(log_prior, -math.log(4 * math.pi))
        weights.append(log_prior - posterior.log_prob(z) - reconstruction)
    return math.log(len(latents)) - torch.stack(weights).logsumexp(0)


def test_the_text_model_equals_a_loop_over_sentences_and_draws(make_model, batch, changes) -> None:
    model = make_model(**changes)
    latents = model.encode(batch["input_ids"]).proposal.rsample_with_log_prob(6)[0]
    bound = model.iw_nll(batch["input_ids"], batch["attention_mask"], latents=latents)
    for index, length in enumerate(batch["attention_mask"].sum(1)):
        expected = by_hand(model, batch["input_ids"][index : index + 1, :length], latents[:, index : index + 1])
        torch.testing.assert_close(bound[index : index + 1], expected)


def test_a_language_model_has_its_exact_likelihood(make_model, batch) -> None:
    model = make_model(latent_size=0)
    exact = model(**batch).reconstruction_loss
    torch.testing.assert_close(model.iw_nll(batch["input_ids"], batch["attention_mask"], num_samples=3), exact)


def test_the_probabilities_of_all_sentences_sum_to_one(make_model) -> None:
    """Those of no, one and two words, and all beginnings of longer ones, in a language of four words."""
    model = make_model(latent_size=0, vocab_size=5)
    words = [0, 1, 3, 4]
    texts = [[]] + [[a] for a in words] + [[a, b] for a in words for b in words]
    whole = [[1, *text, 2] for text in texts]
    longer = [[1, a, b, c] for a in words for b in words for c in words]
    mass = sum((-model.iw_nll(torch.tensor([ids]), torch.ones(1, len(ids)))).exp().item() for ids in [*whole, *longer])
    assert mass == pytest.approx(1, abs=1e-5)


def test_tokens_at_once_do_not_change_the_text_models_result(make_model, batch, monkeypatch) -> None:
    model, results = make_model(), []
    for tokens in (1, 50, 1 << 14):
        monkeypatch.setattr(modeling_seqvae, "SENTENCE_TOKENS_AT_ONCE", tokens)
        generator = torch.Generator().manual_seed(0)
        results.append(model.iw_nll(batch["input_ids"], num_samples=9, generator=generator))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_memory_does_not_grow_with_the_number_of_samples(make_model, batch, monkeypatch, tensor_spy) -> None:
    monkeypatch.setattr(modeling_seqvae, "SENTENCE_TOKENS_AT_ONCE", 4 * batch["input_ids"].numel())
    model, largest = make_model(), {}
    for num_samples in (4, 40):
        with tensor_spy() as spy:
            model.iw_nll(batch["input_ids"], num_samples=num_samples)
        largest[num_samples] = max(spy.sizes)
    assert largest[40] == largest[4]


def test_a_sentence_with_its_own_generator_has_the_same_bound_in_any_batch(make_model, batch, changes) -> None:
    def seeded(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    model, ids = make_model(**changes), batch["input_ids"]
    together = model.iw_nll(ids, num_samples=7, generator=seeded(0, 1, 2, 3))
    shuffled = model.iw_nll(ids[[2, 0]], num_samples=7, generator=seeded(2, 0))
    alone = model.iw_nll(ids[2:3, :3], num_samples=7, generator=seeded(2))
    torch.testing.assert_close(shuffled, together[[2, 0]])
    torch.testing.assert_close(alone, together[2:3])


def test_padding_does_not_change_the_bound(make_model, batch) -> None:
    model, ids = make_model(), batch["input_ids"]
    longer = torch.nn.functional.pad(ids, (0, 3))
    bounds = [model.iw_nll(x, num_samples=5, generator=torch.Generator().manual_seed(0)) for x in (ids, longer)]
    torch.testing.assert_close(bounds[1], bounds[0])


def test_the_encoder_may_read_another_text_than_the_one_scored(make_model, batch) -> None:
    model, ids = make_model(), batch["input_ids"][:1]
    shuffled = ids[:, [0, 3, 1, 4, 2, 5]]
    latents = model.encode(shuffled).rsample(5)
    bound = model.iw_nll(ids, latents=latents, encoder_input_ids=shuffled)
    reconstruction = torch.stack([model(ids, labels=ids, latents=z).reconstruction_loss for z in latents])
    log_ratio = log_prior(latents) - model.encode(shuffled).log_prob(latents)
    torch.testing.assert_close(bound, math.log(5) - (log_ratio - reconstruction).logsumexp(0))


def test_another_text_is_read_under_its_own_mask(make_model, batch) -> None:
    """Whether it is longer or shorter than the one scored; without a mask its padding is none of its words."""
    model, short, longer = make_model(), torch.tensor([[1, 9, 2]]), batch["input_ids"][:1]
    for scored, read in ((short, longer), (longer, short)):
        latents = model.encode(read).rsample(5)
        expected = model.iw_nll(scored, latents=latents, encoder_input_ids=read)
        padded, mask = torch.nn.functional.pad(read, (0, 4)), torch.nn.functional.pad(torch.ones_like(read), (0, 4))
        for given in (None, mask):
            found = model.iw_nll(
                scored, torch.ones_like(scored), latents=latents, encoder_input_ids=padded, encoder_attention_mask=given
            )
            torch.testing.assert_close(found, expected)
        ratio = log_prior(latents) - model.encode(read).log_prob(latents)
        ids, counted = scored.expand(5, -1), torch.ones_like(scored)
        cost = torch.stack([model.nll_given(z[None], ids[:1], counted)[0] for z in latents])
        torch.testing.assert_close(expected, math.log(5) - (ratio - cost).logsumexp(0))


@pytest.mark.parametrize("changes", [{}, {"decoder_skip": True}, {"num_hidden_layers": 2}, {"decoder": "dilated_cnn"}])
def test_what_a_latent_costs_has_its_gradient(make_model, batch, changes) -> None:
    model = make_model(**changes).double()
    latents = torch.randn(2, 4, model.config.latent_size, dtype=torch.float64, requires_grad=True)

    def cost(z: torch.Tensor) -> torch.Tensor:
        return model.nll_given(z, batch["input_ids"], batch["attention_mask"])

    assert torch.autograd.gradcheck(cost, latents)
    cost(latents).sum().backward()
    assert all(weight.grad is not None for weight in model.get_decoder().parameters())


def test_left_padding_is_refused(make_model) -> None:
    with pytest.raises(ValueError, match="pad on the right"):
        make_model().iw_nll(torch.tensor([[1, 5, 2], [0, 1, 2]]))


def test_no_sentences_have_no_bounds(make_model, batch, changes) -> None:
    assert make_model(**changes).iw_nll(batch["input_ids"][:0], num_samples=5).shape == (0,)
