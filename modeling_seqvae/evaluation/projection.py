"""Maps of the latent space: points (N, Z) as places (N, 2) in the plane."""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ..argument_checks import one_of, optional

LEAST_POINTS = 5
"""Points that a map of neighbourhoods needs."""


def principal_components(points: NDArray) -> NDArray:
    """The two directions of the largest variance; the sign of each is that of its largest loading."""
    return PCA(min(2, *points.shape), svd_solver="full").fit_transform(points)


def tsne(points: NDArray) -> NDArray:
    """t-SNE (van der Maaten and Hinton 2008) from the principal components, the same at every call."""
    _require_points(points, "t-SNE")
    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="random" if points.shape[1] < 2 else "pca", random_state=0).fit_transform(
        points
    )


def umap(points: NDArray) -> NDArray:
    """UMAP (McInnes et al. 2018), the same at every call. Raises ModuleNotFoundError without umap-learn."""
    _require_points(points, "UMAP")
    found = optional("umap", "a map by UMAP needs umap-learn: pip install umap-learn")
    made = found.UMAP(random_state=0, n_neighbors=min(15, len(points) - 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_jobs value", UserWarning)  # a seed allows one job only
        return np.asarray(made.fit_transform(points))


PROJECTIONS: dict[str, Callable[[NDArray], NDArray]] = {"pca": principal_components, "tsne": tsne, "umap": umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def installed_projections() -> list[str]:
    """The names of the maps that can be drawn here: PCA and t-SNE, and UMAP where umap-learn is installed."""
    return [name for name in PROJECTIONS if name != "umap" or importlib.util.find_spec("umap")]


def project(points: NDArray, method: str = "pca") -> NDArray[np.float64]:
    """Places (N, 2) of points (N, Z) by one of PROJECTIONS; of one dimension, or one place, the rest is 0.

    Raises ValueError for no points, for another method, and for too few points.
    """
    function = one_of(PROJECTIONS, method, "method")
    if len(points) == 0:
        raise ValueError("there are no points to draw a map of")
    if (points == points[0]).all():  # where t-SNE crashes the process
        return np.zeros((len(points), 2))
    places = np.asarray(function(points.astype(np.float64)), np.float64)
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def _require_points(points: NDArray, name: str) -> None:
    if len(points) < LEAST_POINTS:
        raise ValueError(f"{name} needs at least {LEAST_POINTS} texts, and there are {len(points)}: take PCA")
