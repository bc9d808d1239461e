"""Samples from the aggregated posterior: its moments, its modes, and where it is kept."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.aggregate import FILE, AggregatePosterior
from modeling_seqvae.tokenization import train_tokenizer

WORDS = ["the", "food", "was", "great", "but", "service", "felt", "slow", "and", "cold", "today"]
TEXTS = [" ".join(np.random.default_rng(seed).choice(WORDS, 1 + seed % 9)) for seed in range(60)]
Z = 3


def build(**changes) -> SeqVAE:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([" ".join(WORDS)])
    sizes = {"embedding_size": 6, "hidden_size": 8, "latent_size": Z, "initializer_range": 0.8}
    model = SeqVAEForTextModeling(SeqVAEConfig(vocab_size=len(tokenizer), **sizes | changes))
    model.generation_config.max_length = 8
    return SeqVAE(model, tokenizer)


def collapse(vae: SeqVAE) -> SeqVAE:
    for weight in vae.model.get_encoder().posterior.parameters():
        torch.nn.init.zeros_(weight)
    return vae


def drawn(vae: SeqVAE, count: int = 20_000) -> np.ndarray:
    return vae.aggregate.sample(count, torch.Generator().manual_seed(1)).double().numpy()


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    vae = build()
    vae.fit_aggregate(TEXTS, components=4)
    return vae


def test_of_a_collapsed_posterior_it_is_the_prior() -> None:
    vae = collapse(build())
    vae.fit_aggregate(TEXTS)
    latents = drawn(vae)
    assert np.abs(latents.mean(0)).max() < 0.06
    np.testing.assert_allclose(np.cov(latents.T), np.eye(Z), atol=0.06)


def test_its_moments_are_those_of_the_posteriors(vae) -> None:
    """Mean of the means; covariance of the means and mean variance."""
    means, variances = np.split(vae.encode(TEXTS).astype(np.float64), 2, axis=1)
    covariance = np.cov(means.T, bias=True) + np.diag(variances.mean(0))
    latents, error = drawn(vae), np.sqrt(np.diag(covariance) / 10_000)
    assert (np.abs(latents.mean(0) - means.mean(0)) < 6 * error).all()
    np.testing.assert_allclose(np.cov(latents.T), covariance, atol=0.06 * np.diag(covariance).max())


def test_it_has_the_modes_that_one_gaussian_has_not() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0, 0.1, (2000, 2)) + np.where(random.random((2000, 1)) < 0.3, 3.0, -3.0)
    mixture = AggregatePosterior.fit(draws, components=2)
    latents = mixture.sample(5000, torch.Generator().manual_seed(0)).numpy()
    assert (np.abs(latents) > 2).all()
    assert (latents[:, 0] > 0).mean() == pytest.approx((draws[:, 0] > 0).mean(), abs=0.03)
    density = sum(
        weight * multivariate_normal(mean, scale @ scale.T).pdf(draws)
        for weight, mean, scale in zip(*map(np.asarray, (mixture.weights, mixture.means, mixture.scales)), strict=True)
    )
    assert np.log(density).mean() > multivariate_normal(draws.mean(0), np.cov(draws.T)).logpdf(draws).mean() + 1


def test_texts_and_seed_fix_it_whatever_the_batch_size(vae) -> None:
    again = build()
    again.fit_aggregate(iter(TEXTS), components=4, batch_size=7)
    torch.testing.assert_close(again.aggregate.weights, vae.aggregate.weights, atol=1e-3, rtol=0)
    torch.testing.assert_close(again.aggregate.means, vae.aggregate.means, atol=1e-2, rtol=0)
    other = build().fit_aggregate(TEXTS, components=4, seed=1)
    assert not torch.equal(other.means, vae.aggregate.means)


def test_samples_are_written_from_it_and_fixed_by_their_seed(vae, monkeypatch) -> None:
    first = vae.sample(6, seed=3, prior="aggregate")
    assert first == vae.sample(6, seed=3, prior="aggregate") and len(first) == 6
    assert first != vae.sample(6, seed=4, prior="aggregate")
    assert vae.sample(0, prior="aggregate") == []
    given = []
    monkeypatch.setattr(vae, "_write", lambda latents, *rest: given.append(latents) or [])
    vae.sample(4000, seed=0, prior="aggregate")
    np.testing.assert_allclose(given[0].mean(0).numpy(), drawn(vae).mean(0), atol=0.15)


def test_it_is_kept_beside_the_weights(vae, tmp_path) -> None:
    vae.save_pretrained(tmp_path)
    loaded = SeqVAE.from_pretrained(tmp_path)
    assert loaded.sample(4, seed=0, prior="aggregate") == vae.sample(4, seed=0, prior="aggregate")


@pytest.mark.parametrize("written", [lambda other: other, lambda other: other.model], ids=["SeqVAE", "model alone"])
def test_other_weights_do_not_inherit_it(written, vae, tmp_path) -> None:
    vae.save_pretrained(tmp_path)
    written(build()).save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists() and SeqVAE.from_pretrained(tmp_path).aggregate is None


def test_one_that_is_damaged_or_of_another_model_is_refused(vae, tmp_path) -> None:
    vae.save_pretrained(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=f"{FILE} is damaged"):
        SeqVAE.from_pretrained(tmp_path)
    build(latent_size=5).save_pretrained(tmp_path)
    (tmp_path / FILE).write_bytes(whole)
    with pytest.raises(ValueError, match="is of 3 latent dimensions, and the model has 5"):
        SeqVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"posterior": "planar_flow"}, {"posterior": "implicit", "sampler_layers": 2}, {"posterior": "vmf"}],
    ids=lambda changes: changes["posterior"],
)
def test_other_posteriors_have_one_of_their_draws(changes, monkeypatch) -> None:
    vae, given = build(**changes), []
    vae.fit_aggregate(TEXTS, components=2)
    monkeypatch.setattr(vae, "_write", lambda latents, *rest: given.append(latents) or [])
    vae.sample(50, prior="aggregate")
    assert given[0].shape == (50, Z) and given[0].isfinite().all()
    if changes["posterior"] == "vmf":
        torch.testing.assert_close(given[0].norm(dim=-1), torch.ones(50))


def test_what_cannot_be_is_refused(vae) -> None:
    with pytest.raises(ValueError, match="call fit_aggregate first"):
        build().sample(prior="aggregate")
    with pytest.raises(ValueError, match="prior='other' is not one of model, aggregate"):
        vae.sample(prior="other")
    with pytest.raises(ValueError, match="there are no texts"):
        vae.fit_aggregate([])
    with pytest.raises(ValueError, match="components must be at least 1"):
        vae.fit_aggregate(TEXTS, components=0)
    with pytest.raises(ValueError, match="20001 components need as many draws"):
        vae.fit_aggregate(TEXTS, components=20_001)
    for ask in (lambda lm: lm.fit_aggregate(TEXTS), lambda lm: lm.sample(prior="aggregate")):
        with pytest.raises(ValueError, match="latent_size=0"):
            ask(build(latent_size=0))
