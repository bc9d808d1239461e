"""The documents tell the truth: their snippets run, their tables are what the command prints, their links exist."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import modeling_seqvae
from modeling_seqvae import SeqVAE
from modeling_seqvae.reproduce.request import Request
from modeling_seqvae.reproduce.runner import target_named

ROOT = Path(__file__).resolve().parents[1]
CORPORA = ["arxiv", "yelp_sentiment"]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


def run_in_checkout(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_states_what_its_checkpoints_do():
    first, second, third = python_blocks("README.md")
    stated = re.search(r"# through the latent and back: '(.*)'", first).group(1)
    assert run_in_checkout(first + 'print(vae.reconstruct("I lost my keys this morning."))').strip() == stated
    stated = float(re.search(r"print\(classifier\.score.*# (0\.\d+)", second).group(1))
    assert float(run_in_checkout(second)) == pytest.approx(stated, abs=0.005)
    assert run_in_checkout(third + "print(tuple(nll.shape), posterior.mean.shape[1])").strip() == "(2,) 16"


def test_what_the_readme_says_in_words_is_of_the_kept_results():
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    kept = {name: json.loads((ROOT / f"docs/reproduced/{name}/table6.json").read_text("utf-8")) for name in CORPORA}
    rows = {name: {row["method"]: row for row in content["tables"][0]["rows"]} for name, content in kept.items()}
    ours = [rows["arxiv"][method] for method in ("unigram_pretraining", "unigram_pretraining_long")]
    nats, labels = ([each[field]["mean"] for each in ours] for field in ("kl", "label_mean"))
    lower = [rows["arxiv"]["lstm_lm"]["nll"]["mean"] - each["nll"]["mean"] for each in ours]
    assert f"holds {nats[0]:.0f} or {nats[1]:.0f} nats" in text
    assert f"the field of {labels[0]:.0%} or {labels[1]:.0%} of" in text
    assert f"lowers the NLL by {min(lower):.0f} nats" in text
    short, long = rows["yelp_sentiment"]["unigram_pretraining"]["minutes"], [each["minutes"]["mean"] for each in ours]
    assert f"sentences took {min(short['values']):.0f} to {max(short['values']):.0f} minutes on one core" in text
    assert f"10,000 abstracts {min(long):.0f} to {max(long):.0f} minutes." in text


def test_what_the_page_of_features_says_in_words_is_of_the_kept_results():
    page = " ".join((ROOT / "docs" / "features.md").read_text("utf-8").split())
    said = []
    for name in ("yelp_sentiment", "all/yelp_sentiment", "arxiv", "tripadvisor"):
        rows = json.loads((ROOT / f"docs/reproduced/{name}/table6.json").read_text("utf-8"))["tables"][0]["rows"]
        (ours,) = (row for row in rows if row["method"] == "unigram_pretraining")
        said.append([f"{ours[label]['mean']:.1%}" for label in ("label_mean", "label_pooled")])
    short, every, abstracts, reviews = said
    assert f"(20,000 of Yelp: {short[1]} and {short[0]}; all of them: {every[1]} and {every[0]})" in page
    assert f"(abstracts: `mean` {abstracts[0]}, `pooled` {abstracts[1]}; 3,000 hotel reviews: " in page
    assert f"3,000 hotel reviews: {reviews[0]} and {reviews[1]};" in page


def test_the_path_in_the_readme_is_what_its_command_writes():
    command = r'\$ seqvae interpolate (\S+) \\\n +"(.*)" "(.*)"\n((?:.+\n)+)```'
    block = re.search(command, (ROOT / "README.md").read_text("utf-8"))
    checkpoint, start, end, path = block.groups()
    assert SeqVAE.from_pretrained(ROOT / checkpoint).interpolate(start, end) == path.splitlines()


def test_the_edit_and_the_analogy_on_their_page_are_what_its_example_prints():
    printed = run_in_checkout(python_blocks("docs/latent_space.md")[0]).splitlines()
    stated = re.search(r"The last lines.*\n\n```\n((?:.+\n)+)```", (ROOT / "docs/latent_space.md").read_text("utf-8"))
    assert printed[-3:] == stated.group(1).splitlines()


@pytest.mark.parametrize(
    ("name", "mebibytes"),
    [("demo-max-pool", 1), ("demo-unigram-pretraining", 1), ("sentences-unigram-pretraining", 12)],
)
def test_the_committed_checkpoints_are_small_and_hold_no_pickle(name, mebibytes):
    files = list((ROOT / "model_cards" / name).iterdir())
    assert sum(path.stat().st_size for path in files) < mebibytes << 20
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors", ".yaml"}


def test_the_tables_of_results_are_of_the_committed_files():
    generator = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))
    for path, text in generator["pages"]():
        assert path.read_text("utf-8") == text, f"{path} is out of date: run python benchmarks/results.py"


def test_every_table_that_was_reproduced_is_shown():
    shown = (ROOT / "docs" / "results.md").read_text("utf-8")
    reproduced = ROOT / "docs" / "reproduced"
    for made in sorted(reproduced.rglob("*.json")):
        if "target" in json.loads(made.read_text("utf-8")):
            name = made.relative_to(reproduced).with_suffix("").as_posix()
            assert f"<!-- reproduced {name} -->" in shown, f"docs/results.md has no region for {name}"


def test_a_kept_table_has_the_figures_that_are_kept_beside_it():
    reproduced = ROOT / "docs" / "reproduced"
    for made in sorted(reproduced.rglob("*.json")):
        content = json.loads(made.read_text("utf-8"))
        if "target" in content:
            report = target_named(content["target"]).report(Request.from_dict(content["request"]), made.parent.parent)
            now = json.loads(json.dumps(report.as_dict()["tables"]))
            assert now == content["tables"], f"{made}: a measurement behind it no longer counts, or has changed"


def test_the_committed_cards_are_what_the_code_writes_of_the_committed_results():
    generator = runpy.run_path(str(ROOT / "benchmarks" / "cards.py"))
    written = dict(generator["cards"]())
    assert set(written) == set((ROOT / "model_cards").rglob("README.md"))
    for path, text in written.items():
        assert path.read_text("utf-8") == text, f"{path} is out of date: run python benchmarks/cards.py"


def test_the_page_for_python_is_of_the_code():
    api = runpy.run_path(str(ROOT / "benchmarks" / "api.py"))
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert api["reference"]() in page, "out of date: run python benchmarks/api.py"
    entries = page.split("### ")[1:]
    assert {entry.splitlines()[0].strip("`") for entry in entries} >= set(modeling_seqvae.__all__)
    imports = "\n".join(re.findall(r"^`(from .* import .*)`$", page, re.MULTILINE))
    exec(imports, {})
    for entry in entries:
        assert len(entry.strip().splitlines()) > 4, f"an entry without a docstring: {entry}"
    used = r"from (modeling_seqvae\S*) import ([A-Za-z_, ]+)"
    guides = [ROOT / document for document in DOCUMENTS] + sorted((ROOT / "examples").glob("*.py"))
    for path in guides:
        for module, names in re.findall(used, path.read_text("utf-8")):
            for name in names.split(", ") if module != "modeling_seqvae.cli" else ():
                there = rf"^from {module}( import .*\b{name}\b|\.{name} import)"
                assert re.search(there, imports, re.MULTILINE), f"{path}: {name}"


def test_the_tables_of_the_performance_pages_are_of_the_committed_measurements():
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    texts = [path.read_text("utf-8") for path in report["PAGES"]]
    for text in texts:
        assert report["page"](text) == text, "out of date: run python benchmarks/report.py"
    for name in report["TABLES"]:
        assert sum(f"<!-- {name} -->" in text for text in texts) == 1, f"{name} is shown once"


def test_what_the_demonstration_prints_is_of_the_committed_figures():
    from modeling_seqvae.evaluation.table import table
    from modeling_seqvae.reproduce.demonstration import COLUMNS

    reports = json.loads((ROOT / "docs" / "results" / "demo" / "demo.json").read_text("utf-8"))
    printed = table(reports, columns=COLUMNS)
    assert printed in (ROOT / "docs" / "results.md").read_text("utf-8")


def test_the_spread_of_the_demonstration_is_that_of_its_committed_seeds():
    from modeling_seqvae.reproduce.request import paper_settings

    table = json.loads((ROOT / "docs" / "reproduced" / "demo" / "table1.json").read_text("utf-8"))["tables"][0]
    variances = [row["nll"]["sd"] ** 2 for row in table["rows"]]
    spread = (sum(variances) / len(variances)) ** 0.5
    assert paper_settings("demo")["nll_spread"] == pytest.approx(spread, abs=0.005)


SBATCH = """#!/bin/bash
# Runs what SLURM would run; notes the dependencies.
last=0
for word in "$@"; do
    case "$word" in
        --array=*) last=${word#--array=1-} ;;
        --dependency=*) echo "$word" >> calls ;;
    esac
done
wrapped="${@: -1}"
number=$(($(cat number 2> /dev/null || echo 0) + 1)); echo $number | tee number
if [ $last = 0 ]; then sh -c "$wrapped"; else
    for task in $(seq 1 $last); do SLURM_ARRAY_TASK_ID=$task sh -c "$wrapped"; done
fi
"""
SEQVAE = """#!/bin/bash
case "$*" in *--print-commands*) cat missing ;; *) printf '<%s> ' "$@" >> calls; echo >> calls ;; esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
@pytest.mark.parametrize("trained", [False, True])
def test_the_slurm_script_runs_every_printed_line_and_then_the_command(tmp_path, trained):
    (script,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "reproducing.md").read_text("utf-8"), re.DOTALL)
    lines = ["seqvae train --output-dir 'my runs/a' --resume", "seqvae train --output-dir b --resume"]
    measured = ["seqvae evaluate 'my runs/a'", "seqvae reproduce table6 --step a/labels.json"]
    (tmp_path / "missing").write_text("".join(f"{line}\n" for line in ([] if trained else lines) + measured))
    for name, content in (("submit.sh", script), ("sbatch", SBATCH), ("seqvae", SEQVAE)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "submit.sh", "table6", "--output-dir", "my runs"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    trainings = ["<train> <--output-dir> <my runs/a> <--resume> ", "<train> <--output-dir> <b> <--resume> "]
    measurements = ["<evaluate> <my runs/a> ", "<reproduce> <table6> <--step> <a/labels.json> "]
    after = [] if trained else [*trainings, "--dependency=afterany:1"]
    end = [f"--dependency=afterany:{1 if trained else 2}", "<reproduce> <table6> <--output-dir> <my runs> "]
    assert (tmp_path / "calls").read_text().splitlines() == [*after, *measurements, *end]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_fill_in(document):
    assert "@@" not in (ROOT / document).read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document):
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not re.match(r"\w+:", target):
            assert ((ROOT / document).parent / target).exists(), target
