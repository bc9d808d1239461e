import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling, train_tokenizer
from modeling_seqvae.latent_space import (
    DIRECTIONS,
    PATHS,
    difference_of_means,
    direction_between,
    linear,
    logistic_normal,
    nearest,
    spherical,
    two_sides,
)

Z = 5


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, Z)).astype(np.float32)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


@pytest.mark.parametrize("path", PATHS.values())
def test_a_path_begins_and_ends_where_it_should(path) -> None:
    start, end = points(2)
    way = path(start, end, 6)
    assert way.shape == (6, Z)
    np.testing.assert_array_equal(way[[0, -1]], [start, end])
    np.testing.assert_allclose(path(end, start, 6), way[::-1], atol=1e-6)


def test_an_arc_between_points_of_a_sphere_stays_on_it_at_equal_angles() -> None:
    start, end = (3 * point / np.linalg.norm(point) for point in points(2))
    way = spherical(start, end, 8)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 3, rtol=1e-5)
    steps = [angle(a, b) for a, b in pairwise(way)]
    np.testing.assert_allclose(steps, angle(start, end) / 7, atol=1e-3)
    assert np.linalg.norm(linear(start, end, 9)[4]) < 3


def test_an_arc_without_an_angle_is_a_line_and_one_of_half_a_circle_is_refused() -> None:
    (point,) = points(1)
    for end in (2 * point, point, np.zeros(Z)):
        np.testing.assert_allclose(spherical(point, end, 4), linear(point, end, 4))
    with pytest.raises(ValueError, match="opposite each other, and no arc is the shortest: take a linear path"):
        spherical(point, -point, 4)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_nearest_points_are_those_of_all_distances_sorted(monkeypatch, metric: str, k: int) -> None:
    monkeypatch.setattr("modeling_seqvae.latent_space.POINTS_AT_ONCE", 7)
    queries, candidates = points(3), points(30, seed=1)
    candidates[[4, 20]] = candidates[11]  # three equally far ones, in three chunks
    indices, distances = nearest(queries, candidates, k, metric)
    everything = cdist(queries.astype(float), candidates.astype(float), metric)
    order = np.argsort(everything, axis=1, kind="stable")[:, :k]
    np.testing.assert_allclose(distances, np.take_along_axis(everything, order, 1), atol=1e-7)
    found = np.take_along_axis(everything, indices, 1)
    np.testing.assert_allclose(found, distances, atol=1e-7)
    for row in indices.tolist():
        same = [i for i in row if i in (4, 11, 20)]
        assert same == sorted(same) and len(set(row)) == len(row) == min(k, 30)


def test_a_point_is_at_no_distance_from_itself_and_the_origin_at_no_angle() -> None:
    candidates = np.concatenate([np.zeros((1, Z), np.float32), points(3)])
    indices, distances = nearest(candidates, candidates, 1, "euclidean")
    assert indices[:, 0].tolist() == [0, 1, 2, 3] and np.abs(distances).max() < 1e-6
    assert nearest(candidates[:1], candidates, 4, "cosine")[1].tolist() == [[1, 1, 1, 1]]


def labelled(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Points that overlap, of unequal scales and correlated."""
    side = np.arange(count) % 3 == 0
    drawn = points(count).astype(float) * [1, 0.1, 4, 1, 1]
    drawn[:, 1] += 0.3 * drawn[:, 0]
    return drawn + side[:, None] * np.array([0.5, 0.1, 0, -1, 0]), side


def test_the_logistic_normal_is_that_of_scikit_learn() -> None:
    x, side = labelled()
    scaler = StandardScaler().fit(x)
    regression = LogisticRegression(tol=1e-8, max_iter=1000).fit(scaler.transform(x), side)
    expected = regression.coef_[0] * scaler.scale_
    found = logistic_normal(x, side)
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-5)


def test_the_means_of_both_sides_differ_along_the_normal_by_its_length() -> None:
    x, side = labelled()
    normal = logistic_normal(x, side)
    length = np.linalg.norm(normal)
    assert difference_of_means(x, side) @ normal / length == pytest.approx(length)


@pytest.mark.parametrize("method", DIRECTIONS)
@torch.inference_mode()
def test_directions_turn_with_the_labels_and_are_found_wherever_autograd_is_off(method: str) -> None:
    x, side = labelled()
    there, back = direction_between(x, side, method), direction_between(x, ~side, method)
    assert there.dtype == np.float32 and there.shape == (Z,)
    np.testing.assert_allclose(there, -back, atol=1e-5)
    constant = np.concatenate([x, np.ones((len(x), 1))], 1)  # a dimension that is not used
    np.testing.assert_allclose(direction_between(constant, side, method), [*there, 0], atol=1e-5)
    separable = x + 50 * side[:, None]
    assert np.isfinite(direction_between(separable, side, method)).all()


@pytest.mark.parametrize("method", DIRECTIONS)
def test_sides_in_the_same_place_have_no_direction(method: str) -> None:
    with pytest.raises(ValueError, match="does not tell them apart"):
        direction_between(np.ones((6, Z), np.float32), np.arange(6) < 3, method)


def test_sides_are_two_labels_or_one_against_the_rest() -> None:
    labels = ["good", "bad", "fair", "good", "bad", "fair"]
    kept, side = two_sides(labels, 6, "good", "bad")
    assert kept.tolist() == [0, 1, 3, 4] and side.tolist() == [True, False, True, False]
    kept, side = two_sides(np.array([1, 0, 2, 1, 0, 2]), 6, 1, None)
    assert kept.tolist() == list(range(6)) and side.tolist() == [True, False, False] * 2


@pytest.mark.parametrize(
    ("labels", "towards", "away", "message"),
    [
        (["a", "b"], "a", "b", "there are 4 texts and 2 labels"),
        (["a"] * 4, "a", None, "needs two labels, and here is one only: 'a'"),
        (["a", "a", "b", "b"], "a", "a", "needs two labels"),
        (["a", "a", "b", "b"], "c", None, "towards='c' is the label of no text; there are 'a', 'b'"),
        ([1, 1, 2, 2], "1", None, "towards='1' is the label of no text; there are 1, 2"),
        (["a", "a", "b", "b"], "a", "c", "away='c' is the label of no text"),
        (["a", "b", "b", "b"], "a", None, "too few texts: towards has 1, and a side needs at least 2"),
        (["a", "a", "b", "c"], "a", "b", "too few texts: away has 1"),
        (["a", None, "b", "b"], "a", "b", r"labels\[1\] is missing"),
        (["a", "a", "b", float("nan")], "a", "b", r"labels\[3\] is missing"),
        (["a", "a", "", ""], "a", None, r"labels\[2\] is missing, as are 1 others"),
        (["a", pd.NA, "b", "b"], "a", "b", r"labels\[1\] is missing, as are 0 others"),
        ([1, 1, pd.NaT, 2], 1, 2, r"labels\[2\] is missing"),
    ],
)
def test_labels_that_point_nowhere_are_refused(labels, towards, away, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_sides(labels, 4, towards, away)


def test_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no texts"):
        two_sides([], 0, "a", "b")


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(Path(__file__).parent / "fixtures" / "checkpoint-v1")


def test_a_traversal_changes_one_dimension_of_a_text_or_of_the_middle(vae: SeqVAE) -> None:
    text, values = "the food was good .", [-4.0, 0.5, 4.0]
    for start, begun in ((text, vae.encode([text], "centre")[0]), (None, np.zeros(vae.model.config.latent_size))):
        latents = np.repeat(begun[None], 3, axis=0)
        latents[:, 1] = values
        assert vae.traverse(start, 1, values) == vae.decode(latents)
    there = float(vae.encode([text], "centre")[0][1])
    assert vae.traverse(text, 1, [there]) == [vae.reconstruct(text)]


def test_a_traversal_from_the_middle_of_a_sphere_warns_that_there_is_none() -> None:
    tokenizer = train_tokenizer(["the food was good"])
    config = SeqVAEConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=6, latent_size=Z, posterior="vmf")
    round_one = SeqVAE(SeqVAEForTextModeling(config), tokenizer)
    round_one.model.generation_config.max_length = 5
    with pytest.warns(UserWarning, match="lie on a sphere, which has no middle"):
        round_one.traverse(None, 1, [0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        round_one.traverse("the food", 1, [-3.0, 0.5])


@pytest.mark.parametrize(
    ("dimension", "values", "message"),
    [
        (-1, [0.0], "dimension must be at least 0"),
        (99, [0.0], "dimension must be below"),
        (0, [], "values must be a list of numbers"),
        (0, [float("nan")], "values must be a list of numbers"),
    ],
)
def test_a_traversal_of_what_is_not_there_is_refused(vae: SeqVAE, dimension: int, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vae.traverse(None, dimension, values)
