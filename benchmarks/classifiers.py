"""How well labels are read from the features of trained encoders.

    python benchmarks/classifiers.py RUN RUN --corpus yelp_sentiment yelp_stars --data-dir DIR --limit train=20000
    python benchmarks/classifiers.py RUN RUN      # each on the corpus that it was trained on

For each corpus: logistic regression and the paper's MLP on [mean ; variance] of every run's best model, beside TF-IDF
with logistic regression and the commonest class. With --untrained each encoder also as it was before training, to tell
what training adds to its shape. The figures go to docs/performance/classifiers.json, where those of other corpora stay;
benchmarks/report.py makes the tables.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import write_report
from report import classifiers_on

from modeling_seqvae import SeqVAE, SeqVAEForTextModeling
from modeling_seqvae.data.corpora import Corpus, load_corpus
from modeling_seqvae.data.corpus_spec import SPLITS, CorpusSpec
from modeling_seqvae.evaluation.classify import classify, require_labels
from modeling_seqvae.training.recipe import Recipe, corpus_spec
from modeling_seqvae.training.run_directory import require_history

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "performance" / "classifiers.json"


def encoder(run: Path) -> dict[str, Any]:
    """What a run's best model is: its recipe's title, corpus and sizes, and its figures on its validation set."""
    recipe = Recipe.load(run / "recipe.yaml")
    history = require_history(run)
    best = recipe.best_of(history)
    limits = ", ".join(f"first {count:,} of {split}" for split, count in recipe.limits.items())
    return {
        "title": recipe.title,
        "trained_on": recipe.corpus.name + (f" ({limits})" if limits else ""),
        "model": recipe.model,
        "seed": recipe.training.seed,
        "epochs": len(history),
        **{key: best[key] for key in ("epoch", "kl_weight", "bound", "kl", "mi", "au")},
    }


def untrained(vae: SeqVAE, described: Mapping[str, Any]) -> tuple[SeqVAE, dict[str, Any]]:
    """A model as its run's seed made it, with the same words; and what it is."""
    torch.manual_seed(described["seed"])
    fresh = SeqVAE(SeqVAEForTextModeling(vae.model.config).eval(), vae.tokenizer)
    kept = {name: described[name] for name in ("model", "seed")}
    return fresh, {"title": f"{described['title']}, untrained", **kept}


def measure(
    runs: Sequence[Path], corpus: Corpus, batch_size: int, seed: int, with_untrained: bool = False
) -> dict[str, Any]:
    """The report of `classify` on a corpus, and what its encoders are.

    Raises ValueError for two runs of one title, which the table could not tell apart.
    """
    require_labels(corpus)
    encoders = {described["title"]: described for described in map(encoder, runs)}
    if len(encoders) < len(runs):
        raise ValueError(f"two of the runs for {corpus.name} have the same title: give one of each method")
    vaes = {title: SeqVAE.from_pretrained(run / "best") for title, run in zip(encoders, runs, strict=True)}
    for title, vae in list(vaes.items()) if with_untrained else ():
        fresh, described = untrained(vae, encoders[title])
        vaes[described["title"]], encoders[described["title"]] = fresh, described
    report = classify(vaes, corpus, batch_size=batch_size, seed=seed)
    for split in report["splits"].values():
        split["source"] = Path(split["source"]).name  # not where it lies on this machine
    return {"encoders": list(encoders.values()), **report}


def corpora(runs: Sequence[Path], names: Sequence[str]) -> list[tuple[CorpusSpec, list[Path]]]:
    """Which runs are scored on which corpus: all on each that is named, or else each on its own."""
    if names:
        return [(corpus_spec(name), list(runs)) for name in names]
    own = {run: Recipe.load(run / "recipe.yaml").corpus for run in runs}
    specs = {spec.name: spec for spec in own.values()}
    return [(spec, [run for run in runs if own[run].name == name]) for name, spec in specs.items()]


def _limit(text: str) -> tuple[str, int]:
    split, _, count = text.partition("=")
    if split not in SPLITS or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a count for one of {', '.join(SPLITS)}, as in train=20000")
    return split, int(count)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directories of trained runs")
    parser.add_argument("--corpus", nargs="+", default=[], metavar="NAME", help="labelled corpora; default: the runs'")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the files of the corpora are")
    parser.add_argument(
        "--limit", nargs="+", type=_limit, default=[], metavar="SPLIT=COUNT", help="the first documents"
    )
    parser.add_argument("--untrained", action="store_true", help="also each encoder as it was before training")
    parser.add_argument("--batch-size", type=int, default=64, metavar="COUNT", help="texts encoded at a time")
    parser.add_argument("--seed", type=int, default=0, metavar="NUMBER", help="of the MLP")
    given = parser.parse_args()
    for spec, runs in corpora(given.runs, given.corpus):
        corpus = load_corpus(spec, data_dir=given.data_dir, limits=dict(given.limit))
        report = measure(runs, corpus, given.batch_size, given.seed, given.untrained)
        print(f"{classifiers_on(report)}\n")
        known = {each["corpus"]: each for each in json.loads(MEASURED.read_text("utf-8"))} | {corpus.name: report}
        write_report(MEASURED, [known[name] for name in sorted(known)])


if __name__ == "__main__":
    _main()
