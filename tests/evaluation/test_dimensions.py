"""What single dimensions hold: KL and variance, and two measures of whether a label sits in one of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAE
from modeling_seqvae.evaluation.dimensions import Dimensions, dimensions_of, disentanglement, label_information
from modeling_seqvae.gaussian import DiagonalGaussian
from modeling_seqvae.posteriors import POSTERIORS

CHECKPOINT = "tests/fixtures/checkpoint-v1"
TEXTS = ["the food was good .", "our room was cold", "the staff was warm", "wow", "what a dull museum", "the food"]
COUNT, CLASSES = 4_000, 4


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(COUNT) % CLASSES


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((COUNT, 5))


def measures(means: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    report = disentanglement(means, {"label": labels})
    return report["mig"], report["sap"]


def test_a_perfect_code_has_one_and_an_independent_one_nothing(noise: np.ndarray, labels: np.ndarray) -> None:
    perfect = np.column_stack([noise[:, 1:], labels + 0.01 * noise[:, 0]])
    assert measures(perfect, labels) == (pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.05))
    assert disentanglement(perfect, {"label": labels})["factors"]["label"]["dimensions"][0] == 4
    assert measures(noise, labels) == (pytest.approx(0, abs=0.01), pytest.approx(0, abs=0.03))


@pytest.mark.parametrize(("classes", "reached"), [(2, 0.95), (3, 0.95), (5, 0.95), (10, 0.9), (23, 0.82)])
def test_the_gap_of_a_perfect_code_is_what_bins_leave_of_it(classes: int, reached: float) -> None:
    """As docs/metrics.md says: bins of equal counts hold texts of two classes where these are not of equal size."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 2000)
    means = np.column_stack([labels + 0.2 * random.random(2000), np.zeros(2000)])
    assert measures(means, labels) == (pytest.approx(reached, abs=0.03), pytest.approx(1))


def test_a_label_in_two_dimensions_alike_is_in_none_alone(noise: np.ndarray, labels: np.ndarray) -> None:
    twice = np.column_stack([labels, noise[:, :2], labels])
    assert measures(twice, labels) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    spread = np.column_stack([labels // 2, labels % 2, noise[:, 0]])  # half of it in each of two
    assert measures(spread, labels) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=0.02))


def test_half_the_information_in_one_dimension_is_half_a_gap(noise: np.ndarray, labels: np.ndarray) -> None:
    half = np.column_stack([labels // 2, noise[:, 0]])
    assert measures(half, labels)[0] == pytest.approx(0.5, abs=0.01)


def test_one_dimension_has_nothing_beside_it(labels: np.ndarray) -> None:
    assert measures(labels[:, None].astype(float), labels)[0] == pytest.approx(1)
    report = disentanglement(np.zeros((COUNT, 1)), {"label": labels})
    assert (report["mig"], report["sap"]) == (0, 0) and report["factors"]["label"]["dimensions"] == [0]


def test_neither_order_nor_scale_nor_bending_changes_the_gap(noise: np.ndarray, labels: np.ndarray) -> None:
    means = noise + np.outer(labels, [0.1, 1.0, 0.3, 0.0, 0.0])
    expected = measures(means, labels)
    assert measures(means[:, ::-1], labels) == pytest.approx(expected)
    assert measures(means * 100 - 7, labels) == pytest.approx(expected, abs=0.01)
    assert measures(np.tanh(means / 5), labels)[0] == pytest.approx(expected[0])  # bins are of equal counts
    assert measures(means, np.array(list("dbca"))[labels]) == pytest.approx(expected, abs=0.02)


def test_information_is_that_of_a_channel_that_errs() -> None:
    """A bit that is wrong once in four times carries ln 2 - H(1/4)."""
    sent = np.repeat([0, 1], 400)
    received = np.where(np.arange(800) % 4 == 0, 1 - sent, sent)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert label_information(received, sent) == pytest.approx(np.log(2) - entropy)
    assert label_information(np.zeros(800), sent) == 0


def test_several_columns_of_labels_are_averaged(noise: np.ndarray, labels: np.ndarray) -> None:
    means = np.column_stack([labels, noise])
    report = disentanglement(means, {"here": labels, "nowhere": np.random.default_rng(1).integers(2, size=COUNT)})
    parts = [report["factors"][name]["mig"] for name in ("here", "nowhere")]
    assert report["mig"] == pytest.approx(sum(parts) / 2) and parts[0] > 0.99 and parts[1] < 0.01


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({}, "there are no labels"),
        ({"a": [1, 2]}, "40 texts and 2 labels 'a'"),
        ({"a": [1] * 40}, "of one class"),
        ({"a": list(range(40))}, "40 classes for 40 texts"),
    ],
)
def test_labels_that_tell_nothing_are_refused(factors: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        disentanglement(np.zeros((40, 2)), factors)


def test_the_figures_of_dimensions_add_up_to_those_of_the_model() -> None:
    vae = SeqVAE.from_pretrained(CHECKPOINT)
    size = vae.model.config.latent_size
    both = vae.encode(TEXTS)
    found = dimensions_of(vae, both[:, :size], both[:, size:])
    encoded = vae.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        posterior = vae.model.encode(encoded["input_ids"], encoded["attention_mask"])
    assert found.kl is not None and found.kl.sum() == pytest.approx(posterior.kl().mean().item(), rel=1e-4)
    np.testing.assert_allclose(found.variance, posterior.mean.var(0), rtol=1e-4)
    np.testing.assert_allclose(found.noise, posterior.variance.mean(0), rtol=1e-4)
    assert found.order == np.argsort(-found.kl).tolist()


def test_dimensions_that_are_not_independent_have_no_kl_and_go_by_variance(make_model) -> None:
    vae = SeqVAE.from_pretrained(CHECKPOINT)
    vae.model.config.posterior = "planar_flow"
    means = np.array([[0.0, 2.0, 1.0], [0.0, -2.0, 0.0]], np.float32)
    found = dimensions_of(vae, means, np.ones_like(means))
    assert found.kl is None and found.order == [1, 2, 0]
    assert Dimensions(None, np.zeros(2), np.ones(2)).order == [0, 1]


class Elsewhere(DiagonalGaussian):
    prior = "another"


def another_family(*parts: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(at_centre=DiagonalGaussian(*parts).at_centre)


@pytest.mark.parametrize("family", [Elsewhere, another_family])
def test_the_kl_of_another_family_or_prior_is_not_taken_for_a_gaussian_s(family, monkeypatch) -> None:
    class Head(torch.nn.Module):
        def forward(self, pooled):
            return family(torch.zeros(1, 3), torch.zeros(1, 3))

    monkeypatch.setitem(POSTERIORS, "own", lambda hidden_size, config: Head())
    vae = SeqVAE.from_pretrained(CHECKPOINT)
    vae.model.config.posterior = "own"
    assert dimensions_of(vae, np.eye(3, dtype=np.float32), np.ones((3, 3), np.float32)).kl is None
