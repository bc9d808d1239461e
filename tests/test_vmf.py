"""The posterior on the sphere: density, draws and KL against scipy, closed forms, integrals and many draws."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import vonmises_fisher
from torch.nn.functional import normalize

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.text import SeqVAE
from modeling_seqvae.tokenization import train_tokenizer
from modeling_seqvae.vmf import (
    PROPOSALS,
    EquallySpread,
    UniformSphere,
    VonMisesFisher,
    VonMisesFisherPosterior,
    log_bessel,
)

SIZES = [(2, 3.0), (3, 0.5), (3, 10.0), (8, 20.0), (32, 80.0)]
"""Dimensions and concentrations."""


def make(size: int, concentration: float, sentences: int = 1) -> VonMisesFisher:
    return VonMisesFisher(normalize(torch.randn(sentences, size).double(), dim=-1), concentration)


def generator(seed: int = 1) -> torch.Generator:  # not that of the directions, whose numbers would be the noise
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("order", [0, 0.5, 1, 7.5, 15, 31])
@pytest.mark.parametrize("x", [1e-3, 0.5, 4, 60, 900, 100_000])
def test_bessel_functions_are_scipy_s(order, x) -> None:
    scaled = ive(order, x)  # which underflows where the order is large and x small
    if scaled > 0:
        assert log_bessel(order, x) == pytest.approx(math.log(scaled) + x, rel=1e-11, abs=1e-9)


@pytest.mark.parametrize(("size", "concentration"), SIZES)
def test_the_density_is_scipy_s(size, concentration) -> None:
    posterior = make(size, concentration)
    other = vonmises_fisher(posterior.direction[0].numpy(), concentration)
    points = UniformSphere().rsample(50, posterior.direction, generator())
    np.testing.assert_allclose(posterior.log_prob(points)[:, 0], other.logpdf(points[:, 0].numpy()), atol=1e-8)


def test_on_circle_and_sphere_the_density_integrates_to_one() -> None:
    angle = torch.arange(4000).double() * 2 * math.pi / 4000
    circle = torch.stack([angle.cos(), angle.sin()], -1)[:, None]  # (points, 1, 2)
    mass = make(2, 30.0).log_prob(circle).exp().sum() * 2 * math.pi / 4000
    assert mass.item() == pytest.approx(1, abs=1e-9)
    height = (torch.arange(400).double() + 0.5) / 200 - 1  # of rings, which have equal areas
    across = (1 - height.square()).sqrt()[:, None, None] * circle[::10, 0]
    sphere = torch.cat([across, height[:, None, None].expand(-1, 400, 1)], -1).reshape(-1, 1, 3)
    area = 4 * math.pi / len(sphere)
    assert (make(3, 5.0).log_prob(sphere).exp().sum() * area).item() == pytest.approx(1, abs=1e-3)
    assert (UniformSphere().log_prob(sphere).exp().sum() * area).item() == pytest.approx(1, abs=1e-9)


def test_in_three_dimensions_kl_and_constant_have_their_elementary_form() -> None:
    for kappa in (0.1, 2.0, 50.0):
        posterior = make(3, kappa)
        coth = 1 / math.tanh(kappa)
        expected = kappa * coth - 1 + math.log(kappa) - kappa - math.log1p(-math.exp(-2 * kappa)) + math.log(2)
        assert posterior.kl().item() == pytest.approx(expected, abs=1e-10)  # of area 4π and κ / (4π sinh κ)
        assert posterior.mean.norm().item() == pytest.approx(coth - 1 / kappa, abs=1e-10)


@pytest.mark.parametrize(("size", "concentration"), SIZES)
def test_kl_mean_and_variance_are_those_of_many_draws(size, concentration) -> None:
    posterior = make(size, concentration)
    draws, log_q = posterior.rsample_with_log_prob(4000, generator())
    ratio = log_q - posterior.prior.log_prob(draws)
    assert posterior.kl().item() == pytest.approx(ratio.mean().item(), abs=5 * ratio.std().item() / 4000**0.5)
    torch.testing.assert_close(draws.norm(dim=-1), torch.ones(4000, 1).double())
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - posterior.mean).abs() < 5 * error).all()
    squares = (draws - posterior.mean).square()
    assert ((squares.mean(0) - posterior.variance).abs() < 5 * squares.std(0) / 4000**0.5).all()


@pytest.mark.parametrize(("size", "concentration"), SIZES)
def test_draws_have_the_distribution_of_scipy_s(size, concentration) -> None:
    """By their cosines with the direction, and with another one."""
    posterior = make(size, concentration)
    own = posterior.rsample(6000, generator())[:, 0]
    random = np.random.default_rng(0)
    other = vonmises_fisher(posterior.direction[0].numpy(), concentration).rvs(6000, random_state=random)
    across = normalize(torch.randn(size).double(), dim=0)
    for along in (posterior.direction[0], across):
        cosines = [(torch.as_tensor(draws) @ along).sort().values for draws in (own, other)]
        both = torch.cat(cosines).sort().values
        shares = [torch.searchsorted(one, both, right=True) / 6000 for one in cosines]
        assert (shares[0] - shares[1]).abs().max() < 1.95 * (2 / 6000) ** 0.5  # Kolmogorov and Smirnov, p = 0.001


def test_the_rejection_scheme_takes_most_proposals() -> None:
    """So that of its fixed number one is taken in all but next to no draws."""
    for size in (2, 3, 16, 128):
        for concentration in (0.01, 1.0, 30.0, 3000.0, 100_000.0):
            b = (size - 1) / (2 * concentration + math.sqrt(4 * concentration**2 + (size - 1) ** 2))
            x = (1 - b) / (1 + b)
            t = UniformSphere().rsample(4000, torch.empty(1, size).double(), generator())[:, 0, 0]
            w = (1 - (1 + b) * (1 + t) / 2) / (1 - (1 - b) * (1 + t) / 2)
            log_share = concentration * (w - x) + (size - 1) * (torch.log1p(-x * w) - math.log1p(-(x**2)))
            rejected = 1 - log_share.exp().clamp_max(1).mean().item()
            assert log_share.max() < 1e-6 * concentration + 1e-9  # it is an envelope
            assert rejected < 0.4 and rejected**PROPOSALS < 1e-12


def test_gradients_reach_the_direction_as_finite_differences_do() -> None:
    torch.manual_seed(1)
    raw, weights = torch.randn(2, 5).double().requires_grad_(), torch.randn(5).double()

    def value(given: torch.Tensor) -> torch.Tensor:
        return (VonMisesFisher(normalize(given, dim=-1), 6.0).rsample(20, generator()) @ weights).sin().sum()

    (gradient,) = torch.autograd.grad(value(raw), raw)
    for place in ((0, 1), (1, 3)):
        step = torch.zeros(2, 5).double()
        step[place] = 1e-6
        slope = (value(raw + step) - value(raw - step)) / 2e-6
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-4)


def test_the_gradient_of_draws_is_that_of_the_expectation() -> None:
    """E μ'·z = A μ'·μ, whose gradient by μ (on the sphere) is A times the part of μ' at right angles to μ."""
    raw = torch.tensor([[0.6, 0.8, 0.0, 0.0]]).double().requires_grad_()
    other = torch.tensor([0.1, -0.4, 0.7, 0.2]).double()
    posterior = VonMisesFisher(normalize(raw, dim=-1), 5.0)
    (gradient,) = torch.autograd.grad((posterior.rsample(20_000, generator()) @ other).mean(), raw, retain_graph=True)
    (expected,) = torch.autograd.grad((posterior.mean @ other).sum(), raw)
    torch.testing.assert_close(gradient, expected, atol=0.02, rtol=0)


def test_points_off_the_sphere_have_no_density() -> None:
    posterior = make(3, 4.0)
    with pytest.raises(ValueError, match="latents must have length 1"):
        posterior.log_prob(2 * posterior.direction)


def test_its_gaussians_have_the_same_log_density_but_for_a_constant() -> None:
    posterior = make(6, 9.0, sentences=4)
    points, base = posterior.rsample(30, generator()), posterior.base
    assert isinstance(base, EquallySpread)
    difference = base.log_prob(points) - posterior.log_prob(points)
    torch.testing.assert_close(difference, difference[:1, :1].expand_as(difference))
    draws = base.log_prob(posterior.rsample(20_000, generator()))
    assert ((draws.mean(0) - base.negative_entropy()).abs() < 5 * draws.std(0) / 20_000**0.5).all()


def test_the_prior_is_uniform() -> None:
    draws = UniformSphere().rsample(20_000, torch.empty(1, 5).double(), generator())[:, 0]
    torch.testing.assert_close(draws.norm(dim=-1), torch.ones(20_000).double())
    torch.testing.assert_close(draws.T @ draws / 20_000, torch.eye(5).double() / 5, atol=0.01, rtol=0)
    assert draws.mean(0).abs().max() < 0.02


def test_the_head_s_kl_is_the_same_whatever_its_weights(make_model, batch) -> None:
    head = VonMisesFisherPosterior(4, 3, 10)
    posterior = head(torch.randn(5, 4))
    torch.testing.assert_close(posterior.direction.norm(dim=-1), torch.ones(5))
    assert not posterior.kl().requires_grad and posterior.kl().unique().numel() == 1
    output = make_model(posterior="vmf").train()(**batch)
    assert output.kl_per_dimension is None
    torch.testing.assert_close(output.latents.norm(dim=-1), torch.ones(4))


def test_sampled_sentences_are_written_from_the_sphere(make_model, monkeypatch) -> None:
    model, given = make_model(posterior="vmf"), []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **more: given.append(more["encoder_outputs"]) or generate(**more))
    model.sample(6, generator=generator(), max_length=5)
    torch.testing.assert_close(given[0].latents.norm(dim=-1), torch.ones(6))


def test_decoding_reads_the_points_of_the_sphere_that_latents_stand_for() -> None:
    """The means of posteriors lie inside the sphere, where no z was in training."""
    tokenizer = train_tokenizer(["a b c d e f g h"])
    config = {"vocab_size": len(tokenizer), "embedding_size": 6, "hidden_size": 8, "latent_size": 3}
    vae = SeqVAE(SeqVAEForTextModeling(SeqVAEConfig(**config, posterior="vmf", concentration=2.0)), tokenizer)
    given, sample = [], vae.model.sample
    vae.model.sample = lambda latents, **more: given.append(latents) or sample(latents=latents, **more)
    means, centres = (vae.encode(["a b", "c"], features) for features in ("mean", "centre"))
    assert np.linalg.norm(means, axis=1).max() < 0.9
    for latents in (means, 5 * means, centres):
        vae.decode(latents, max_new_tokens=3)
        torch.testing.assert_close(given.pop(), torch.from_numpy(centres))


def test_the_likelihood_is_that_of_the_integral_over_the_circle(make_model) -> None:
    model = make_model(decoder="unigram", latent_size=2, posterior="vmf", concentration=3)
    ids = torch.tensor([[1, 5, 6, 2]])
    angle = torch.arange(0, 2 * math.pi, 2 * math.pi / 1000)
    log_probs = model.lm_head(torch.stack([angle.cos(), angle.sin()], -1)).log_softmax(-1)
    exact = -(log_probs[:, [5, 6, 2]].sum(1).logsumexp(0) - math.log(1000))  # the mean over the circle
    estimate = model.iw_nll(ids, num_samples=20_000, generator=generator())
    torch.testing.assert_close(estimate, exact[None], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"latent_size": 1}, "latent_size 2 or more"),
        ({"concentration": 0}, "concentration must be above 0"),
        ({"concentration": 1e6}, "at most 100,000"),
    ],
)
def test_what_it_cannot_have_is_refused(fields, told) -> None:
    with pytest.raises(ValueError, match=told):
        SeqVAEConfig(posterior="vmf", **fields)
