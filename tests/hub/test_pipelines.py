"""Pipelines over HTTP: shared by a checkpoint, by a pipeline itself and by an example; run without the package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHECKPOINT = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoint-v1"
EXPECTED = json.loads((CHECKPOINT / "expected.json").read_text("utf-8"))
TEXTS = EXPECTED["texts"]

SHARE = """
import sys
import runpy
from modeling_seqvae import SeqVAE
from transformers import pipeline

SeqVAE.from_pretrained(checkpoint).push_to_hub("user/by-strings")
pipeline("seqvae-features", model=checkpoint, device="cpu").push_to_hub("user/by-pipeline")
sys.argv = ["share_on_the_hub.py", checkpoint, "--name", "user/by-example"]
runpy.run_path(example, run_name="__main__")
"""
RUN = """
from transformers import pipeline

features = pipeline("seqvae-features", model=name, trust_remote_code=True, device="cpu")
generation = pipeline("seqvae-generation", model=name, trust_remote_code=True, device="cpu")
features.save_pretrained(again)
saved = pipeline("seqvae-features", model=again, trust_remote_code=True, device="cpu")
result = {
    "encoded": [features(texts, batch_size=2), saved(texts)],
    "written": [one["generated_text"] for (one,) in generation(texts, batch_size=2, max_length=8)],
    "modules": [type(pipe).__module__ for pipe in (features, generation, saved)],
}
"""
REFUSED = """
from transformers import pipeline

pipeline("seqvae-features", model="user/by-strings", trust_remote_code=False)
"""
NO_TASK = """
from transformers import pipeline

pipeline(model="user/by-strings", trust_remote_code=True)
"""


@pytest.fixture
def shared(hub: Any, package: Any) -> Any:
    if "user/by-example" not in hub.repos:
        example = CHECKPOINT.parents[2] / "examples" / "share_on_the_hub.py"
        package(SHARE, checkpoint=CHECKPOINT, example=example)
    return hub


@pytest.mark.parametrize("way", ["strings", "pipeline", "example"])
def test_without_the_package_they_run_by_the_code_a_checkpoint_carries(
    shared: Any, stranger: Any, tmp_path: Path, way: str
) -> None:
    name = f"user/by-{way}"
    assert shared.repos[name].private == (way == "example")
    found = stranger(RUN, name=name, texts=TEXTS, again=str(tmp_path / "again"))
    for encoded in found["encoded"]:
        np.testing.assert_allclose(encoded, EXPECTED["encoded"], atol=1e-4)
    assert found["written"] == EXPECTED["reconstructed"]
    assert all(module.startswith("transformers_modules.") for module in found["modules"])


def test_without_trust_they_do_not(shared: Any, stranger: Any) -> None:
    with pytest.raises(Exception, match="trust_remote_code"):
        stranger(REFUSED)


def test_without_a_task_transformers_names_both(shared: Any, stranger: Any) -> None:
    """A single one it would run, and of two it picks none; it asks for no `pipeline_tag` then."""
    with pytest.raises(Exception, match="Pick one in seqvae-features, seqvae-generation"):
        stranger(NO_TASK)
