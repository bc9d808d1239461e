"""MMD: brute force over pairs, zero for equal samples and positive otherwise."""

import pytest
import torch

from modeling_seqvae.training.wae_rnf import Curvature, inverse_multiquadric, mmd

Z = 3
SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
    squared = sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return sum(2 * Z * scale / (2 * Z * scale + squared) for scale in SCALES)


def brute_force(latents: torch.Tensor, prior: torch.Tensor) -> float:
    def mean(first: torch.Tensor, second: torch.Tensor) -> float:
        return sum(kernel(a, b) for a in first for b in second) / (len(first) * len(second))

    return mean(latents, latents) + mean(prior, prior) - 2 * mean(latents, prior)


@pytest.mark.parametrize("counts", [(5, 5), (7, 4), (1, 6)])
def test_it_is_the_loop_over_all_pairs(counts: tuple[int, int]) -> None:
    latents, prior = (torch.randn(count, Z).double() for count in counts)
    assert mmd(latents, prior).item() == pytest.approx(brute_force(latents, prior), abs=1e-12)


def test_equal_samples_have_none_whatever_their_order() -> None:
    latents = torch.randn(20, Z)
    assert mmd(latents, latents).item() == pytest.approx(0, abs=1e-6)
    assert mmd(latents, latents[torch.randperm(20)]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0, 100.0])
def test_different_samples_have_some(shift: float) -> None:
    found = [mmd(torch.randn(16, Z).double() + shift, torch.randn(16, Z).double()).item() for _ in range(20)]
    assert min(found) > 0


def test_it_grows_with_the_distance_and_has_a_limit() -> None:
    latents, prior = torch.randn(500, Z), torch.randn(500, Z)
    found = [mmd(latents + shift, prior).item() for shift in (0, 0.5, 1, 3, 30, 3000)]
    assert found == sorted(found)
    assert found[-1] < 2 * len(SCALES)


def test_samples_of_one_distribution_differ_by_the_bias_of_the_estimate() -> None:
    """(k(z, z) - E k(z, z')) (1/N + 1/M) in expectation: the diagonal of a V-statistic."""
    count = 40
    found = torch.stack([mmd(*torch.randn(2, count, Z).double()) for _ in range(200)])
    pairs = torch.randn(2, 50_000, Z).double()
    between = inverse_multiquadric((pairs[0] - pairs[1]).square().sum(-1), Z).mean()
    expected = (len(SCALES) - between) * 2 / count
    assert found.mean().item() == pytest.approx(expected.item(), abs=5 * found.std().item() / 200**0.5)


def test_gradients_draw_latents_to_the_prior() -> None:
    latents = (torch.randn(64, Z) + 2).requires_grad_()
    mmd(latents, torch.randn(64, Z)).backward()
    assert latents.grad.isfinite().all()
    assert (latents.grad.mean(0) > 0).all()


def test_the_kernel_is_greatest_where_there_is_no_distance() -> None:
    values = inverse_multiquadric(torch.tensor([0.0, 1.0, 10.0, 1e6]), Z)
    assert values[0].item() == pytest.approx(len(SCALES))
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert values[-1] < 1e-3


@pytest.fixture
def means() -> torch.Tensor:
    """Four groups of sentences, far apart."""
    return torch.cat([centre + 0.1 * torch.randn(25, Z) for centre in 5 * torch.eye(4, Z)])


@pytest.fixture
def curvature(means: torch.Tensor) -> Curvature:
    fitted = Curvature(Z, num_centres=4)
    fitted.fit(means, seed=0)
    return fitted


def test_the_weight_is_of_the_distance_to_the_nearest_centre(curvature: Curvature) -> None:
    latents = 3 * torch.randn(6, 2, Z)
    found = curvature.weight(latents)
    for i in range(6):
        for j in range(2):
            nearest = min(float((latents[i, j] - centre).square().sum()) for centre in curvature.centres)
            expected = sum(2 * Z * scale / (2 * Z * scale + nearest) for scale in SCALES)
            assert found[i, j].item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_half_the_sum_of_its_logarithms(curvature: Curvature) -> None:
    inputs = torch.randn(6, 2, Z)  # of two flows
    expected = 0.5 * (curvature.weight(inputs[:, 0]).log() + curvature.weight(inputs[:, 1]).log())
    torch.testing.assert_close(curvature.penalty(inputs), expected)


def test_it_is_greatest_at_a_centre(curvature: Curvature) -> None:
    assert curvature.weight(curvature.centres).tolist() == pytest.approx([len(SCALES)] * 4)
    assert (curvature.weight(curvature.centres + 1) < len(SCALES)).all()


def test_centres_are_the_means_of_the_groups(curvature: Curvature, means: torch.Tensor) -> None:
    expected = means.view(4, 25, Z).mean(1)
    order = (curvature.centres[:, None] - expected).square().sum(-1).argmin(0)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(curvature.centres[order], expected, rtol=0, atol=1e-4)


def test_the_same_means_and_seed_give_the_same_centres() -> None:
    means = torch.randn(200, Z)
    fitted = [Curvature(Z) for _ in range(3)]
    for one, seed in zip(fitted, (0, 0, 1), strict=True):
        torch.manual_seed(seed + 10)
        one.fit(means, seed)
    assert torch.equal(fitted[0].centres, fitted[1].centres)
    assert not torch.equal(fitted[0].centres, fitted[2].centres)


def test_space_is_flat_before_the_first_fit(means: torch.Tensor) -> None:
    curvature = Curvature(Z)
    inputs = torch.randn(6, 2, Z, requires_grad=True)
    curvature.penalty(inputs).sum().backward()
    assert curvature.penalty(inputs).tolist() == [0] * 6
    assert not inputs.grad.any()
    curvature.fit(means, seed=0)
    assert curvature.penalty(inputs).all()


def test_gradients_reach_what_the_flows_were_given(curvature: Curvature) -> None:
    inputs = torch.randn(6, 2, Z, requires_grad=True)
    curvature.penalty(inputs).sum().backward()
    assert inputs.grad.isfinite().all() and inputs.grad.any()
    assert not list(curvature.parameters())


def test_fewer_sentences_than_centres_are_the_centres(curvature: Curvature) -> None:
    few = torch.randn(2, Z)
    curvature.fit(few, seed=0)
    found = {tuple(round(x, 5) for x in centre) for centre in curvature.centres.tolist()}
    assert found == {tuple(round(x, 5) for x in mean) for mean in few.tolist()}


def test_no_sentences_are_refused(curvature: Curvature) -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        curvature.fit(torch.zeros(0, Z), seed=0)


def test_centres_are_part_of_the_state(curvature: Curvature) -> None:
    other = Curvature(Z, num_centres=4)
    other.load_state_dict(curvature.state_dict())
    inputs = torch.randn(6, 2, Z)
    assert torch.equal(other.penalty(inputs), curvature.penalty(inputs))
