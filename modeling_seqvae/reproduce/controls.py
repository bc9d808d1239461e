"""The controls of table 6: what reads a corpus's labels without any trained latent. None depends on a method's run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset

from ..configuration_seqvae import SeqVAEConfig
from ..data.batching import tokenise
from ..data.columns import some_of
from ..data.corpora import Corpus, load_corpus
from ..data.corpus_spec import CorpusSpec
from ..data.vocabulary import corpus_tokenizer
from ..evaluation.classify import require_labels
from ..evaluation.reading import labels_from_features, labels_from_lsa, labels_from_words
from ..modeling_seqvae import SeqVAEForTextModeling
from ..noise import seed_torch
from ..training.configuration import method_settings
from .request import Request
from .steps import Inputs, Measurement, Training
from .table5 import of_corpus, supervised

TRAIN_DOCUMENTS = 20_000
"""Training documents, at most, that classifiers are fitted to; of more, this many random ones, the same for all."""

ENCODER = (
    "embedding_size", "encoder", "conv_layers", "hidden_size", "encoder_hidden_size", "num_hidden_layers",
    "latent_size", "pooling_mode", "initializer_range", "embedding_initializer_range",
)  # fmt: skip
"""Fields of a recipe's model that say what its encoder is before training, but for the posterior: a Gaussian."""


@dataclass(frozen=True)
class Control:
    """A row of the controls: its title, where its figures stand in what was measured, a measurement for each seed."""

    name: str
    title: str
    key: str | None  # None: what was measured is the figures themselves
    measurements: Sequence[Measurement]


def controls(request: Request, methods: Sequence[str]) -> list[Control]:
    """The systems that latents of these methods are compared with.

    Untrained encoders are as those of the methods: one for each pooling among them, and for other kinds and
    sizes.
    """
    runs = {method: request.trainings(method) for method in methods}
    first = next(iter(runs.values()))
    words = [_control(request, first[0], "words", "tf-idf", measure_words)]
    found = [Control("majority", "majority class", "none", words)]
    shapes: dict[str, list[Training]] = {}
    for method, seeds in runs.items():
        shapes.setdefault(_shape(method, seeds[0]), seeds)
    for name, seeds in shapes.items():
        measured = [
            _control(request, one, "untrained", name, measure_untrained, {"model": _encoder(one), **_seed(one)})
            for one in seeds
        ]
        for key, what in {"mean": "mean", "pooled": "pooled features"}.items():
            found.append(Control(f"untrained {name}, {key}", f"untrained encoder ({name}): {what}", key, measured))
    for size in dict.fromkeys(seeds[0].recipe.sizes.latent_size for seeds in runs.values()):
        measured = [
            _control(request, one, "words", f"lsa{size}", measure_lsa, {"size": size, **_seed(one)}) for one in first
        ]
        found.append(Control(f"lsa{size}", f"LSA, {size} dimensions", "lsa", measured))
    found.append(Control("tf_idf", "TF-IDF", "TF-IDF", words))
    corpus = request.read
    bi_lstm = [supervised(request, corpus, one) for one in first]
    return [*found, Control("bi_lstm", "bi-LSTM, supervised", None, bi_lstm)]


def _shape(method: str, training: Training) -> str:
    """What tells a method's untrained encoder from others: its pooling, and what else its own file sets of it."""
    own = method_settings(method).get("model", {})
    sizes = [f"{name}={own[name]}" for name in ENCODER if name in own and name != "pooling_mode"]
    config = training.recipe.sizes
    plain = SeqVAEConfig(encoder=config.encoder, pooling_mode=config.pooling_mode)
    options = [f"{name}={value}" for name, value in _options(training).items() if value != getattr(plain, name)]
    return ", ".join([config.pooling_mode, *sizes, *options])


def _encoder(training: Training) -> dict[str, Any]:
    """The fields of a run's encoder, its pooling said in any case."""
    model = training.recipe.model
    sizes = {name: model[name] for name in ENCODER if name in model}
    return {**sizes, "pooling_mode": training.recipe.sizes.pooling_mode, **_options(training)}


def _options(training: Training) -> dict[str, Any]:
    """The options of a run's encoder and aggregation, where these are parts of one's own."""
    return training.recipe.sizes.options_of("encoder", "pooling_mode")


def _seed(training: Training) -> dict[str, int]:
    return {"seed": training.recipe.training.seed}


def _control(
    request: Request,
    training: Training,
    folder: str,
    name: str,
    measure: Any,
    settings: Mapping[str, Any] | None = None,
) -> Measurement:
    """A measurement in a folder beside those of methods, CORPUS/FOLDER/SETTINGS/seedN."""
    place, _, *rest = training.folder.parts
    file = f"labels-{name.replace(', ', '-')}"
    return Measurement(
        f"labels read from {folder} ({name}), seed {training.recipe.training.seed}",
        Path(place, folder, *rest),
        request.measured(file),
        measure,
        of_labels(request) | dict(settings or {}),
        data_dir=request.data_dir,
    )


def of_labels(request: Request) -> dict[str, Any]:
    """The settings of a measurement of labels: which documents it reads, and how many classifiers are fitted to."""
    return of_corpus(request, request.read) | {"documents": TRAIN_DOCUMENTS}


def read_labelled(
    data_dir: Path | None, corpus: Mapping[str, Any], limits: Mapping[str, int], documents: int
) -> tuple[Corpus, Dataset, dict[str, Any]]:
    """A corpus, the training documents that classifiers are fitted to, and what is to be said of them.

    All but the first are the settings that `of_labels` gives to a measurement.

    Raises ValueError for a corpus of which no labels can be learnt.
    """
    loaded = load_corpus(CorpusSpec.model_validate(corpus), data_dir=data_dir, limits=limits)
    names = require_labels(loaded)
    train = some_of(loaded.splits["train"], documents)
    said = {"trained_on": len(train), "available": len(loaded.splits["train"])}
    return loaded, train, said | {"sentences": len(loaded.splits["test"]), "classes": len(names)}


def measure_untrained(inputs: Inputs, model: Mapping[str, Any], seed: int, **texts: Any) -> dict[str, Any]:
    """Labels read from an encoder as a run's seed makes it."""
    loaded, train, said = read_labelled(inputs.data_dir, **texts)
    tokenizer = corpus_tokenizer(loaded.spec, loaded.splits["train"])
    with torch.random.fork_rng([]):
        seed_torch(seed, torch.device("cpu"))  # and no GPU, whose state would not be put back
        fresh = SeqVAEForTextModeling(SeqVAEConfig(vocab_size=len(tokenizer), **model))
    fresh.to(Accelerator().device)
    return labels_from_features(fresh, *(tokenise(rows, tokenizer) for rows in (train, loaded.splits["test"]))) | said


def measure_lsa(inputs: Inputs, size: int, seed: int, **texts: Any) -> dict[str, Any]:
    """Labels read from so many singular vectors of the words."""
    loaded, train, said = read_labelled(inputs.data_dir, **texts)
    return {"lsa": labels_from_lsa(train, loaded.splits["test"], size, seed), **said}


def measure_words(inputs: Inputs, **texts: Any) -> dict[str, Any]:
    """Labels read from the words, and given without reading."""
    loaded, train, said = read_labelled(inputs.data_dir, **texts)
    return {**labels_from_words(train, loaded.splits["test"]), **said}
