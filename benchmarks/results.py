"""Keeps the files behind the documents' tables, and writes the tables.

    python benchmarks/results.py                                  # the tables, from what is kept
    python benchmarks/results.py --target OUT/ptb/table1.json     # first keep what `seqvae reproduce` made it of
    python benchmarks/results.py --target OUT/ptb/table1.json --under fast    # beside another table1 of that corpus
    python benchmarks/results.py --run RUN ptb/max_pool           # first keep a run of `seqvae train`

Kept are recipes, histories and the JSON of measurements, without weights and without the places of corpora: of targets
in docs/reproduced, of runs in docs/results. The tables stand in docs/results.md and docs/runs.md.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pages import region_names, with_region

from modeling_seqvae.reproduce.request import Request
from modeling_seqvae.reproduce.results import results_markdown
from modeling_seqvae.reproduce.runner import document_again, in_order, target_named
from modeling_seqvae.training.run_directory import RECIPE

ROOT = Path(__file__).resolve().parents[1]
PAGE, RUNS = ROOT / "docs" / "results.md", ROOT / "docs" / "runs.md"
RESULTS, REPRODUCED = ROOT / "docs" / "results", ROOT / "docs" / "reproduced"


def keep_target(made: Path, kept: Path = REPRODUCED) -> Path:
    """Copy a TARGET.json, and what it was made of, from OUT/CORPUS into `kept`; returns the copy.

    Raises ValueError where the runs behind it are not beside it.
    """
    content = json.loads(made.read_text("utf-8"))
    steps = target_named(content["target"]).steps(Request.from_dict(content["request"]))
    for folder in sorted({step.folder for step in in_order(steps)}):
        keep_run(made.parent.parent / folder, kept / folder)
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
        text = (run / RECIPE).read_text("utf-8")
        text = re.sub(r"^data_dir:.*\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^encoder_from: .*/(.+/.+)$", r"encoder_from: \1", text, flags=re.MULTILINE)
        (copy / RECIPE).write_text(text, "utf-8")


def pages() -> Iterator[tuple[Path, str]]:
    """The documents that show the tables, and what they should be."""
    runs = results_markdown(RESULTS)
    yield RUNS, with_region(RUNS.read_text("utf-8"), "seqvae results docs/results", runs)
    text = PAGE.read_text("utf-8")
    for target in region_names(text, "reproduced "):
        text = with_region(text, f"reproduced {target}", quoted(REPRODUCED / f"{target}.json"))
    for corpus in region_names(text, "results "):
        text = with_region(text, f"results {corpus}", section(runs, corpus))
    yield PAGE, text


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
    arguments = parser.parse_args()
    for made in arguments.target:
        print(keep_target(made, REPRODUCED / arguments.under).relative_to(ROOT))
    for run, name in arguments.run:
        keep_run(Path(run), RESULTS / name)
        print((RESULTS / name).relative_to(ROOT))
    for path, text in pages():
        path.write_text(text, "utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    _main()
