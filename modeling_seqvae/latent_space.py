"""The latent space: paths between two points, nearest points, and directions that labels point out.

First plain numpy on points (N, Z); then, for texts, what SeqVAE inherits: it turns texts into points, and points into
sentences.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .argument_checks import as_list_of_strings, at_least, one_of, outside, require_unicode, sklearn

POINTS_AT_ONCE = 8192
"""Points whose distances to all queries are in memory together."""

LEAST = 2
"""Texts that a side of a direction needs: the difference of two texts says nothing about a label."""


class Neighbour(NamedTuple):
    """A text that was found: its position in the list, the text, and how far it is; 0 is the same place."""

    position: int
    text: str
    distance: float


def linear(start: NDArray, end: NDArray, steps: int) -> NDArray:
    """Points (steps, Z) at equal distances on the line between two points (Z,), ends included."""
    return np.linspace(start, end, steps)


def spherical(start: NDArray, end: NDArray, steps: int) -> NDArray:
    """Points (steps, Z) on the arc between two points (Z,), ends included (White 2016, slerp).

    In many dimensions draws from N(0, I) lie near a sphere, and the middle of a line well inside it; the arc stays near
    it. Its steps are equal angles where both ends are equally far from the origin. Points in one direction from the
    origin, or at it, have the line as their arc. Raises ValueError for opposite points, between which all arcs are
    equally long.
    """
    share = np.linspace(0.0, 1.0, steps)[:, None]  # (steps, 1)
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    cosine = np.clip(np.dot(start, end) / lengths, -1.0, 1.0) if lengths else 1.0
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        if cosine < 0:
            raise ValueError("the two texts lie opposite each other, and no arc is the shortest: take a linear path")
        return linear(start, end, steps)
    path = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
    path[[0, -1]] = start, end
    return path


PATHS = {"linear": linear, "spherical": spherical}


def cosine_distances(queries: NDArray, points: NDArray) -> NDArray:
    """1 - cos of the angle between queries (Q, Z) and points (N, Z), as (Q, N) in [0, 2]; 1 for a point at 0."""
    return np.clip(1 - _unit(queries) @ _unit(points).T, 0, 2)


def euclidean_distances(queries: NDArray, points: NDArray) -> NDArray:
    """Distances between queries (Q, Z) and points (N, Z), as (Q, N)."""
    squares = (queries**2).sum(1)[:, None] - 2 * queries @ points.T + (points**2).sum(1)
    return np.sqrt(np.clip(squares, 0, None))


METRICS = {"cosine": cosine_distances, "euclidean": euclidean_distances}


def nearest(queries: NDArray, points: NDArray, k: int, metric: str) -> tuple[NDArray, NDArray]:
    """Indices (Q, k) and distances (Q, k) of the k points (N, Z) nearest to each query (Q, Z), nearest first.

    Of points equally far the earlier comes first; fewer than k points are all returned. Memory grows with Q and k only.
    """
    queries = queries.astype(np.float64)
    distances = np.empty((len(queries), 0))
    indices = np.empty((len(queries), 0), int)
    for start in range(0, len(points), POINTS_AT_ONCE):
        chunk = points[start : start + POINTS_AT_ONCE].astype(np.float64)
        numbers = np.broadcast_to(np.arange(start, start + len(chunk)), (len(queries), len(chunk)))
        distances = np.concatenate([distances, METRICS[metric](queries, chunk)], 1)
        indices = np.concatenate([indices, numbers], 1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
    return indices, distances


def difference_of_means(points: NDArray, towards: NDArray) -> NDArray:
    """Mean of the points (N, Z) where `towards` (N,) is true, minus that of the others: (Z,)."""
    return points[towards].mean(0) - points[~towards].mean(0)


def logistic_normal(points: NDArray, towards: NDArray) -> NDArray:
    """Normal (Z,) of the plane by which a logistic regression tells the two sides apart, as long as they are apart.

    The regression is scikit-learn's default (L2, C = 1) on standardised points, and the normal is that of their space:
    in the original scale a dimension that hardly varies, and that the decoder ignores, would dominate it. Along the
    returned vector the means of the two sides differ by its own length.
    """
    scale = points.std(0)
    scale[scale == 0] = 1
    regression = sklearn("linear_model").LogisticRegression(max_iter=1000, tol=1e-8)
    normal = regression.fit((points - points.mean(0)) / scale, towards).coef_[0] * scale
    length = np.linalg.norm(normal)
    unit = normal / length if length else normal
    return unit * (unit @ difference_of_means(points, towards))


DIRECTIONS = {"means": difference_of_means, "logistic": logistic_normal}


def direction_between(points: NDArray, towards: NDArray, method: str) -> NDArray[np.float32]:
    """Direction (Z,) from the points (N, Z) where `towards` (N,) is false to those where it is true, by DIRECTIONS.

    Raises ValueError where a side has too few points, or both sides are in the same place.
    """
    found = DIRECTIONS[method](points.astype(np.float64), towards)
    if not np.abs(found).max() > 0:
        raise ValueError("the texts of both sides are in the same place: this encoder does not tell them apart")
    return found.astype(np.float32)


def two_sides(
    labels: Iterable[Hashable], texts: int, towards: Hashable, away: Hashable | None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Positions of the texts that have one of two labels, and which of these have `towards`.

    `away` None means all other labels. Raises ValueError for labels that are missing, too few or of one class, and for
    `towards` or `away` that no text has.
    """
    listed = list(labels)
    if len(listed) != texts:
        raise ValueError(f"every text needs its label: there are {texts} texts and {len(listed)} labels")
    if not listed:
        raise ValueError("there are no texts: a direction is found from texts with labels")
    missing = [i for i, label in enumerate(listed) if _is_missing(label)]
    if missing:
        raise ValueError(f"labels[{missing[0]}] is missing, as are {len(missing) - 1} others: leave those texts out")
    known = list(dict.fromkeys(listed))
    shown = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
    for name, label in (("towards", towards), ("away", away)):
        if label not in known and not (name == "away" and label is None):
            raise ValueError(f"{name}={label!r} is the label of no text; there are {shown}")
    if len(known) == 1 or towards == away:
        raise ValueError(f"a direction needs two labels, and here is one only: {towards!r}")
    kept = np.array([i for i, label in enumerate(listed) if away is None or label in (towards, away)])
    side = np.array([listed[i] == towards for i in kept])
    for name, count in (("towards", side.sum()), ("away", (~side).sum())):
        if count < LEAST:
            raise ValueError(f"too few texts: {name} has {count}, and a side needs at least {LEAST}, better hundreds")
    return kept, side


def _is_missing(label: Hashable) -> bool:
    """Whether a label is None, empty, not a number, or pandas' NA, of which no comparison says yes or no."""
    try:
        return label is None or bool(label == "") or bool(label != label)
    except TypeError:
        return True


def _numbers(given: Sequence[float], name: str) -> NDArray[np.float32]:
    """Numbers (S,), one or more. Raises ValueError for anything else."""
    numbers = np.asarray(given, np.float32)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be a list of numbers, such as [0, 0.5, 1], got {given!r}")
    return numbers


def _unit(points: NDArray) -> NDArray:
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1)


__all__ = ["DIRECTIONS", "METRICS", "PATHS", "Neighbour", "direction_between", "nearest", "two_sides"]


class LatentOperations(ABC):
    """What SeqVAE does in the latent space of its model, by its own `encode` and `decode`."""

    model: Any  # a SeqVAEForTextModeling

    @abstractmethod
    def encode(self, texts: Any, features: str = ..., batch_size: int | None = ..., show_progress: Any = ...) -> Any:
        """Features of texts, (N, D)."""

    @abstractmethod
    def decode(self, latents: Any, seed: int | None = ..., **generation_kwargs: Any) -> list[str]:
        """Sentences of latents (N, Z)."""

    @abstractmethod
    def _require_latent(self, action: str) -> None: ...

    def interpolate(
        self, a: str, b: str, steps: int = 7, seed: int | None = None, path: str = "linear", **generation_kwargs: Any
    ) -> list[str]:
        """Sentences written from `steps` points on the way between the centres of `a` and `b`, ends included.

        `path` is "linear" or "spherical", on a line or on an arc around the origin. The ends are the reconstructions of
        `a` and `b`. Other arguments as in `decode`. ValueError below two steps, and for an arc between opposite points.
        """
        self._require_latent("interpolate")
        steps, way = at_least(2, steps, "steps"), one_of(PATHS, path, "path")
        start, end = self.encode([a, b], features="centre")
        return self.decode(way(start, end, steps), seed, **generation_kwargs)

    def traverse(
        self,
        text: str | None,
        dimension: int,
        values: Sequence[float] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        seed: int | None = None,
        **generation_kwargs: Any,
    ) -> list[str]:
        """Sentences written from the centre of `text` with one dimension, counted from 0, set to each of `values`.

        Without a text, None, all other dimensions are 0, the middle of the prior, whose standard deviation is 1. Of a
        model with latents on a sphere, the point of it in that direction is read: the other dimensions move too, and
        without a text only the sign of a value counts, of which it warns. Other arguments as in `decode`. Raises
        ValueError for a dimension that the model does not have, and for no values or such as are not finite.
        """
        self._require_latent("traverse")
        latent_size = self.model.config.latent_size
        number, places = at_least(0, dimension, "dimension"), _numbers(values, "values")
        if number >= latent_size:
            raise ValueError(f"dimension must be below {latent_size}, the model's latent size, got {number}")
        start = np.zeros(latent_size, np.float32) if text is None else self.encode([text], features="centre")[0]
        latents = np.repeat(start[None], len(places), axis=0)
        latents[:, number] = places
        ones = torch.ones(latent_size)
        if text is None and not torch.equal(self.model.prior.project(ones), ones):
            warnings.warn(
                "the latents of this model lie on a sphere, which has no middle: without a text all values of one sign "
                "give the same sentence, and 0 is no point of it. Give a text",
                stacklevel=outside(),
            )
        return self.decode(latents, seed, **generation_kwargs)

    def analogy(self, a: str, b: str, c: str, seed: int | None = None, **generation_kwargs: Any) -> str:
        """What is to `c` as `b` is to `a`: the sentence written from centre(b) - centre(a) + centre(c).

        Other arguments as in `decode`, of whose sentences this is the first.
        """
        self._require_latent("draw an analogy")
        at_a, at_b, at_c = self.encode([a, b, c], features="centre")
        return self.decode((at_b - at_a + at_c)[None], seed, **generation_kwargs)[0]

    @overload
    def neighbours(  # type: ignore[overload-overlap]  # a string is an iterable of strings, too
        self,
        query: str,
        texts: Iterable[str],
        k: int = ...,
        metric: str = ...,
        batch_size: int | None = ...,
        show_progress: bool | None = ...,
    ) -> list[Neighbour]: ...

    @overload
    def neighbours(
        self,
        query: Iterable[str],
        texts: Iterable[str],
        k: int = ...,
        metric: str = ...,
        batch_size: int | None = ...,
        show_progress: bool | None = ...,
    ) -> list[list[Neighbour]]: ...

    def neighbours(
        self,
        query: str | Iterable[str],
        texts: Iterable[str],
        k: int = 5,
        metric: str = "cosine",
        batch_size: int | None = None,
        show_progress: bool | None = None,
    ) -> list[Neighbour] | list[list[Neighbour]]:
        """The `k` texts whose centres are nearest to that of `query`, nearest first: (position, text, distance) each.

        `metric` is "cosine", 1 - cos of the angle, or "euclidean". Several queries give a list each. Of fewer than `k`
        texts all are returned; of equally near ones the earlier comes first. ValueError where there are no texts.
        """
        self._require_latent("look for neighbours")
        k = at_least(1, k, "k")
        one_of(METRICS, metric, "metric")
        queries, listed = as_list_of_strings(query), as_list_of_strings(texts)
        if not listed:
            raise ValueError("there are no texts to look for neighbours in")
        require_unicode(queries, "query")
        require_unicode(listed, "texts")
        centres = self.encode([*queries, *listed], "centre", batch_size, show_progress)
        found = nearest(centres[: len(queries)], centres[len(queries) :], k, metric)
        neighbours = [
            [Neighbour(i, listed[i], distance) for i, distance in zip(indices, distances, strict=True)]
            for indices, distances in zip(found[0].tolist(), found[1].tolist(), strict=True)
        ]
        return neighbours[0] if isinstance(query, str) else neighbours

    def direction(
        self,
        texts: Iterable[str],
        labels: Iterable[Hashable],
        towards: Hashable,
        away: Hashable | None = None,
        method: str = "means",
        batch_size: int | None = None,
        show_progress: bool | None = None,
    ) -> NDArray[np.float32]:
        """The direction (Z,) from the texts labelled `away`, or all others, to those labelled `towards`; for `edit`.

        `method` "means" is the difference of the mean centres; "logistic" the normal of a logistic regression between
        the two sides, as long as their means are apart along it. Raises ValueError where labels are missing, of one
        class or too few, where no text has such a label, and where the encoder puts both sides in the same place.
        """
        self._require_latent("find a direction")
        one_of(DIRECTIONS, method, "method")
        listed = as_list_of_strings(texts)
        positions, side = two_sides(labels, len(listed), towards, away)
        require_unicode(listed, "texts")
        centres = self.encode([listed[i] for i in positions], "centre", batch_size, show_progress)
        return direction_between(centres, side, method)

    @overload
    def edit(
        self, texts: str, direction: ArrayLike, strengths: Sequence[float] = ..., seed: int | None = ..., **kwargs: Any
    ) -> list[str]: ...

    @overload
    def edit(
        self,
        texts: Iterable[str],
        direction: ArrayLike,
        strengths: Sequence[float] = ...,
        seed: int | None = ...,
        **kwargs: Any,
    ) -> list[list[str]]: ...

    def edit(
        self,
        texts: str | Iterable[str],
        direction: ArrayLike,
        strengths: Sequence[float] = (0.0, 0.5, 1.0),
        seed: int | None = None,
        **generation_kwargs: Any,
    ) -> list[str] | list[list[str]]:
        """Sentences written from the centre of a text moved along `direction` (Z,), one for each of `strengths`.

        Strength 0 is the reconstruction, 1 moves by the whole direction, and a negative one the other way. Several
        texts give a list each. Other arguments as in `decode`. Raises ValueError for no strengths, for those that are
        not finite, and for a direction of another shape.
        """
        self._require_latent("edit")
        vector, steps = np.asarray(direction, np.float32), _numbers(strengths, "strengths")
        latent_size = self.model.config.latent_size
        if vector.shape != (latent_size,):
            raise ValueError(f"direction must have the shape ({latent_size},), got {vector.shape}")
        of_encode = {name: generation_kwargs.get(name) for name in ("batch_size", "show_progress")}
        centres = self.encode(as_list_of_strings(texts), features="centre", **of_encode)
        moved = centres[:, None] + steps[:, None] * vector  # (N, S, Z)
        sentences = self.decode(moved.reshape(-1, latent_size), seed, **generation_kwargs)
        each = len(sentences) // max(1, len(centres))
        edited = [sentences[i * each : (i + 1) * each] for i in range(len(centres))]
        return edited[0] if isinstance(texts, str) else edited
