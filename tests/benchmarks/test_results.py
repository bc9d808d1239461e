"""What is kept of runs, and that the tables can be made again from it."""

import json
from pathlib import Path

import pytest
import results

from modeling_seqvae.reproduce.runner import document_again


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The demo's table, kept anew from what is kept, with a weights folder and a lock beside one of the runs."""
    source = tmp_path / "out" / "demo"
    for path in sorted((results.REPRODUCED / "demo").rglob("*")):
        if path.is_file():
            copy = source / path.relative_to(results.REPRODUCED / "demo")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    run = source / "seqvae" / "demo" / "seed0"
    (run / "best").mkdir()
    (run / "best" / "model.safetensors").write_bytes(b"weights")
    (run / ".lock").touch()
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("limits: {}\n", "limits: {}\ndata_dir: /home/me/texts\n"))
    assert "data_dir" in recipe.read_text("utf-8")
    return results.keep_target(source / "table1.json", tmp_path / "kept")


def test_the_document_is_made_again_from_what_is_kept(kept):
    assert document_again(kept) == document_again(results.REPRODUCED / "demo" / "table1.json")


def test_weights_and_places_are_left_behind(kept):
    files = [path for path in kept.parent.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".yaml"}
    assert not any("data_dir" in path.read_text("utf-8") for path in files)


def test_runs_that_are_not_beside_the_target_are_missed(tmp_path):
    made = tmp_path / "demo" / "table1.json"
    made.parent.mkdir()
    made.write_bytes((results.REPRODUCED / "demo" / "table1.json").read_bytes())
    with pytest.raises(ValueError, match="seed0 holds nothing to keep"):
        results.keep_target(made, tmp_path / "kept")


def test_the_run_of_another_command_is_kept_under_its_name(tmp_path):
    run = results.RESULTS / "ptb" / "max_pool"
    results.keep_run(run, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {path.name for path in run.iterdir()}
    assert json.loads((tmp_path / "kept" / "evaluation.json").read_text("utf-8"))["corpus"] == "ptb"
