"""What an update and an evaluation of each system take, as multiples of SeqVAE's.

    python benchmarks/costs.py [--methods sa_vae,vmf] [--corpus demo] [--preset NAME] [--data-dir DIR]

Every method trains in a process of its own on the same batches, a few updates at a time, in turns with the others; then
each evaluates the validation set, in turns as well. A ratio is the median over rounds of the two within a round, which
no drift of the machine changes. A stage before the run, such as a pretraining, is not counted.

Writes docs/performance/costs.json; benchmarks/report.py makes the table.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import Machine, write_report
from turns import Turns, take_turns

from modeling_seqvae.training.recipe import Recipe, resolve

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "seqvae"
METHODS = ("lstm_lm", "max_pool", "minimum_rate", "vmf", "dilated_cnn", "hybrid", "sa_vae")


def ratios(found: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """The median, and the lowest and highest, of what each round took against the baseline's."""
    each = [mine / other for mine, other in zip(found, baseline, strict=True)]
    return {"median": median(each), "lowest": min(each), "highest": max(each)}


def rows(recipes: dict[str, Recipe], found: Turns) -> list[dict[str, Any]]:
    """Of each method its title, and what it takes of the baseline's time."""
    return [
        {
            "method": method,
            "title": recipe.title,
            "update": ratios(found.per_word[method], found.per_word[BASELINE]),
            "evaluation": ratios(found.per_evaluation[method], found.per_evaluation[BASELINE]),
        }
        for method, recipe in recipes.items()
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=lambda names: names.split(","), default=METHODS, metavar="A,B")
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--preset", help="default: the corpus's own")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=2000, help="documents to train on")
    parser.add_argument("--validation", type=int, default=500, help="documents to evaluate")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=40, help="of a turn")
    parser.add_argument("--evaluations", type=int, default=5, help="of each method")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance" / "costs.json")
    return parser.parse_args()


def _main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)  # which is what the report tells of the machine
    limits = {"train": given.train, "validation": given.validation}
    recipes = {
        method: resolve(method, given.corpus, given.preset, limits=limits)
        for method in dict.fromkeys([BASELINE, *given.methods])
    }
    found = take_turns(recipes, given.data_dir, given.threads, given.rounds, given.updates, given.evaluations)
    batches, words = found.epochs[BASELINE]
    report = {
        "machine": asdict(Machine.of(torch.device("cuda" if torch.cuda.is_available() else "cpu"))),
        "corpus": given.corpus,
        "batch_size": recipes[BASELINE].training.batch_size,
        "rounds": given.rounds,
        "updates": given.updates,
        "validation": given.validation,
        "seconds": {
            "update": median(found.per_word[BASELINE]) * words / batches,
            "evaluation": median(found.per_evaluation[BASELINE]),
        },
        "rows": rows(recipes, found),
    }
    write_report(given.output, report)
    print(f"written: {given.output}")


if __name__ == "__main__":
    _main()
