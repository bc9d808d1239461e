"""Figures of models whose posterior is no diagonal Gaussian, and iVAE's own figures beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_seqvae.evaluation import metrics
from modeling_seqvae.evaluation.dual import DualNetworks, dual_kl
from modeling_seqvae.evaluation.evaluate import Evaluator, evaluate, standard_error, summarise
from modeling_seqvae.evaluation.table import caption, collapsed
from modeling_seqvae.noise import sentence_generator, standard_normal
from modeling_seqvae.posteriors import prior_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
COUNT, SAMPLES = 40, 5
KINDS: dict[str, dict[str, Any]] = {
    "flow": {"posterior": "planar_flow"},
    "linear sampler": {"posterior": "implicit"},
    "deep sampler": {"posterior": "implicit", "sampler_layers": 2},
    "vmf": {"posterior": "vmf", "concentration": 10.0},
    "refined": {"posterior": "refined", "refinement_steps": 3},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    ids = [[1, *random.integers(3, 20, length).tolist(), 2] for length in random.integers(0, 9, COUNT)]
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "index": list(range(COUNT))})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(make_model: Callable[..., Any], kind: str) -> Any:
    return make_model(**KINDS[kind]).double()


@pytest.fixture
def networks(model: Any) -> DualNetworks:
    return DualNetworks.of(model.config).double()


def evaluator(model: Any, dataset: Dataset, **arguments: Any) -> Evaluator:
    return Evaluator(model, dataset, **{"progress": False, **arguments})


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_and_order_change_no_figure(model, dataset, networks, batch_size: int) -> None:
    expected = evaluate(evaluator(model, dataset, shuffle_words=True), SAMPLES, 20, networks)
    shuffled = dataset.select(np.random.default_rng(1).permutation(COUNT))
    one = evaluator(model, shuffled, shuffle_words=True, batch_size=batch_size)
    found = evaluate(one, SAMPLES, 20, networks)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-7)), name


def test_the_nll_with_one_draw_is_the_draw_of_the_bound(model, dataset, kind: str) -> None:
    one = evaluator(model, dataset)
    measured = one.measure()
    ratios = []
    for ids, latents in zip(dataset["input_ids"], measured.latents, strict=True):
        q = model.encode(torch.tensor([ids]))
        ratios.append((q.proposal.log_prob(latents[None]) - prior_of(q).log_prob(latents[None]))[0])
    ratio = torch.stack(ratios).detach()
    np.testing.assert_allclose(one.nll(1), (measured.reconstruction + ratio).numpy(), atol=1e-7)
    if kind not in ("linear sampler", "vmf", "refined"):  # whose KL is exact
        torch.testing.assert_close(measured.kl, ratio, rtol=0, atol=1e-7)


def test_the_one_draw_bound_averages_to_above_the_nll(model, dataset) -> None:
    few = dataset.select(range(8))
    measured = [evaluator(model, few, seed=seed).measure() for seed in range(60)]
    bounds = torch.stack([one.reconstruction + one.kl for one in measured]).mean(1).numpy()
    singles = np.stack([evaluator(model, few, seed=seed).nll(1) for seed in range(60)]).mean(1)
    nll = evaluator(model, few, seed=100).nll(1000)
    error = standard_error(bounds)
    assert bounds.mean() > nll.mean() + 2 * error
    assert singles.mean() == pytest.approx(bounds.mean(), abs=4 * (error + standard_error(singles)))


def test_the_seed_and_the_sentence_decide_the_noise(model, dataset, networks) -> None:
    first, again, other = (evaluator(model, dataset, seed=seed) for seed in (5, 5, 6))
    state = torch.get_rng_state()
    measured, dual = first.measure(), first.dual(networks, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(measured.kl, again.measure().kl) and torch.equal(dual.joint, again.dual(networks, 3).joint)
    assert (measured.latents != other.measure().latents).all()
    part = evaluator(model, dataset.select([30, 4, 17]), seed=5)
    torch.testing.assert_close(part.measure().kl, measured.kl[[4, 17, 30]], rtol=0, atol=1e-7)
    torch.testing.assert_close(part.dual(networks, 3).joint, dual.joint[[4, 17, 30]], rtol=0, atol=1e-7)


# Information and units


@pytest.mark.parametrize("kind", ["flow", "linear sampler", "vmf", "refined"])
def test_information_is_that_of_the_base_and_units_are_of_the_means(model, dataset) -> None:
    measured = evaluator(model, dataset, seed=2).measure()
    posteriors = [model.encode(torch.tensor([ids])) for ids in dataset["input_ids"]]
    mean, logvar = (torch.cat([getattr(q.base, name) for q in posteriors]).detach() for name in ("mean", "logvar"))
    draws = [q.draw([sentence_generator(2, number)]).base for number, q in enumerate(posteriors)]
    report = summarise(measured, seed=2)
    expected = metrics.mutual_information_batch(mean, logvar, torch.cat(draws).detach(), seed=2)
    assert report["mi"] == pytest.approx(expected, abs=1e-6)
    assert report["au"] == metrics.active_units(torch.cat([q.mean for q in posteriors]))
    whole = evaluate(evaluator(model, dataset, seed=2), 1)
    given = (mean, logvar, torch.cat(draws).detach())
    lengths = torch.tensor([len(ids) - 1 for ids in dataset["input_ids"]])
    assert whole["mi_corpus"] == pytest.approx(metrics.mutual_information_corpus(*given), abs=1e-6)
    assert whole["mi_corpus"] != pytest.approx(report["mi"], abs=1e-4)
    by_length = metrics.mutual_information_by_length(
        *given, lengths, torch.cat([q.base.negative_entropy() for q in posteriors])
    )
    assert whole["mi_equal_length"] == pytest.approx(by_length, abs=1e-6)


@pytest.mark.parametrize("kind", ["deep sampler"])
def test_where_only_draws_are_known_there_is_no_information_but_all_else(model, dataset) -> None:
    report = evaluate(evaluator(model, dataset), SAMPLES)
    missing = {name for name, value in report.items() if value is None}
    assert missing == {"mi", "mi_corpus", "mi_equal_length", "bits_per_byte", "bytes"}  # these tensors have no texts
    assert report["nll_samples"] == SAMPLES
    assert "by 5 importance samples" in caption(report | {"corpus": "c", "split": "test", "unknown_share": 0.0})
    assert collapsed(report | {"kl": 0.0})


@pytest.mark.parametrize("kind", ["flow"])
def test_a_collapsed_flow_shows_no_kl_and_no_information(model, dataset) -> None:
    for parameter in model.get_encoder().posterior.parameters():
        torch.nn.init.zeros_(parameter)
    report = summarise(evaluator(model, dataset).measure())
    assert (report["kl"], report["mi"], report["au"]) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9), 0)


# iVAE's own figures


@pytest.mark.parametrize("kind", ["linear sampler", "deep sampler"])
def test_dual_measurements_are_those_of_each_sentence_alone(model, dataset, networks) -> None:
    found = evaluator(model, dataset, seed=3).dual(networks, 6)
    assert found.number.tolist() == list(range(COUNT))
    for number, ids in enumerate(dataset["input_ids"][:10]):
        row, generator = torch.tensor([ids]), [sentence_generator(3, number)]
        with torch.no_grad():
            pooled = model.get_encoder().read(row, None)[1]
            latents = model.encode(row).rsample(6, generator)
            prior = standard_normal(6, latents[0], generator)
            joint = dual_kl(networks.joint(pooled, latents), networks.joint(pooled, prior))
            marginal = dual_kl(networks.marginal(pooled, latents), networks.marginal(pooled, prior))
            output = model(row, labels=row, latents=latents[0])
        torch.testing.assert_close(found.joint[number], joint.value[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found.joint_variance[number], joint.variance[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found.marginal[number], marginal.value[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found.marginal_variance[number], marginal.variance[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found.reconstruction[number], output.reconstruction_loss[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["linear sampler"])
def test_with_shuffled_words_the_dual_kl_is_of_what_the_encoder_then_reads(model, dataset, networks) -> None:
    """The encoder reads another order; the decoder's target, and so the sentence that is reconstructed, stays."""
    found = evaluator(model, dataset, seed=3, shuffle_words=True).dual(networks, 6)
    plain = evaluator(model, dataset, seed=3).dual(networks, 6)
    for number, ids in enumerate(dataset["input_ids"][:10]):
        order = np.random.default_rng((3, number)).permutation(len(ids) - 2)
        read, row = torch.tensor([[ids[0], *(ids[1 + i] for i in order), ids[-1]]]), torch.tensor([ids])
        generator = [sentence_generator(3, number)]
        with torch.no_grad():
            pooled = model.get_encoder().read(read, None)[1]
            latents = model.encode(read).rsample(6, generator)
            prior = standard_normal(6, latents[0], generator)
            joint = dual_kl(networks.joint(pooled, latents), networks.joint(pooled, prior))
            output = model(row, labels=row, latents=latents[0])
        torch.testing.assert_close(found.joint[number], joint.value[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found.reconstruction[number], output.reconstruction_loss[0], rtol=0, atol=1e-7)
    assert not torch.allclose(found.joint, plain.joint)


@pytest.mark.parametrize("kind", ["linear sampler"])
def test_a_dual_kl_of_fewer_than_two_draws_is_refused(model, dataset, networks) -> None:
    with pytest.raises(ValueError, match="at least 2 draws a sentence, got num_samples=1"):
        evaluator(model, dataset).dual(networks, 1)


@pytest.mark.parametrize("kind", ["linear sampler"])
def test_the_exact_bound_exceeds_nll_bar_by_what_the_dual_kl_misses(model, dataset, networks) -> None:
    """Draw by draw, for both take the reconstruction of one z; and any network misses something."""
    one = evaluator(model, dataset)
    torch.testing.assert_close(one.dual(networks).reconstruction, one.measure().reconstruction, rtol=0, atol=1e-9)
    report = evaluate(one, SAMPLES, networks=networks)
    assert report["nll_bar_above_bound"] == pytest.approx(-report["kl_above_dual"])
    assert report["nll_bar"] == pytest.approx(report["bound"] - report["kl_above_dual"])
    assert report["kl_above_dual"] > -4 * report["dual_kl_mc"]
    assert report["nll_bar_above_nll"] == pytest.approx(report["nll_bar"] - report["nll"])


@pytest.mark.parametrize("kind", ["linear sampler"])
def test_the_documentation_names_every_figure_of_the_dual(model, dataset, networks) -> None:
    report = evaluate(evaluator(model, dataset), SAMPLES, networks=networks)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    explained = DOCUMENT.read_text("utf-8")
    assert [name for name in report if f"`{name}`" not in explained] == []
