"""Mutual information, active units and dispersion: brute force over all pairs, limits, and what each cannot exceed."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal
from torch.nn.functional import cosine_similarity

from modeling_seqvae.evaluation import metrics
from modeling_seqvae.gaussian import DiagonalGaussian

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference.npz"
Z = 3
LOG_GROUP = math.log(32)

Posteriors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def posteriors(count: int, spread: float = 1.0, seed: int = 0) -> Posteriors:
    """Means and log-variances (N, Z) of posteriors `spread` apart, and one draw of each, in float64."""
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = spread * torch.randn(2, count, Z, generator=generator, dtype=torch.float64)
    logvar = logvar.clamp(-2, 1)
    return mean, logvar, DiagonalGaussian(mean, logvar).rsample(1, generator)[0]


def log_prob(mean: torch.Tensor, logvar: torch.Tensor, latent: torch.Tensor) -> float:
    return Independent(Normal(mean, (0.5 * logvar).exp()), 1).log_prob(latent).item()


def entropy(mean: torch.Tensor, logvar: torch.Tensor, latent: torch.Tensor) -> float:
    return -Independent(Normal(mean, (0.5 * logvar).exp()), 1).entropy().item()


def brute_force(
    mean: torch.Tensor, logvar: torch.Tensor, latents: torch.Tensor, conditional: Callable[..., float] = log_prob
) -> float:
    """The mean over draws of log q(z|x) - log (1/N) sum_j q(z|x_j), by two loops over sentences."""
    total = 0.0
    for i, latent in enumerate(latents):
        densities = [log_prob(mean[j], logvar[j], latent) for j in range(len(mean))]
        aggregate = np.logaddexp.reduce(densities) - math.log(len(mean))
        total += conditional(mean[i], logvar[i], latent) - aggregate
    return total / len(latents)


# Mutual information


def test_mi_corpus_is_the_loop_over_all_pairs() -> None:
    given = posteriors(40)
    assert metrics.mutual_information_corpus(*given) == pytest.approx(brute_force(*given), abs=1e-10)


def test_mi_equal_length_is_the_loop_with_the_analytic_entropy() -> None:
    given = posteriors(20)
    expected = brute_force(*given, conditional=entropy)
    assert metrics.mutual_information_equal_length(*given) == pytest.approx(expected, abs=1e-10)


def test_mi_equal_length_is_the_public_reference_s() -> None:
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        names = ("posterior_mean", "posterior_logvar", "latents")
        mean, logvar, latents = (torch.from_numpy(arrays[name]) for name in names)
        found = metrics.mutual_information_equal_length(mean, logvar, latents[:, 0])
        assert found == pytest.approx(float(arrays["mi_equal_length"]), abs=1e-8)


def test_mi_batch_is_the_mean_over_full_disjoint_groups_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, logvar, latents = posteriors(70)
    groups: list[Posteriors] = []
    whole = metrics.mutual_information_corpus

    def spy(*group: torch.Tensor) -> float:
        groups.append(group)  # type: ignore[arg-type]
        return whole(*group)

    monkeypatch.setattr(metrics, "mutual_information_corpus", spy)
    found = metrics.mutual_information_batch(mean, logvar, latents)
    assert [len(group[0]) for group in groups] == [32, 32]
    assert found == pytest.approx(np.mean([brute_force(*group) for group in groups]), abs=1e-10)
    members = [mean[:, 0].tolist().index(value) for group in groups for value in group[0][:, 0].tolist()]
    assert len(set(members)) == 64
    assert members[:32] != sorted(members[:32])  # random, not neighbours in the corpus, which may be sorted


def test_mi_batch_groups_are_fixed_by_the_seed() -> None:
    given = posteriors(200)
    found = {seed: metrics.mutual_information_batch(*given, seed=seed) for seed in range(3)}
    assert len(set(found.values())) == 3
    assert found[1] == metrics.mutual_information_batch(*given, seed=1)


def test_fewer_sentences_than_a_group_are_one_group() -> None:
    given = posteriors(31)
    assert metrics.mutual_information_batch(*given) == metrics.mutual_information_corpus(*given)


def test_mi_corpus_does_not_depend_on_the_order_of_sentences() -> None:
    given = posteriors(50)
    order = torch.randperm(50)
    shuffled = [tensor[order] for tensor in given]
    assert metrics.mutual_information_corpus(*shuffled) == pytest.approx(
        metrics.mutual_information_corpus(*given), abs=1e-12
    )


def test_identical_posteriors_have_no_mutual_information() -> None:
    mean, logvar = torch.full((64, Z), 0.7).double(), torch.full((64, Z), -0.3).double()
    latents = DiagonalGaussian(mean, logvar).rsample()[0]
    assert metrics.mutual_information_corpus(mean, logvar, latents) == pytest.approx(0, abs=1e-12)
    assert metrics.mutual_information_batch(mean, logvar, latents) == pytest.approx(0, abs=1e-12)
    # The analytic entropy does not cancel the noise of the draws: standard error sqrt(Z / 2N) = 0.15.
    assert metrics.mutual_information_equal_length(mean, logvar, latents) == pytest.approx(0, abs=0.6)


def test_well_separated_posteriors_reach_the_cap_of_each_estimate() -> None:
    mean = 50 * torch.arange(96).double()[:, None].expand(-1, Z)
    logvar = torch.zeros_like(mean)
    latents = DiagonalGaussian(mean, logvar).rsample()[0]
    assert metrics.mutual_information_corpus(mean, logvar, latents) == pytest.approx(math.log(96), abs=1e-8)
    assert metrics.mutual_information_batch(mean, logvar, latents) == pytest.approx(LOG_GROUP, abs=1e-8)


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 3.0, 10.0, 100.0])
def test_no_draw_takes_mi_above_its_cap(spread: float) -> None:
    for seed in range(20):
        given = posteriors(64, spread, seed)
        assert metrics.mutual_information_batch(*given) <= LOG_GROUP + 1e-9
        assert metrics.mutual_information_corpus(*given) <= math.log(64) + 1e-9


def test_the_analytic_entropy_lets_single_draws_exceed_the_cap() -> None:
    found = [metrics.mutual_information_equal_length(*posteriors(32, 100.0, seed)) for seed in range(40)]
    assert max(found) > LOG_GROUP + 0.05
    assert np.mean(found) == pytest.approx(LOG_GROUP, abs=0.15)


def test_estimates_of_almost_identical_posteriors_may_be_negative_but_are_not_on_average() -> None:
    found = [metrics.mutual_information_batch(*posteriors(32, 0.05, seed)) for seed in range(200)]
    assert min(found) < 0 <= np.mean(found)


def test_groups_see_less_than_the_corpus_and_the_corpus_less_than_the_kl() -> None:
    """KL = MI + KL(q(z) || p(z)); and a group's own mixture fits it better than the corpus's does."""
    mean, logvar, latents = posteriors(3200, spread=0.7)
    in_groups = metrics.mutual_information_batch(mean, logvar, latents)
    in_all = metrics.mutual_information_corpus(mean, logvar, latents)
    kl = DiagonalGaussian(mean, logvar).kl().mean().item()
    assert in_groups + 0.02 < in_all < kl - 0.02


def test_mi_memory_is_linear_in_sentences(monkeypatch: pytest.MonkeyPatch, tensor_spy: type) -> None:
    given = posteriors(300)
    whole = metrics.mutual_information_corpus(*given)
    monkeypatch.setattr(metrics, "PAIRS_AT_ONCE", 3000)
    with tensor_spy() as spy:
        in_blocks = metrics.mutual_information_corpus(*given)
    assert in_blocks == pytest.approx(whole, abs=1e-12)
    assert max(spy.sizes) <= 3000


def test_pairs_are_computed_even_where_one_row_of_them_is_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = posteriors(30)
    whole = metrics.mutual_information_corpus(*given)
    monkeypatch.setattr(metrics, "PAIRS_AT_ONCE", 7)
    assert metrics.mutual_information_corpus(*given) == pytest.approx(whole, abs=1e-12)


def test_float32_posteriors_lose_nothing_to_the_expanded_square() -> None:
    mean, logvar, latents = (tensor.float() for tensor in posteriors(40, spread=5.0))
    expected = brute_force(mean.double(), logvar.double(), latents.double())
    assert metrics.mutual_information_corpus(mean, logvar, latents) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("logvar", [-30.0, -35.0, -60.0])
def test_mi_of_posteriors_far_narrower_than_they_are_apart(logvar: float) -> None:
    mean, _, _ = posteriors(40)
    narrow = torch.full_like(mean, logvar)
    draws = DiagonalGaussian(mean, narrow).rsample(1, torch.Generator().manual_seed(1))[0]
    found = metrics.log_aggregate_posterior(mean, narrow, draws)
    expected = [log_prob(*each) - math.log(40) for each in zip(mean, narrow, draws, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


# Active units


def test_active_units_count_dimensions_whose_mean_varies_by_more_than_a_hundredth() -> None:
    means = torch.tensor([[0.0, 0.0, 5.0], [0.1407, 0.1421, 5.0]])  # variances 0.0099, 0.0101 and 0; half that, biased
    assert metrics.active_units(means) == 1


def test_the_threshold_itself_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ACTIVE_VARIANCE", 0.5)
    assert metrics.active_units(torch.tensor([[0.0, 0.0], [1.0, 1.5]])) == 1  # unbiased variances 0.5 and 1.125


def test_active_units_of_the_public_reference() -> None:
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        expected = int((arrays["mean_variance"] > 0.01).sum())
        assert metrics.active_units(torch.from_numpy(arrays["posterior_mean"])) == expected
        spread_out = torch.from_numpy(arrays["posterior_mean"] * 0.1 / np.sqrt(arrays["mean_variance"]))
    assert metrics.active_units(1.01 * spread_out) == 4
    assert metrics.active_units(0.99 * spread_out) == 0


def test_active_units_far_from_the_origin() -> None:
    means = torch.randn(1000, 4) * torch.tensor([0.05, 0.2, 0.05, 0.2]) + 100
    assert metrics.active_units(means) == 2


def test_nothing_varies_over_one_sentence() -> None:
    assert metrics.active_units(torch.ones(1, 4)) == 0


# Dispersion


def dispersion(*parts: torch.Tensor) -> metrics.Dispersion:
    seen = metrics.Dispersion()
    for part in parts:
        seen.add(part)
    return seen


def mean_pairwise_cosine(features: torch.Tensor) -> float:
    cosines = cosine_similarity(features[:, None].double(), features[None].double(), dim=-1)  # (N, N)
    return cosines[~torch.eye(len(features), dtype=torch.bool)].mean().item()


@pytest.mark.parametrize("offset", [0.0, 0.5, 20.0])
def test_dispersion_is_the_mean_cosine_of_all_pairs(offset: float) -> None:
    features = torch.randn(50, 8) + offset
    assert dispersion(features).cosine() == pytest.approx(mean_pairwise_cosine(features), abs=1e-10)


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [17, 33], [0, 49, 1]])
def test_dispersion_does_not_depend_on_split_or_order(sizes: list[int]) -> None:
    features = torch.randn(50, 8) + 0.3
    parts = features[torch.randperm(50)].split(sizes)
    assert dispersion(*parts).cosine() == pytest.approx(mean_pairwise_cosine(features), abs=1e-10)


def test_dispersions_of_several_processes_merge() -> None:
    features = torch.randn(50, 8) + 0.3
    total = metrics.Dispersion()
    for part in (features[:20], features[20:20], features[20:]):
        total.merge(dispersion(part))
    total.merge(metrics.Dispersion())
    assert total.count == 50
    assert total.cosine() == pytest.approx(mean_pairwise_cosine(features), abs=1e-10)


def test_dispersion_at_its_limits() -> None:
    direction = torch.randn(1, 6)
    assert dispersion(direction * torch.tensor([[0.1], [1.0], [30.0]])).cosine() == pytest.approx(1)
    assert dispersion(torch.eye(6)).cosine() == pytest.approx(0)
    assert dispersion(torch.cat([direction, -direction])).cosine() == pytest.approx(-1)


def test_a_feature_of_zeros_has_no_direction() -> None:
    features = torch.cat([torch.eye(3)[:1].repeat(2, 1), torch.zeros(2, 3)])
    assert dispersion(features).cosine() == pytest.approx(1 / 6)  # one pair of six, the others 0
    assert dispersion(torch.zeros(5, 3)).cosine() == 0


def test_dispersion_of_half_precision_features() -> None:
    features = torch.randn(50, 8).bfloat16()
    assert dispersion(features).cosine() == pytest.approx(mean_pairwise_cosine(features), abs=1e-10)


def test_dispersion_holds_no_pairs_and_no_features() -> None:
    seen = dispersion(torch.randn(50, 8), torch.randn(50, 8))
    assert torch.as_tensor(seen.total).shape == (8,)


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_no_pair_of_fewer_than_two_features(count: int) -> None:
    assert math.isnan(dispersion(torch.randn(count, 8)).cosine())
    assert math.isnan(metrics.Dispersion().cosine())


def test_mi_by_length_weighs_groups_of_one_length_by_their_size() -> None:
    mean, logvar, latents = posteriors(9, 1.0, seed=3)
    lengths = torch.tensor([4, 7, 4, 4, 7, 4, 4, 9, 4])
    groups = [torch.tensor(group) for group in ([0, 2, 3, 5], [6, 8], [1, 4], [7])]
    parts = [
        len(group) * metrics.mutual_information_equal_length(mean[group], logvar[group], latents[group])
        for group in groups
    ]
    found = metrics.mutual_information_by_length(mean, logvar, latents, lengths, group_size=4)
    assert found == pytest.approx(sum(parts) / 9, abs=1e-12)


def test_a_uniform_choice_among_256_bytes_is_eight_bits_each() -> None:
    assert metrics.bits_per_byte(5 * math.log(256), 5) == pytest.approx(8)
    text = "Größe"  # five characters, seven bytes
    assert metrics.bits_per_byte(7 * math.log(2), len(text.encode())) == pytest.approx(1)
    assert math.isnan(metrics.bits_per_byte(1.0, 0))
