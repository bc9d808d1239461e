"""The dual KL: a lower bound whatever the network, which training brings to the closed form, and what is made of it."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from modeling_seqvae import SeqVAEConfig
from modeling_seqvae.evaluation.dual import FILE, LARGEST, DualMeasurements, DualNetwork, DualNetworks, dual_kl
from modeling_seqvae.evaluation.evaluate import Measurements, dual_figures
from modeling_seqvae.evaluation.metrics import Dispersion

B, H, Z = 4, 5, 2
MEANS = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.5], [0.3, 0.3]])
SCALES = torch.tensor([0.5, 0.8])
SENTENCES = torch.eye(B, H)  # features that tell the sentences apart


def posterior() -> Independent:
    return Independent(Normal(MEANS, SCALES), 1)


def prior() -> Independent:
    return Independent(Normal(torch.zeros(B, Z), torch.ones(Z)), 1)


def exact_kl() -> torch.Tensor:
    return kl_divergence(posterior(), prior())


def draws(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of q(z|x) and of the prior, (count, B, Z) each."""
    return posterior().sample((count,)), prior().sample((count,))


# The estimate


def test_the_estimate_is_the_dual_form() -> None:
    at_posterior, at_prior = torch.randn(7, B), torch.randn(7, B)
    value, _ = dual_kl(at_posterior, at_prior)
    for index in range(B):
        expected = sum(at_posterior[:, index].tolist()) / 7 - sum(map(math.exp, at_prior[:, index].tolist())) / 7 + 1
        assert value[index].item() == pytest.approx(expected)


def test_the_variance_is_that_of_repeated_estimates() -> None:
    repeated = [dual_kl(torch.randn(128, 2000), 0.5 * torch.randn(128, 2000)) for _ in range(3)]
    for value, variance in repeated:
        assert variance.mean().item() == pytest.approx(value.var().item(), rel=0.15)


def test_the_log_ratio_gives_the_kl_and_no_other_function_more() -> None:
    q, p = draws(50_000)

    def best(z: torch.Tensor) -> torch.Tensor:
        return posterior().log_prob(z) - prior().log_prob(z)

    value, variance = dual_kl(best(q), best(p))
    assert ((value - exact_kl()).abs() < 5 * variance.sqrt()).all()
    for other in (
        lambda z: 0 * z.sum(-1),
        lambda z: 0.5 * best(z),
        lambda z: best(z) + 0.3,
        lambda z: best(z) - 0.3,
        lambda z: z.sum(-1).sin(),
        lambda z: best(z).clamp(max=1),
    ):
        value, variance = dual_kl(other(q), other(p))
        assert (value <= exact_kl() + 5 * variance.sqrt()).all()


def test_no_information_is_no_divergence() -> None:
    value, variance = dual_kl(torch.zeros(5, B), torch.zeros(5, B))
    assert value.tolist() == variance.tolist() == [0] * B


# Networks


def test_a_network_is_a_perceptron_of_features_and_latents() -> None:
    network, latents = DualNetwork(H, Z), torch.randn(3, B, Z)
    layers = [network.first, *network.rest]
    assert [layer.out_features for layer in layers] == [512, 512, 512, 1]
    state = torch.cat([SENTENCES.expand(3, B, H), latents], -1)
    for layer in layers[:-1]:
        state = nn.functional.leaky_relu(layer(state))
    torch.testing.assert_close(network(SENTENCES, latents), layers[-1](state).squeeze(-1), rtol=1e-4, atol=1e-5)


def test_the_marginal_network_does_not_see_the_sentences() -> None:
    networks, latents = DualNetworks(H, Z), torch.randn(3, B, Z)
    assert torch.equal(networks.marginal(SENTENCES, latents), networks.marginal(torch.randn(B, H), latents))
    assert not torch.isclose(networks.joint(SENTENCES, latents), networks.joint(torch.randn(B, H), latents)).any()


def test_a_network_s_value_cannot_overflow_and_keeps_its_slope() -> None:
    network, latents = DualNetwork(H, Z), 1e3 * torch.ones(2, B, Z)
    nn.init.constant_(network.rest[-1].bias, 60.0)
    value = network(SENTENCES, latents * 1e-3)
    assert (value <= LARGEST).all() and (value > LARGEST - 1).all()
    slope = torch.autograd.grad(value.exp().sum(), network.rest[-1].bias)[0]
    assert slope.isfinite() and slope > 0
    nn.init.constant_(network.rest[-1].bias, 1e6)
    found = dual_kl(network(SENTENCES, latents), network(SENTENCES, -latents))
    assert found.value.isfinite().all()


def test_the_bound_leaves_usual_values_alone() -> None:
    network, latents = DualNetwork(H, Z), torch.zeros(1, B, Z)
    nn.init.zeros_(network.rest[-1].weight)
    for value in (-50.0, -1.0, 0.0, 0.01, 15.0):
        nn.init.constant_(network.rest[-1].bias, value)
        torch.testing.assert_close(network(SENTENCES, latents), torch.full((1, B), value), rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_draws_in_the_model_s_loss_and_the_networks_in_theirs() -> None:
    networks = DualNetworks(H, Z, width=8)
    pooled, latents = SENTENCES.clone().requires_grad_(), torch.randn(B, Z, requires_grad=True)
    networks(pooled, latents, torch.randn(B, Z)).backward()
    assert pooled.grad is None and latents.grad is None
    assert all(weight.grad is not None for weight in networks.parameters())
    for nu in (networks.joint, networks.marginal):
        latents.grad = None
        nu(pooled, latents).mean().backward()
        assert pooled.grad is None and latents.grad.any()


def test_the_networks_loss_is_the_negative_dual_kl_of_both() -> None:
    networks, (q, p) = DualNetworks(H, Z), draws(9)
    joint, marginal = networks.kl(SENTENCES, q, p)
    expected = 2 - joint.value.mean() - marginal.value.mean()
    torch.testing.assert_close(networks(SENTENCES, q, p).double(), expected, rtol=1e-4, atol=1e-5)


def aggregate_kl() -> float:
    """KL(q(z) || p(z)) of the mixture of the posteriors, by many draws."""
    z = posterior().sample((20_000,))  # (S, B, Z)
    log_q = posterior().log_prob(z[:, :, None]).logsumexp(-1) - math.log(B)
    return (log_q - prior().log_prob(z)).mean().item()


def test_training_approaches_the_closed_form_from_below() -> None:
    """Of a Gaussian pair for each sentence, and of their mixture; never above it but by Monte-Carlo error."""
    networks = DualNetworks(H, Z, width=32)
    optimizer = torch.optim.Adam(networks.parameters(), lr=5e-3)
    exact, of_mixture = exact_kl().mean().item(), aggregate_kl()
    gaps = []
    for step in range(600):
        networks(SENTENCES, *draws(64)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            with torch.no_grad():
                joint, marginal = networks.kl(SENTENCES, *draws(20_000))
            for found, limit in ((joint, exact), (marginal, of_mixture)):
                error = found.variance.sum().sqrt().item() / B
                assert found.value.mean().item() <= limit + 4 * error + 0.01
            assert (joint.value <= exact_kl() + 5 * joint.variance.sqrt()).all()
            gaps.append((exact - joint.value.mean().item(), of_mixture - marginal.value.mean().item()))
    assert gaps[-1][0] < 0.05 * exact
    assert gaps[-1][1] < 0.25 * of_mixture
    assert gaps[-1][0] < gaps[0][0]


# Saved beside a checkpoint


def test_saved_networks_come_back(tmp_path) -> None:
    config = SeqVAEConfig(hidden_size=7, encoder_hidden_size=H, latent_size=Z)
    networks, latents = DualNetworks.of(config), torch.randn(3, B, Z)
    networks.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    loaded = DualNetworks.load(tmp_path, config)
    for name in ("joint", "marginal"):
        assert torch.equal(getattr(loaded, name)(SENTENCES, latents), getattr(networks, name)(SENTENCES, latents))


def test_networks_that_are_missing_or_of_another_size_are_named(tmp_path) -> None:
    config = SeqVAEConfig(encoder_hidden_size=H, latent_size=Z)
    with pytest.raises(FileNotFoundError, match=f"there is no .*{FILE}"):
        DualNetworks.load(tmp_path, config)
    DualNetworks.of(config).save(tmp_path)
    with pytest.raises(ValueError, match=f"{FILE} is damaged, or of another model"):
        DualNetworks.load(tmp_path, SeqVAEConfig(encoder_hidden_size=H + 1, latent_size=Z))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{FILE} is damaged"):
        DualNetworks.load(tmp_path, config)


# Figures


def test_figures_are_paired_by_sentence() -> None:
    random = np.random.default_rng(0)
    rec, kl, joint, marginal, nll = (torch.from_numpy(random.normal(size=10)) for _ in range(5))
    none = torch.zeros(10, 0)
    measured = Measurements(torch.arange(10), torch.ones(10), rec, kl, *(6 * [none]), Dispersion())
    dual = DualMeasurements(torch.arange(10), rec, joint, torch.full((10,), 0.5), marginal, torch.full((10,), 2.0))
    found = dual_figures(measured, nll[:6].numpy(), dual)
    expected = {
        "nll_bar": rec + joint,
        "kl_above_dual": kl - joint,
        "nll_bar_above_bound": joint - kl,
        "nll_bar_above_nll": (rec + joint - nll)[:6],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(values.mean().item())
        assert found[f"{name}_se"] == pytest.approx((values.std() / len(values) ** 0.5).item())
    assert found["dual_mi"] == pytest.approx((joint - marginal).mean().item())
    assert (found["dual_kl"], found["dual_kl_marginal"]) == pytest.approx((joint.mean().item(), marginal.mean().item()))
    assert (found["dual_kl_mc"], found["dual_kl_marginal_mc"]) == pytest.approx((math.sqrt(5) / 10, math.sqrt(20) / 10))


def test_autocast_leaves_networks_their_own_precision() -> None:
    networks = DualNetworks(5, 3)
    pooled, latents = torch.randn(4, 5), torch.randn(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = networks.joint(pooled.bfloat16(), latents)
    torch.testing.assert_close(found, networks.joint(pooled.bfloat16().float(), latents))
