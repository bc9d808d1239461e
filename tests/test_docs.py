"""The documents tell the truth: their snippets run, their tables are what the command prints, their links exist."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


def run_in_checkout(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_snippet_of_the_readme_prints_the_accuracy_it_states():
    first, second = python_blocks("README.md")[:2]
    stated = float(re.search(r"print\(classifier\.score.*# (0\.\d+)", first).group(1))
    printed = run_in_checkout(first + second).splitlines()
    assert float(printed[0]) == pytest.approx(stated, abs=0.005)


def test_the_committed_checkpoint_is_small_and_holds_no_pickle():
    files = list((ROOT / "model_cards" / "demo-max-pool").iterdir())
    assert sum(path.stat().st_size for path in files) < 1 << 20
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors", ".yaml"}


def test_the_tables_are_what_the_command_prints_of_the_committed_results():
    from modeling_seqvae.paper.tables import results_markdown

    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    generated = re.search(r"<!-- seqvae results docs/results -->\n(.*?)\n<!-- end -->", text, re.DOTALL).group(1)
    assert generated.strip() == results_markdown(ROOT / "docs" / "results").strip()


@pytest.mark.parametrize("corpus", ["ptb", "yahoo", "yelp_sentiment"])
def test_the_results_of_the_readme_are_those_of_the_results_page(corpus):
    readme = (ROOT / "README.md").read_text("utf-8")
    section = re.search(rf"<!-- {corpus} -->\n(.*?)\n<!-- end -->", readme, re.DOTALL).group(1)
    assert section.strip() in (ROOT / "docs" / "results.md").read_text("utf-8")


def test_the_committed_cards_are_what_the_code_writes_of_the_committed_results():
    generator = runpy.run_path(str(ROOT / "benchmarks" / "cards.py"))
    written = dict(generator["cards"]())
    assert set(written) == set((ROOT / "model_cards").rglob("README.md"))
    for path, text in written.items():
        assert path.read_text("utf-8") == text, f"{path} is out of date: run python benchmarks/cards.py"


def test_the_tables_of_the_performance_page_are_of_the_committed_measurements():
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    text = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert report["page"](text) == text, "out of date: run python benchmarks/report.py"


def test_the_tables_of_classifiers_are_of_the_committed_measurements():
    generator = runpy.run_path(str(ROOT / "benchmarks" / "classifiers.py"))
    for path, text in generator["pages"]():
        assert path.read_text("utf-8") == text, f"{path} is out of date: run python benchmarks/classifiers.py"


def test_the_table_of_edits_is_of_the_committed_measurements():
    page = ROOT / "docs" / "latent_space.md"
    generator = runpy.run_path(str(ROOT / "benchmarks" / "edits.py"))
    measured = json.loads((ROOT / "docs" / "results" / "edits.json").read_text("utf-8"))
    assert generator["page"](measured) == page.read_text("utf-8"), (
        "out of date: run python benchmarks/edits.py --tables"
    )


@pytest.mark.parametrize("target", ["demo/table1", "demo/positions"])
def test_what_was_reproduced_is_what_the_files_it_left_give_again(target):
    from modeling_seqvae.paper.reproduce import document_again

    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    quoted = re.search(rf"<!-- reproduced {target} -->\n(.*?)\n<!-- end -->", text, re.DOTALL).group(1)
    again = document_again(ROOT / "docs" / "reproduced" / f"{target}.json")
    assert quoted.strip() == re.sub(r"!\[.*\]\(.*\)\s*$", "", again).strip()


def test_the_table_of_the_readme_is_of_the_committed_figures():
    from modeling_seqvae.evaluation.table import table
    from modeling_seqvae.paper.demo import COLUMNS

    reports = json.loads((ROOT / "docs" / "results" / "demo" / "demo.json").read_text("utf-8"))
    printed = table([{key: report[key] for key in COLUMNS} for report in reports])
    assert printed in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_fill_in(document):
    assert "@@" not in (ROOT / document).read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document):
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not re.match(r"\w+:", target):
            assert ((ROOT / document).parent / target).exists(), target
