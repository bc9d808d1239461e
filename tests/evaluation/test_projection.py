"""Maps of points: places in the plane that are the same every time."""

import importlib.util

import numpy as np
import pytest

from modeling_seqvae.evaluation.projection import installed_projections, project

POINTS = np.random.default_rng(0).standard_normal((60, 5)) * [3, 2, 1, 0.5, 0.1]


def test_principal_components_keep_the_largest_variances_and_a_plane_as_it_is() -> None:
    places = project(POINTS)
    variances = np.linalg.eigvalsh(np.cov(POINTS.T))[::-1][:2]
    np.testing.assert_allclose(np.cov(places.T), np.diag(variances), atol=1e-9)
    flat = POINTS[:, :2]
    between = np.linalg.norm(flat[:, None] - flat, axis=-1)
    there = project(flat)
    np.testing.assert_allclose(np.linalg.norm(there[:, None] - there, axis=-1), between)
    np.testing.assert_allclose(project(POINTS[::-1])[::-1], places)  # whatever their order, the same side is up


@pytest.mark.parametrize("points", [np.ones((4, 3)), np.zeros((1, 3)), np.arange(5.0)[:, None]])
def test_what_has_no_second_direction_lies_on_a_line(points: np.ndarray) -> None:
    places = project(points)
    assert places.shape == (len(points), 2) and np.isfinite(places).all()
    np.testing.assert_allclose(places[:, 1], 0, atol=1e-9)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_maps_of_neighbourhoods_keep_two_crowds_apart(method: str) -> None:
    if method not in installed_projections():
        pytest.skip("umap-learn is not installed")
    points = np.concatenate([POINTS, POINTS + 40])
    places = project(points, method)
    assert places.shape == (120, 2)
    np.testing.assert_array_equal(project(points, method), places)
    near = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(120)
    assert ((near.argmin(1) < 60) == (np.arange(120) < 60)).all()


@pytest.mark.parametrize("method", installed_projections())
def test_texts_in_one_place_stay_there(method: str) -> None:
    assert (project(np.ones((10, 3)), method) == 0).all()


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="t-SNE needs at least 5 texts, and there are 4"):
        project(POINTS[:4], "tsne")
    with pytest.raises(ValueError, match="no points"):
        project(POINTS[:0])
    with pytest.raises(ValueError, match="is not one of pca, tsne, umap"):
        project(POINTS, "lda")
    if importlib.util.find_spec("umap") is None:
        assert "umap" not in installed_projections()
        with pytest.raises(ModuleNotFoundError, match="pip install umap-learn"):
            project(POINTS, "umap")
