"""What one can ask of a model and some texts: maps, neighbours, new sentences, paths, edits, costs of words.

Every method takes what a visitor typed, of any type and size, and refuses what is out of bounds with a ValueError that
says what would be right. Nothing that a visitor asks changes what another one gets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..argument_checks import one_of
from ..evaluation.dimensions import Dimensions, dimensions_of, disentanglement
from ..evaluation.metrics import active_units
from ..evaluation.positions import PieceCost, piece_costs
from ..evaluation.projection import PROJECTIONS, project
from ..latent_space import DIRECTIONS, METRICS, PATHS, Neighbour, direction_between, nearest, two_sides
from ..posteriors import posterior_of
from ..text import SAMPLED_FROM, SeqVAE
from ..text_batches import token_ids

LONGEST = 1_000
"""Characters of a text that a visitor may give."""
LONGEST_PROMPT = 50
"""Tokens that new sentences may be made to begin with."""
MOST_SENTENCES = 30
MOST_STEPS = 21
MOST_NEIGHBOURS = 20
FARTHEST = 10.0
"""Standard deviations of the prior, or multiples of a direction, that a text is moved by at most."""
DRAWS = 64
"""Draws for the costs of a visitor's text."""
DRAWS_OF_MANY = 5
"""Draws for the NLL of every text on the map, which is to take seconds."""


@dataclass
class Explorer:
    """A model beside texts, their labels if they have any, and the history of its run if that is known.

    `source` says where the texts are from, `left_out` how many of them are not here. `best` is the record of the
    history's epoch that the model is of; None: that of the lowest -ELBO. Sentences are written without the
    unknown word, of which nobody learns anything. Raises ValueError for a language model, for no texts, and for
    labels that are not strings or are empty.
    """

    vae: SeqVAE
    texts: list[str]
    labels: list[str] | None = None
    title: str = "a sequence VAE"
    source: str = ""
    left_out: int = 0
    history: Sequence[Mapping[str, Any]] = ()
    best: Mapping[str, Any] | None = None
    _made: dict[str, Any] = field(default_factory=dict, repr=False)
    _locks: dict[str, Any] = field(default_factory=dict, repr=False)
    _guard: Any = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.vae.model.model._require_latent("be explored")
        if not self.texts:
            raise ValueError("there are no texts to draw a map of")
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise ValueError(f"there are {len(self.texts)} texts and {len(self.labels)} labels")
        missing = [i for i, label in enumerate(self.labels or ()) if not (isinstance(label, str) and label)]
        if missing:
            raise ValueError(f"labels[{missing[0]}] is not a name: leave texts without a label out")
        size = self.vae.model.config.latent_size
        both = self.vae.encode(self.texts, "mean_variance")
        self.means: NDArray[np.float32] = both[:, :size]
        self.variances: NDArray[np.float32] = both[:, size:]
        any_posterior = posterior_of(self.vae.model.config)
        at_means = any_posterior.centre is any_posterior.mean
        self.centres: NDArray[np.float32] = self.means if at_means else self.vae.encode(self.texts, "centre")
        self.dimensions: Dimensions = dimensions_of(self.vae, self.means, self.variances)
        self.active = active_units(torch.from_numpy(self.means))
        unknown = self.vae.tokenizer.unk_token_id
        self._options: dict[str, Any] = {} if unknown is None else {"suppress_tokens": [unknown]}
        self.lengths = [len(ids) - 1 for ids in token_ids(self.texts, self.vae.tokenizer)]

    # The map

    def places(self, method: Any = "pca") -> NDArray[np.float64]:
        """Where the texts are on a map, (N, 2), by a method of `projection`."""
        one_of(PROJECTIONS, method, "method")
        return self._once(f"map {method}", lambda: project(self.centres, method))

    @property
    def colours(self) -> dict[str, Callable[[], Sequence[Any]]]:
        """What the texts can be coloured by: names, and functions that give a label or number for each text."""
        labels = self.labels
        own: dict[str, Callable[[], Sequence[Any]]] = {} if labels is None else {"label": lambda: labels}
        return own | {"length": lambda: self.lengths, "NLL": self.nll, "NLL per token": self._nll_per_token}

    def coloured(self, by: Any) -> Sequence[Any]:
        """A label or number for each text. Raises ValueError for another name, and for labels that are not there."""
        if by == "label" and self.labels is None:
            raise ValueError("the texts have no labels to colour them by: name the column with --label-column")
        return one_of(self.colours, by, "colour")()

    def nll(self) -> list[float]:
        """-log p(x) of every text, by DRAWS_OF_MANY draws each."""
        return self._once("nll", lambda: self.vae.nll(self.texts, DRAWS_OF_MANY).tolist())

    def _nll_per_token(self) -> list[float]:
        read = self.vae.tokenizer.model_max_length - 1  # of a longer text the NLL is that of its beginning
        return [nll / min(length, read) for nll, length in zip(self.nll(), self.lengths, strict=True)]

    def text_at(self, position: Any) -> str:
        """The text of a point on the map."""
        return self.texts[_whole(position, "the point", 0, len(self.texts) - 1)]

    def neighbours(self, text: Any, k: Any = 8, metric: Any = "cosine") -> list[Neighbour]:
        """The texts of the map nearest to a text."""
        return self._near(self.vae.encode([_text(text)], "centre"), k, metric)

    def neighbours_at(self, position: Any, k: Any = 8) -> list[Neighbour]:
        """The texts of the map nearest to one of its points, however long the text there is."""
        position = _whole(position, "the point", 0, len(self.texts) - 1)
        return self._near(self.centres[position][None], k, "cosine")

    def _near(self, centre: NDArray, k: Any, metric: Any) -> list[Neighbour]:
        k = _whole(k, "the number of neighbours", 1, MOST_NEIGHBOURS)
        one_of(METRICS, metric, "metric")
        indices, distances = nearest(centre, self.centres, k, metric)
        pairs = zip(indices[0].tolist(), distances[0].tolist(), strict=True)
        return [Neighbour(i, self.texts[i], distance) for i, distance in pairs]

    # Sentences

    def write(
        self,
        count: Any = 8,
        prior: Any = "model",
        temperature: Any = 1.0,
        top_p: Any = 1.0,
        prompt: Any = "",
        seed: Any = None,
    ) -> list[str]:
        """New sentences from the prior or the aggregated posterior, that begin with a prompt.

        The latter is the mixture that came with the checkpoint, or else one that is fitted to the texts and kept.
        """
        count = _whole(count, "the number of sentences", 1, MOST_SENTENCES)
        options = self._options | {
            "temperature": _number(temperature, "the temperature", 0.05, 5.0),
            "top_p": _number(top_p, "top-p", 0.01, 1.0),
        }
        one_of(SAMPLED_FROM, prior, "prior")
        beginning = _text(prompt, "the prompt", empty=True)
        tokens = len(token_ids([beginning], self.vae.tokenizer)[0]) - 2
        if tokens > LONGEST_PROMPT:
            raise ValueError(f"the prompt has {tokens} tokens: at most {LONGEST_PROMPT} are read here")
        if tokens:
            options["prompt"] = beginning
        if prior == "aggregate":
            self._once("aggregate", self._fit)
        return self.vae.sample(count, _seed(seed), prior, **options)

    def _fit(self) -> bool:
        if self.vae.aggregate is None:
            self.vae.fit_aggregate(self.texts)
        return True

    def between(self, a: Any, b: Any, steps: Any = 7, path: Any = "linear") -> list[str]:
        """Sentences on the way from one text to another, both ends included."""
        a, b, steps = _text(a, "the first text"), _text(b, "the second text"), _whole(steps, "steps", 2, MOST_STEPS)
        return self.vae.interpolate(a, b, steps, path=path, **self._options)

    def at(self, a: Any, b: Any, share: Any, path: Any = "linear") -> str:
        """The sentence at one place on the way, 0 at the first text and 1 at the second."""
        a, b, share = _text(a, "the first text"), _text(b, "the second text"), _number(share, "the place", 0.0, 1.0)
        start, end = self.vae.encode([a, b], "centre")
        way = one_of(PATHS, path, "path")(start, end, 101)
        return self.vae.decode(way[round(100 * share)][None], **self._options)[0]

    def traverse(self, text: Any, dimension: Any, reach: Any = 3.0, steps: Any = 7) -> list[tuple[float, str]]:
        """Values of one dimension and the sentences there, the others as at a text, or at 0 without one."""
        text, size = _text(text, empty=True), self.vae.model.config.latent_size
        dimension = _whole(dimension, "the dimension", 0, size - 1)
        reach = _number(reach, "the range", 0.1, FARTHEST)
        values = np.linspace(-reach, reach, _whole(steps, "steps", 2, MOST_STEPS)).tolist()
        return list(zip(values, self.vae.traverse(text or None, dimension, values, **self._options), strict=True))

    def edit(
        self, text: Any, towards: Any, away: Any = None, method: Any = "means", reach: Any = 2.0, steps: Any = 5
    ) -> list[tuple[float, str]]:
        """Strengths, from 0, and the sentences of a text moved that far from one label towards another."""
        text = _text(text)
        reach, steps = _number(reach, "the strength", -FARTHEST, FARTHEST), _whole(steps, "steps", 2, MOST_STEPS)
        strengths = np.linspace(0, reach, steps).tolist()
        direction = self.direction(towards, away, method)
        return list(zip(strengths, self.vae.edit(text, direction, strengths, **self._options), strict=True))

    def direction(self, towards: Any, away: Any = None, method: Any = "means") -> NDArray[np.float32]:
        """The direction (Z,) from the texts of one label, or all others, to those of another."""
        if self.labels is None:
            raise ValueError("the texts have no labels, and without them there is no direction to edit along")
        one_of(DIRECTIONS, method, "method")
        labels, other = self.labels, away or None
        for label in (towards,) if other is None else (towards, other):
            if label not in self.classes():
                raise ValueError(f"there is no label {str(label)[:80]!r}: choose one of the list")

        def find() -> NDArray[np.float32]:
            positions, side = two_sides(labels, len(labels), towards, other)
            return direction_between(self.centres[positions], side, method)

        return self._once(f"direction {towards!r} {other!r} {method}", find)

    def classes(self) -> list[str]:
        """The labels that there are, in order."""
        return sorted(set(self.labels or ()), key=_in_order)

    def coloured_classes(self, most: int) -> tuple[list[str], list[str]]:
        """The first `most` classes, which have a colour of their own on a map, and the others, never one alone."""
        names = self.classes()
        own = len(names) if len(names) <= most + 1 else most
        return names[:own], names[own:]

    # Figures

    def costs(self, text: Any) -> tuple[list[PieceCost], int]:
        """What each word of a text costs, and what z tells of it; and how many tokens at its end are not read."""
        text, limit = _text(text), self.vae.tokenizer.model_max_length
        left_out = max(0, len(token_ids([text], self.vae.tokenizer)[0]) - limit)
        return piece_costs(self.vae, text, DRAWS), left_out

    def disentanglement(self) -> dict[str, Any] | None:
        """MIG and SAP of the labels; None where there are none, or they are too many or too few to measure."""

        def measure() -> dict[str, Any] | None:
            try:
                return disentanglement(self.means, {"label": self.labels or []})
            except ValueError:
                return None

        return self._once("disentanglement", measure) if self.labels else None

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What is made at the first call, by one thread while others wait for it, and is the same for all visitors."""
        with self._guard:
            lock = self._locks.setdefault(name, Lock())
        with lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]


def colour_range(values: Sequence[float]) -> tuple[float, float]:
    """Between which values colours differ: a few long texts would leave one colour for the others."""
    low, high = np.quantile(np.array(values, float), [0.02, 0.98])
    return float(low), float(high)


def _in_order(label: str) -> tuple[bool, float, str]:
    """Numbers by their value, before names."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label


# What visitors may ask for


def _text(text: Any, name: str = "the text", empty: bool = False) -> str:
    """A text of at most LONGEST characters, which may be white space only where `empty`."""
    if text is None and empty:
        return ""
    if not isinstance(text, str):
        raise ValueError(f"{name} must be text")
    if len(text) > LONGEST:
        raise ValueError(f"{name} has {len(text):,} characters: at most {LONGEST:,} are read here")
    if not text.strip():
        if empty:
            return ""
        raise ValueError(f"{name} is empty: write a sentence")
    return text


def _number(value: Any, name: str, least: float, most: float) -> float:
    """A finite number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:,g} to {most:,g}")
    return float(value)


def _whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number within bounds; 3.0, as sliders give it, is one."""
    number = _number(value, name, least, most)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number, got {number:g}")
    return int(number)


def _seed(seed: Any) -> int | None:
    """None, for draws that nobody had, where there is none; a number may come as its digits."""
    if seed is None or seed == "":
        return None
    if isinstance(seed, str):
        seed = int(seed) if seed.strip().isdecimal() and len(seed) <= 16 else None
    return _whole(seed, "the seed", 0, 2**53)
