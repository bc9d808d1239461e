"""Planar flows: the log-determinant is autograd's, no training folds space, and inverting undoes."""

import pytest
import torch
from torch.autograd.functional import jacobian

from modeling_seqvae.flows import SMALLEST_SLOPE, FlowPosterior, PlanarFlow, PlanarFlowPosterior
from modeling_seqvae.gaussian import DiagonalGaussian

Z = 4
SCALES = [0.01, 0.5, 3.0, 20.0]


def make_flow(scale: float, latent_size: int = Z) -> PlanarFlow:
    flow = PlanarFlow(latent_size).double()
    for parameter in flow.parameters():
        torch.nn.init.uniform_(parameter, -scale, scale)
    return flow


def make_posterior(scale: float = 1.0, count: int = 3) -> FlowPosterior:
    base = DiagonalGaussian(torch.randn(5, Z).double(), torch.randn(5, Z).double())
    return FlowPosterior(base, [make_flow(scale) for _ in range(count)])


def by_autograd(function, latents: torch.Tensor) -> torch.Tensor:
    """log|det| of a function of one z, at each row of latents (N, Z)."""
    return torch.stack([jacobian(function, z).slogdet().logabsdet for z in latents])


@pytest.mark.parametrize("scale", SCALES)
def test_the_log_determinant_is_that_of_autograd_s_jacobian(scale: float) -> None:
    flow, latents = make_flow(scale), 2 * torch.randn(20, Z).double()
    torch.testing.assert_close(flow(latents)[1], by_autograd(lambda z: flow(z)[0], latents))


def test_log_determinants_of_a_chain_add_up() -> None:
    posterior, latents = make_posterior(), torch.randn(20, Z).double()
    found = posterior.transform(latents)[1]
    torch.testing.assert_close(found, by_autograd(lambda z: posterior.transform(z)[0], latents))


@pytest.mark.parametrize("scale", SCALES)
def test_inverting_undoes(scale: float) -> None:
    flow, latents = make_flow(scale), 2 * torch.randn(50, Z).double()
    torch.testing.assert_close(flow.inverse(flow(latents)[0]), latents, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow(flow.inverse(latents))[0], latents, rtol=1e-9, atol=1e-9)


def test_it_is_z_plus_u_tanh_with_u_hat_beside_w() -> None:
    """û differs from u along w alone, and w·û is above -1 however far u points against w."""
    for scale in SCALES:
        flow = make_flow(scale)
        w, b, u = flow.inner.weight[0], flow.inner.bias[0], flow.outer.weight[:, 0]
        _, _, u_hat, slope = flow._parameters_in_use()
        latents = torch.randn(10, Z).double()
        torch.testing.assert_close(flow(latents)[0], latents + torch.tanh(latents @ w + b)[:, None] * u_hat)
        torch.testing.assert_close(slope, 1 + w @ u_hat)
        assert slope >= SMALLEST_SLOPE
        across = (u_hat - u) - ((u_hat - u) @ w) * w / (w @ w)
        torch.testing.assert_close(across, torch.zeros(Z).double())


def test_space_is_never_folded_in_single_precision() -> None:
    """Along w, f increases; its slope is least where w·z + b = 0."""
    torch.manual_seed(1)
    for scale in SCALES:
        flow = make_flow(scale).float()
        flow.outer.weight.data = -flow.inner.weight.data.T * scale  # as far against w as it goes
        w, b = flow.inner.weight[0], flow.inner.bias[0]
        least = -b * w / w.square().sum()
        latents = least + torch.linspace(-1, 1, 401)[:, None] * w / w.norm()
        along = flow(latents)[0] @ w
        assert (along.diff() > 0).all()
        assert flow(latents)[1].isfinite().all()


@pytest.mark.parametrize("fold", [1.0, -1.0], ids=["shrinking space", "stretching space"])
def test_it_stays_invertible_under_training_with_a_large_learning_rate(fold: float) -> None:
    """Steps of 1 that push every determinant to 0, or as far up as it goes."""
    flows = [make_flow(0.1).float() for _ in range(3)]
    optimizer = torch.optim.Adam([parameter for flow in flows for parameter in flow.parameters()], lr=1.0)
    base = DiagonalGaussian(torch.zeros(64, Z), torch.zeros(64, Z))
    furthest = 0.0
    for step in range(60):
        posterior = FlowPosterior(base, flows)
        latents = base.rsample()[0]
        z, log_det, _ = posterior.transform(latents)
        (fold * log_det.mean() + 1e-3 * z.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert log_det.isfinite().all()
        furthest = max(furthest, log_det.detach().abs().max().item())
        if step % 10 == 9:
            z = posterior.transform(latents.double())[0]
            for flow in reversed(flows):
                z = flow.inverse(z)
            torch.testing.assert_close(z, latents.double(), rtol=1e-6, atol=1e-6)
    assert furthest > 3


def test_small_weights_hardly_move_anything() -> None:
    latents = torch.randn(50, Z).double()
    moved, log_det = make_flow(0.01)(latents)
    assert (moved - latents).abs().max() < 0.01
    assert log_det.abs().max() < 0.01


def test_no_weights_move_nothing() -> None:
    flow = make_flow(0.0)
    latents = torch.randn(50, Z).double()
    moved, log_det = flow(latents)
    torch.testing.assert_close(moved, latents)
    torch.testing.assert_close(log_det, torch.zeros(50).double())
    moved.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in flow.parameters())


def test_the_density_of_a_draw_is_that_of_its_base_less_the_stretching() -> None:
    posterior = make_posterior()
    base = posterior.base.rsample(7, torch.Generator().manual_seed(0))
    latents, log_q = posterior.rsample_with_log_prob(7, torch.Generator().manual_seed(0))
    expected, log_det, _ = posterior.transform(base)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(log_q, posterior.base.log_prob(base) - log_det)


def test_a_draw_tells_its_base_and_what_each_flow_was_given() -> None:
    posterior = make_posterior()
    draw = posterior.draw(torch.Generator().manual_seed(0))
    torch.testing.assert_close(draw.base, posterior.base.draw(torch.Generator().manual_seed(0)).latents)
    torch.testing.assert_close(draw.flow_inputs[:, 0], draw.base)
    for index, flow in enumerate(posterior.flows):
        after = draw.latents if index == 2 else draw.flow_inputs[:, index + 1]
        torch.testing.assert_close(flow(draw.flow_inputs[:, index])[0], after)


def test_features_are_of_the_base_and_the_centre_is_its_mean_s_flow() -> None:
    posterior = make_posterior()
    assert posterior.mean is posterior.base.mean
    assert torch.equal(posterior.variance, posterior.base.variance)
    torch.testing.assert_close(posterior.centre, posterior.transform(posterior.mean)[0])
    assert not torch.isclose(posterior.centre, posterior.mean).all()


def test_the_head_shares_its_flows_between_sentences() -> None:
    head, pooled = PlanarFlowPosterior(3, Z, 2), torch.randn(5, 3)
    posterior = head(pooled)
    torch.testing.assert_close(posterior.mean, head.gaussian(pooled).mean)
    assert list(posterior.flows) == list(head.flows) and len(head.flows) == 2
