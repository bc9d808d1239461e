"""Keeps the files behind the documents' tables, and writes the tables.

    python benchmarks/results.py                                  # the tables, from what is kept
    python benchmarks/results.py --pictures                       # and the pictures
    python benchmarks/results.py --target OUT/ptb/table1.json     # first keep what `seqvae reproduce` made it of
    python benchmarks/results.py --target OUT/ptb/table1.json --under fast    # beside another table1 of that corpus
    python benchmarks/results.py --run RUN ptb/max_pool           # first keep a run of `seqvae train`
    python benchmarks/results.py --labels report.json ptb/max_pool    # and what `seqvae classify RUN` read from it

Kept are recipes, histories and the JSON of measurements, without weights and without the places of corpora: of targets
in docs/reproduced, of runs in docs/results. The tables stand in docs/results.md, docs/runs.md, docs/training.md
and README.md.
"""

import argparse
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pages import region_names, with_region

from modeling_seqvae.data.files import dump_yaml, read_yaml, write_json
from modeling_seqvae.evaluation.classify import BASELINES
from modeling_seqvae.evaluation.table import markdown_table
from modeling_seqvae.reproduce.request import Request
from modeling_seqvae.reproduce.results import results_markdown
from modeling_seqvae.reproduce.rows import Spread
from modeling_seqvae.reproduce.runner import document_again, draw_again, in_order, target_named
from modeling_seqvae.reproduce.steps import Training
from modeling_seqvae.training.recipe import Recipe
from modeling_seqvae.training.run_directory import RECIPE, read_history

ROOT = Path(__file__).resolve().parents[1]
PAGE, RUNS = ROOT / "docs" / "results.md", ROOT / "docs" / "runs.md"
FIRST, TRAINING = ROOT / "README.md", ROOT / "docs" / "training.md"
IMAGES = ROOT / "docs" / "images"
RESULTS, REPRODUCED = ROOT / "docs" / "results", ROOT / "docs" / "reproduced"

LABELS = "validation-labels.json"

CORPORA = {"arxiv": "arXiv", "yelp_sentiment": "Yelp", "demo": "demo"}
METHODS = {
    "lstm_lm": "language model",
    "max_pool": "SeqVAE + MaxPool (the paper's pooling)",
    "unigram_pretraining": "MaxPool + unigram pretraining + KL floor",
    "unigram_pretraining_long": "the same with a longer pretraining and a higher floor, for documents",
}
CONTROLS = {
    "untrained encoder": ("untrained", ", mean"),
    "LSA of the same size": ("lsa", ""),
    "TF-IDF": ("tf_idf", ""),
}
"""Corpora and rows of the first page's table, by their titles; of controls, how their names begin and end."""

ELSEWHERE = {
    "10,000 sentences of the Penn Treebank": ("systems/ptb/table1", "unigram_pretraining"),
    "3,000 hotel reviews": ("tripadvisor/table6", "unigram_pretraining"),
    "10,000 hotel reviews, `unigram_pretraining_long`": ("10k/tripadvisor/table6", "unigram_pretraining_long"),
    "99,939 abstracts, one pass after two of pretraining": ("one-pass/arxiv/table6", "short_pretraining"),
    "138,510 sentences of Yelp": ("all/yelp_sentiment/table6", "unigram_pretraining"),
    "238,866 everyday sentences": ("sentences", "unigram_pretraining"),
}
"""Where no setting of the default method was chosen: a kept target or the runs on a corpus, and the method there."""
FLOORS = {
    "238,866 everyday sentences": ("sentences", "unigram_pretraining"),
    "20,000 sentences of Yelp": ("yelp_sentiment/table6", "unigram_pretraining"),
    "138,510 sentences of Yelp, a floor of 3 nats": ("all/yelp_sentiment/table6", "floor_3"),
    "138,510 sentences of Yelp": ("all/yelp_sentiment/table6", "unigram_pretraining"),
    "20,000 synthetic sentences of `demo`": ("demo/table6", "unigram_pretraining"),
    "10,000 sentences of the Penn Treebank": ("systems/ptb/table1", "unigram_pretraining"),
    "10,000 abstracts": ("arxiv/table6", "unigram_pretraining"),
    "10,000 abstracts, `unigram_pretraining_long`, a floor of 12": ("arxiv/table6", "unigram_pretraining_long"),
    "3,000 hotel reviews": ("tripadvisor/table6", "unigram_pretraining"),
}
"""Texts of growing length, as in ELSEWHERE: what a floor costs them."""
BESIDE = {"LSA": "lsa", "TF-IDF": "tf_idf", "bi-LSTM": "bi_lstm", "commonest label": "majority"}
"""Controls of that table, by their titles: how their names begin."""


PICTURES = {
    "demo_table6": "demo/table6",
    "figure3": "demo/figure3",
    "positions": "demo/positions",
    "yelp_table6": "yelp_sentiment/table6",
    "arxiv_table6": "arxiv/table6",
    "arxiv_price": "price/arxiv/table6",
    "arxiv_positions": "arxiv/positions",
    "arxiv_all_table6": "one-pass/arxiv/table6",
    "arxiv_all_positions": "one-pass/arxiv/positions",
    "ptb_figure3": "ptb/figure3",
    "ptb_figure4": "ptb/figure4",
    "ptb_positions": "ptb/positions",
}
"""Pictures of docs/images by the kept targets that they are drawn from; that of features needs the models."""


def keep_target(made: Path, kept: Path = REPRODUCED) -> Path:
    """Copy a TARGET.json, and what it was made of, from OUT/CORPUS into `kept`; returns the copy.

    A measurement may be missing, as in the table. Raises ValueError where the runs behind it are not beside it.
    """
    content, place = json.loads(made.read_text("utf-8")), made.parent.parent
    steps = in_order(target_named(content["target"]).steps(Request.from_dict(content["request"])))
    there = [step for step in steps if isinstance(step, Training) or any((place / step.folder).glob("*.json"))]
    for folder in sorted({step.folder for step in there}):
        keep_run(place / folder, kept / folder)
    copy = kept / made.parent.name / made.name
    shutil.copy(made, copy)
    return copy


def keep_run(run: Path, copy: Path) -> None:
    """Copy the recipe, history and measurements of a run; what is kept of a bi-LSTM is its measurement alone."""
    files = [*run.glob("*.json"), *run.glob("history.jsonl")]
    if not files:
        raise ValueError(f"{run} holds nothing to keep: neither a history nor measurements")
    copy.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, copy / path.name)
    if (run / RECIPE).is_file():
        recipe = read_yaml(run / RECIPE)
        recipe.pop("data_dir", None)  # a place on this machine, as is all but the end of the next
        if recipe.get("encoder_from"):
            recipe["encoder_from"] = "/".join(Path(recipe["encoder_from"]).parts[-2:])
        (copy / RECIPE).write_text(dump_yaml(recipe), "utf-8")


def keep_labels(report: Path, copy: Path) -> None:
    """Beside the run in `copy`, what a logistic regression read from its features; `report` is that of a single run."""
    content = json.loads(report.read_text("utf-8"))
    systems = [each for each in content["systems"] if each["features"] not in BASELINES]
    (system,) = (each for each in systems if each["classifier"] == "logistic regression")
    labels = {name: content[name] for name in ("features", "split")} | {
        "trained_on": content["splits"]["train"]["documents"],
        "documents": content["splits"][content["split"]]["documents"],
    }
    write_json(copy / LABELS, labels | {name: system[name] for name in ("accuracy", "accuracy_se")})


def pages() -> Iterator[tuple[Path, str]]:
    """The documents that show the tables, and what they should be."""
    runs = results_markdown(RESULTS)
    yield RUNS, with_region(RUNS.read_text("utf-8"), "seqvae results docs/results", runs)
    text = PAGE.read_text("utf-8")
    for target in region_names(text, "reproduced "):
        text = with_region(text, f"reproduced {target}", quoted(REPRODUCED / f"{target}.json"))
    for corpus in region_names(text, "results "):
        text = with_region(text, f"results {corpus}", section(runs, corpus))
    text = with_region(text, "pretrainings", pretrainings())
    text = with_region(text, "elsewhere", elsewhere())
    yield PAGE, with_region(text, "gpu", on_a_gpu(runs))
    yield FIRST, with_region(FIRST.read_text("utf-8"), "latents", latents())
    yield TRAINING, with_region(TRAINING.read_text("utf-8"), "floors", floors())


def latents() -> str:
    """What the first page shows of each corpus's table 6: NLL, KL, and the labels read from means."""
    found = {name: REPRODUCED / corpus / "table6.json" for corpus, name in CORPORA.items()}
    tables = {name: json.loads(path.read_text("utf-8"))["tables"] for name, path in found.items() if path.is_file()}
    titles = ["", *(title for name in tables for title in (f"{name}: NLL", "KL", "labels"))]
    rows = [[title] for title in (*METHODS.values(), *CONTROLS)]
    for methods, controls, *_ in tables.values():
        by_method = {each["method"]: each for each in methods["rows"]}
        cells = [_of_method(by_method.get(method, {})) for method in METHODS]
        cells += [["", "", _best(controls["rows"], *name)] for name in CONTROLS.values()]
        for row, more in zip(rows, cells, strict=True):
            row += more
    return markdown_table(titles, rows)


def elsewhere() -> str:
    """What docs/results.md shows of other corpora: NLL minus the language model's, KL, labels beside controls."""
    titles = ["", "NLL minus LM's", "s.e.", "KL", "labels", "by max pooling", *(f"by {name}" for name in BESIDE)]
    return markdown_table(titles, [[title, *_there(*place)] for title, place in ELSEWHERE.items()])


def _there(place: str, method: str) -> list[str]:
    by_method, controls = _figures(place)
    ours, pooled = by_method[method], by_method.get("max_pool", {})
    labels = [_spread(each.get("label_mean"), ".1%") for each in (ours, pooled)]
    beside = (_best(controls, begins) for begins in BESIDE.values())
    return [*_less(ours, by_method.get("lstm_lm")), _spread(ours["kl"], ".1f"), *labels, *beside]


def floors() -> str:
    """What the guide to training shows of a floor: the texts' length, the KL, and NLL minus the language model's."""
    rows = []
    for title, (place, method) in FLOORS.items():
        by_method, _ = _figures(place)
        ours, language_model = by_method[method], by_method["lstm_lm"]
        tokens = _mean(language_model["nll"]) / math.log(_mean(language_model["ppl"]))
        rows.append([title, f"{tokens:.0f}", _spread(ours["kl"], ".1f"), *_less(ours, language_model)])
    return markdown_table(["texts", "tokens each", "KL", "NLL minus LM's", "s.e."], rows)


def _less(ours: Mapping[str, Any], language_model: Mapping[str, Any] | None) -> list[str]:
    """NLL minus the language model's, and the standard error of its estimate in a seed: means over seeds."""
    if language_model is None:
        return ["–"] * 2
    return [f"{_mean(ours['nll']) - _mean(language_model['nll']):+.1f}", f"{_mean(ours['nll_gap_se']):.1f}"]


def _figures(place: str) -> tuple[dict[str, Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """The figures of each method, and the rows of controls, in a kept target or in the runs on a corpus."""
    if (RESULTS / place).is_dir():
        reports = {
            path.parent.name: json.loads(path.read_text("utf-8")) for path in RESULTS.glob(f"{place}/*/evaluation.json")
        }
        return {run: {name: {"values": [each]} for name, each in report.items()} for run, report in reports.items()}, []
    methods, *others = json.loads((REPRODUCED / f"{place}.json").read_text("utf-8"))["tables"]
    controls = [row for each in others for row in each["rows"] if row.get("accuracy")]
    return {row["method"]: row for row in methods["rows"]}, controls


def _mean(figure: Mapping[str, Any]) -> float:
    return fmean(figure["values"])


def _of_method(figures: Mapping[str, Any]) -> list[str]:
    if not figures:  # not run on this corpus
        return [""] * 3
    has_latent = figures.get("label_mean") is not None
    kl = _spread(figures["kl"], ".2f") if has_latent else "–"
    return [_spread(figures.get("nll"), ".2f"), kl, _spread(figures.get("label_mean"), ".1%")]


def _best(controls: Sequence[Mapping[str, Any]], begins: str, ends: str = "") -> str:
    """The highest accuracy among the controls whose names begin and end so."""
    found = [each["accuracy"] for each in controls if each["name"].startswith(begins) and each["name"].endswith(ends)]
    return _spread(max(found, key=lambda accuracy: accuracy["mean"], default=None), ".1%")


def _spread(figure: Mapping[str, Any] | None, form: str) -> str:
    return "–" if figure is None else format(Spread(tuple(figure["values"])), form)


def pretrainings() -> str:
    """The encoders whose labels were read from kept runs: how each was trained, its best epoch, and the labels."""
    rows = []
    for path in RESULTS.glob(f"*/*/{LABELS}"):
        labels, recipe = json.loads(path.read_text("utf-8")), Recipe.load(path.parent / RECIPE)
        best, hidden = recipe.best_of(read_history(path.parent)), recipe.sizes.encoder_word_dropout
        rows.append((recipe.corpus.name, recipe.training.epochs, hidden, best, labels))
    cells = [
        [
            f"`{name}`",
            f"{labels['trained_on']:,}",
            f"{epochs}",
            f"{hidden:g}",
            f"{best['epoch']}",
            f"{best['bound']:.2f}",
            f"{best['kl']:.1f}",
            f"{labels['accuracy']:.1%}",
            f"{labels['accuracy_se']:.1%}",
        ]
        for name, epochs, hidden, best, labels in sorted(rows, key=lambda row: row[:3])
    ]
    titles = ["corpus", "documents", "passes", "hidden", "best", "-ELBO", "KL", "labels", "s.e."]
    return markdown_table(titles, cells)


def on_a_gpu(runs: str, results: Path = RESULTS) -> str:
    """The section of what `python -m benchmarks.gpu` trained; nothing where that has not been."""
    found = {path.parent: json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*-gpu/*/training.json"))}
    if not found:
        return ""
    parts = ["## At the paper's size, on a GPU"]
    for corpus in dict.fromkeys(run.parent.name for run in found):
        rows = [gpu_row(run, training) for run, training in found.items() if run.parent.name == corpus]
        parts += [
            section(runs, corpus),
            markdown_table(list(rows[0]), [list(row.values()) for row in rows], text_columns=2),
        ]
    return "\n\n".join(parts)


def gpu_row(run: Path, training: dict[str, Any]) -> dict[str, str]:
    """How a model was trained, and the labels that can be read from it."""
    history = read_history(run)
    recipe, last = Recipe.load(run / RECIPE), history[-1]
    labels = json.loads((run / "labels.json").read_text("utf-8")) if (run / "labels.json").is_file() else {}
    return {
        "model": recipe.title,
        "on": training["machine"]["processor"],
        "batch": str(recipe.training.batch_size),
        "rate": f"{recipe.training.learning_rate:g}",
        "epochs": f"{last['epoch']} of {recipe.training.epochs}",
        "updates": f"{last['decoder_updates']:,}",
        "minutes": f"{last['seconds'] / 60:.1f}",
        "words/s": f"{last['words_per_second']:,}",
    } | {
        f"label, {name}": f"{labels[name]['accuracy']:.1%}" if labels.get(name) else "–"
        for name in ("mean", "draw", "pooled")
    }


def write() -> Iterator[Path]:
    """Bring the documents up to date; yields which."""
    for path, text in pages():
        path.write_text(text, "utf-8")
        yield path.relative_to(ROOT)


def quoted(made: Path) -> str:
    """A target's document without its picture, which stands elsewhere."""
    return re.sub(r"!\[.*\]\(.*\)\s*$", "", document_again(made)).strip()


def section(runs: str, corpus: str) -> str:
    """The tables of one corpus among those of `results_markdown`."""
    return runs.split(f"### {corpus}\n\n")[1].split("\n\n### ")[0]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", type=Path, default=[], help="a TARGET.json of seqvae reproduce")
    parser.add_argument("--under", default="", metavar="FOLDER", help="of docs/reproduced, for the targets")
    parser.add_argument(
        "--run", action="append", nargs=2, default=[], metavar=("RUN", "NAME"), help="a run, and its CORPUS/METHOD"
    )
    parser.add_argument(
        "--labels", action="append", nargs=2, default=[], metavar=("REPORT", "NAME"), help="of one run, and its name"
    )
    parser.add_argument("--pictures", action="store_true", help="draw those of docs/images again, too")
    arguments = parser.parse_args()
    for made in arguments.target:
        print(keep_target(made, REPRODUCED / arguments.under).relative_to(ROOT))
    for run, name in arguments.run:
        keep_run(Path(run), RESULTS / name)
        print((RESULTS / name).relative_to(ROOT))
    for report, name in arguments.labels:
        keep_labels(Path(report), RESULTS / name)
        print((RESULTS / name / LABELS).relative_to(ROOT))
    for path in write():
        print(path)
    for name, target in PICTURES.items() if arguments.pictures else ():
        draw_again(REPRODUCED / f"{target}.json", IMAGES / f"{name}.png")
        print((IMAGES / f"{name}.png").relative_to(ROOT))


if __name__ == "__main__":
    _main()
