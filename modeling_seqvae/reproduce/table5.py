"""Table 5 (Appendix A): labels read from frozen encoders, against a bi-LSTM that learns them from the words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from accelerate import Accelerator
from sklearn.metrics import confusion_matrix

from ..configuration_seqvae import SeqVAEConfig
from ..data.batching import tokenise, unknown_share_of
from ..data.columns import array_of
from ..data.corpora import load_corpus
from ..data.corpus_spec import CorpusSpec
from ..data.vocabulary import corpus_tokenizer
from ..evaluation.classify import classify, require_labels, scores
from ..evaluation.supervised import EPOCHS, predict, train_classifier
from ..evaluation.table import numbers
from .request import Request, paper_settings, published, rows_of
from .rows import (
    Report,
    Table,
    best_encoder,
    corpus_of,
    encoder_runs,
    findings,
    is_benchmark,
    of_test_set,
    over_seeds,
    seed_by_seed,
    spreads,
    with_missing,
)
from .steps import Inputs, Measurement, Step, Training

UNFINISHED = "unfinished.pt"
"""Where an interrupted bi-LSTM goes on from, in its folder."""
COLUMNS = {
    "title": ("features", "{}"),
    "encoder": ("encoder\ntrained on", "{}"),
    "accuracy": ("accuracy", "{:.1%}"),
    "accuracy_se": ("s.e.", "{:.1%}"),
    "paper_accuracy": ("accuracy\npaper", "{:.1%}"),
    "macro_f1": ("macro-F1", "{:.3f}"),
    "linear_accuracy": ("linear\naccuracy", "{:.1%}"),
    "unknown_share": ("unknown\nwords", "{:.1%}"),
}
FIGURES = ("accuracy", "macro_f1", "linear_accuracy", "unknown_share")
BESIDE = {"TF-IDF": "TF-IDF, logistic regression", "none": "majority class"}
"""Systems that no encoder has a part in, as `classify` names their features."""

SIZES = ("embedding_size", "hidden_size", "encoder_hidden_size")
NOTE = (
    "An encoder's features are the mean and variance of q(z|x), standardised, read by the MLP of Appendix A; the "
    "linear accuracy is a logistic regression's on the same. The bi-LSTM ends in the same MLP and learns its features. "
    "Standard errors are over test documents. Unknown words are those of the test set that the encoder does not know."
)


@dataclass(frozen=True)
class System:
    """A row: its name among the published figures, its title, its encoder's corpus, a measurement for each seed."""

    name: str
    title: str
    encoder: str
    measurements: Sequence[Measurement]


class Table5:
    """Test accuracy on labels: of an MLP on features of frozen encoders, and of a supervised bi-LSTM."""

    summary = "labels read from frozen encoders, one of them trained elsewhere, and by a supervised bi-LSTM"
    draws = False

    def steps(self, request: Request) -> Sequence[Step]:
        systems, corpus = _systems(request), request.read
        if corpus.labelled == "auto":  # its files say whether there are labels: it is learnt before hours of training
            require_labels(load_corpus(corpus, data_dir=request.data_dir, limits=request.limits))
        return seed_by_seed([system.measurements for system in systems])

    def report(self, request: Request, output_dir: Path) -> Report:
        rows: list[dict[str, Any]] = []
        known: list[dict[str, Any]] = []
        systems = _systems(request)
        for system in systems:
            found = findings(system.measurements, output_dir)
            title = with_missing(system.title, len(found), len(system.measurements))
            row: dict[str, Any] = {"name": system.name, "title": title, "encoder": system.encoder}
            row |= spreads(found, FIGURES)
            rows.append(row | {"accuracy_se": fmean(one["accuracy_se"] for one in found) if found else None})
            known += found
        trainings = [training for system in systems for one in system.measurements for training in one.trainings]
        if is_benchmark(trainings, known, output_dir):
            paper = published("table5", request.read.name)
            rows = [row | {"paper_accuracy": _share(paper.get(row["name"], {}).get("accuracy"))} for row in rows]
        for name, title in BESIDE.items():
            rows += [{"name": name, "title": title, **one[name]} for one in known if name in one][:1]
        classes = numbers(one["classes"] for one in known) or "no"
        tested = of_test_set(request, [one["sentences"] for one in known], "documents")
        caption = f"Table 5: {corpus_of(request)}, {classes} classes, {tested}{over_seeds(request)}."
        return Report([Table(caption, COLUMNS, rows)], [NOTE])


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _systems(request: Request) -> list[System]:
    """The bi-LSTM, the encoders of the corpus, and the last method's encoder of another corpus, if there is one."""
    corpus = request.read
    if corpus.labelled is False:
        raise ValueError(
            f"corpus {corpus.name} has no labels to read: take one that has, such as yelp_stars or demo, or name the "
            "column of your file's labels with --label-column"
        )
    runs = [(seeds[0].recipe.method, seeds) for seeds in encoder_runs(request, "table5")]
    bi_lstm = [supervised(request, corpus, training) for training in runs[0][1]]
    named = request.corpus if isinstance(request.corpus, str) else None  # a file of one's own may have any name
    own = paper_settings("rows")["transfer"].get(named)
    other = own if request.transfer is None else request.transfer
    if other == corpus.name:
        raise ValueError(f"--transfer {other} is the corpus itself: name another one, or leave it out")
    if other is not None:  # named as in configuration/paper/published.yaml where it is the paper's
        name = "transfer" if other == own else f"transfer from {other}"
        runs.append((name, request.trainings(request.methods_or(rows_of("table5"))[-1], corpus=other)))
    return [System("bi_lstm", "bi-LSTM, supervised", "–", bi_lstm)] + [
        System(
            name, seeds[0].recipe.title, seeds[0].recipe.corpus.name, [_probed(request, corpus, one) for one in seeds]
        )
        for name, seeds in runs
    ]


def _probed(request: Request, corpus: CorpusSpec, training: Training) -> Measurement:
    settings = of_corpus(request, corpus) | {"seed": training.recipe.training.seed}
    return Measurement(
        f"{training.title}: labels of {corpus.name}",
        training.folder,
        request.measured(f"labels-{corpus.name.replace('/', '_')}"),
        measure_labels,
        settings,
        (training,),
        request.data_dir,
    )


def supervised(request: Request, corpus: CorpusSpec, training: Training) -> Measurement:
    """A bi-LSTM of the sizes of that run's encoder, on the same documents and with the same seed."""
    recipe, (place, _, *rest) = training.recipe, training.folder.parts
    settings = of_corpus(request, corpus) | {
        "model": {name: recipe.model[name] for name in SIZES if name in recipe.model},
        "seed": recipe.training.seed,
        "batch_size": recipe.training.batch_size,
        "epochs": min(EPOCHS, recipe.training.epochs),
    }
    return Measurement(
        f"bi-LSTM, seed {recipe.training.seed}",
        Path(place, "bi_lstm", *rest),
        request.measured("labels"),
        measure_supervised,
        settings,
        data_dir=request.data_dir,
    )


def of_corpus(request: Request, corpus: CorpusSpec) -> dict[str, Any]:
    """The settings of a measurement that say which documents it reads."""
    return {"corpus": corpus.model_dump(mode="json", exclude_defaults=True), "limits": dict(request.limits)}


def measure_labels(inputs: Inputs, corpus: Mapping[str, Any], limits: Mapping[str, int], seed: int) -> dict[str, Any]:
    """What classifiers read from [mean ; variance] of a run's frozen encoder, and what others read without it."""
    vae = best_encoder(inputs.runs[0])
    loaded = load_corpus(CorpusSpec.model_validate(corpus), data_dir=inputs.data_dir, limits=limits)
    report = classify({"encoder": vae}, loaded, seed=seed)
    read = {(system["features"], system["classifier"]): system for system in report["systems"]}
    return {
        **_score(read["encoder", "MLP"]),
        "linear_accuracy": read["encoder", "logistic regression"]["accuracy"],
        "unknown_share": unknown_share_of(tokenise(loaded.splits["test"], vae.tokenizer)),
        "sentences": len(loaded.splits["test"]),
        "classes": len(report["classes"]),
        **{system["features"]: _score(system) for system in report["systems"] if system["features"] in BESIDE},
    }


def measure_supervised(
    inputs: Inputs,
    corpus: Mapping[str, Any],
    limits: Mapping[str, int],
    model: Mapping[str, int],
    seed: int,
    batch_size: int,
    epochs: int,
) -> dict[str, Any]:
    """A bi-LSTM trained on the labels until its validation accuracy stays, and its figures on the test set."""
    loaded = load_corpus(CorpusSpec.model_validate(corpus), data_dir=inputs.data_dir, limits=limits)
    names = require_labels(loaded)
    tokenizer = corpus_tokenizer(loaded.spec, loaded.splits["train"])
    splits = {name: tokenise(rows, tokenizer) for name, rows in loaded.splits.items()}
    config = SeqVAEConfig(vocab_size=len(tokenizer), **model)
    device = Accelerator().device
    trained = train_classifier(
        config, splits["train"], splits["validation"], seed, epochs, batch_size, device, kept=inputs.folder / UNFINISHED
    )
    known, true = np.unique(array_of(splits["train"], "label")), array_of(splits["test"], "label")
    confusion = confusion_matrix(true, predict(trained.classifier, splits["test"]), labels=known)
    return {
        **_score(scores(confusion, names, seed)),
        "unknown_share": unknown_share_of(splits["test"]),
        "sentences": len(splits["test"]),
        "classes": len(names),
        "hidden_size": trained.classifier.lstm.hidden_size,
        "validation_accuracies": trained.accuracies,
    }


def _score(system: Mapping[str, Any]) -> dict[str, float]:
    return {name: system[name] for name in ("accuracy", "accuracy_se", "macro_f1", "macro_f1_se")}
