"""The curvature of WAE-RNF: its weight by brute force, its centres by k-means, and flat space before the first fit."""

import pytest
import torch

from modeling_seqvae.training.curvature import Curvature

Z = 3
SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)


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
