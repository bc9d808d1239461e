"""Loading over real HTTP, with the package and without it; and what a refusal or a cut gives."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors

from modeling_seqvae.sharing import add_code

CHECKPOINT = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoint-v1"
EXPECTED = json.loads((CHECKPOINT / "expected.json").read_text("utf-8"))
TEXTS = EXPECTED["texts"]

LOAD = """
from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained(name, **options)
result = vae.encode(texts).tolist()
"""


@pytest.fixture(scope="session")
def with_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint with its code beside it."""
    folder = tmp_path_factory.mktemp("shared") / "my-model.v1"
    shutil.copytree(CHECKPOINT, folder)
    add_code(folder)
    return folder


def is_expected(features: Any, within: float = 1e-4) -> bool:
    """Whether features of the texts are those that the checkpoint gave when it was saved."""
    return bool(np.abs(np.array(features) - np.array(EXPECTED["encoded"])).max() < within)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def load(package: Any) -> Callable[..., Any]:
    """load(name, option=...): features of the texts, by a model of the hub."""

    return lambda name, **options: package(LOAD, name=name, texts=TEXTS, options=options)


@pytest.fixture
def not_loaded(package: Any) -> Callable[..., Exception]:
    """not_loaded(name, option=...): what is raised instead."""

    def raised(name: str, **options: Any) -> Any:
        with pytest.raises(Exception) as caught:
            package(LOAD, name=name, texts=TEXTS, options=options)
        return caught.value

    return raised


def test_with_the_package_every_way_loads_its_own_classes(hub: Any, package: Any, with_code: Path) -> None:
    """Also where the repository carries code, and is trusted."""
    hub.add("user/plain", files_of(CHECKPOINT))
    hub.add("user/with-code", files_of(with_code))
    code = """
import torch
from modeling_seqvae import SeqVAE, SeqVAEForTextModeling, SeqVAEModel
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

result = []
for name in ("user/plain", "user/with-code"):
    for options in ({}, {"trust_remote_code": True}):
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        models = [loader.from_pretrained(name, **options).eval() for loader in
                  (AutoModel, AutoModelForSeq2SeqLM, SeqVAEModel, SeqVAEForTextModeling)]
        models.append(SeqVAE.from_pretrained(name, **options).model)
        for model in models:
            posterior = model.encode(**inputs)
            classes = [type(model), type(model.config), type(AutoConfig.from_pretrained(name, **options))]
            features = torch.cat([posterior.mean, posterior.variance], 1).tolist()
            result.append([features, [cls.__module__ for cls in classes]])
"""
    results = package(code, texts=TEXTS)
    assert len(results) == 20
    own = "modeling_seqvae.configuration_seqvae"
    for features, modules in results:
        assert is_expected(features)
        assert modules == ["modeling_seqvae.modeling_seqvae", own, own]
    assert not any(path.endswith("seqvae.py") for _, path in hub.requests)


def test_a_shared_run_is_found_listed_and_loaded(hub: Any, package: Any, make_run: Any, load: Any) -> None:
    hub.lfs_above = 10_000
    code = """
from huggingface_hub import HfApi, ModelCard, hf_hub_download

code, url, told = seqvae("push", run, "user/found")
card = ModelCard.load("user/found")
result = {
    "code": code,
    "files": HfApi().list_repo_files("user/found"),
    "tree": {entry.path: entry.size for entry in HfApi().list_repo_tree("user/found")},
    "results": [[result.dataset_split, result.metric_type, result.metric_value] for result in card.data.eval_results],
    "recipe": open(hf_hub_download("user/found", "recipe.yaml")).read(),
    "branches": [branch.name for branch in HfApi().list_repo_refs("user/found").branches],
}
"""
    found = package(code, run=make_run(evaluated=True))
    assert found["code"] == 0 and found["branches"] == ["main"]
    assert {"model.safetensors", "README.md", "history.jsonl"} <= set(found["files"])
    assert found["tree"]["model.safetensors"] == (CHECKPOINT / "model.safetensors").stat().st_size
    assert ["test", "nll", 28.75] in found["results"]
    assert "method: attention" in found["recipe"]
    assert is_expected(load("user/found"))
    assert hub.leaked_tokens == []


def test_arguments_do_what_they_do_everywhere(
    hub: Any, package: Any, load: Any, not_loaded: Any, tmp_path: Path
) -> None:
    files = files_of(CHECKPOINT)
    repo = hub.add("user/arguments", files, private=True)
    first = repo.at("main").sha
    repo.commit("main", "broken", dict.fromkeys(files, b""), frozenset())
    repo.commit("good", "a branch", files, frozenset())
    for revision in (first, "good"):
        assert is_expected(load("user/arguments", revision=revision))
    refusal = not_loaded("user/arguments", token="hf_stranger", cache_dir=str(tmp_path / "other"))
    assert refusal.kind == "FileNotFoundError"
    cache = tmp_path / "cache"
    assert is_expected(load("user/arguments", revision="good", cache_dir=str(cache), token="hf_reader"))
    assert list(cache.rglob("model.safetensors"))
    hub.requests.clear()
    assert is_expected(load("user/arguments", revision="good", cache_dir=str(cache), local_files_only=True))
    assert hub.requests == []
    placed = """
import torch
from modeling_seqvae import SeqVAE, SeqVAEForTextModeling

vae = SeqVAE.from_pretrained("user/arguments", revision="good", dtype="bfloat16", device_map="auto")
model = SeqVAEForTextModeling.from_pretrained("user/arguments", revision="good", dtype=torch.bfloat16)
result = [str(vae.model.dtype), str(model.dtype), str(vae.encode(texts).dtype), vae.encode(texts).tolist()]
"""
    *types, encoded = package(placed, texts=TEXTS)
    assert types == ["torch.bfloat16", "torch.bfloat16", "float32"]
    assert is_expected(encoded, within=0.05)


def test_what_may_not_be_read_is_told(hub: Any, not_loaded: Any) -> None:
    files = files_of(CHECKPOINT)
    hub.add("other/gated", files, gated=True)
    hub.add("other/secret", files, private=True)
    later = json.loads(files["config.json"]) | {"format_version": 99, "pooling_mode": ["a", "list"]}
    hub.add("user/later", {**files, "config.json": json.dumps(later).encode()})
    hub.add("user/no-tokenizer", {name: file for name, file in files.items() if not name.startswith("tokenizer")})
    for name, options, kind, words in (
        ("other/gated", {}, "FileNotFoundError", "gated repo"),
        ("other/gated", {"token": False}, "FileNotFoundError", "gated repo"),
        ("other/secret", {}, "FileNotFoundError", "make sure to pass a token"),
        ("other/secret", {"token": False}, "FileNotFoundError", "no SeqVAE checkpoint at 'other/secret'"),
        ("other/nothing", {}, "FileNotFoundError", "no SeqVAE checkpoint at 'other/nothing'"),
        ("user/later", {"revision": "nowhere"}, "FileNotFoundError", "nowhere is not a valid git identifier"),
        ("user/unseen", {"local_files_only": True}, "FileNotFoundError", "find them in the cached files"),
        ("user/later", {}, "ValueError", "reads formats up to 2: install a later version"),
        ("user/no-tokenizer", {}, "FileNotFoundError", "holds a model but no tokenizer that loads"),
    ):
        raised = not_loaded(name, **options)
        assert raised.kind == kind and words in raised.message, (name, options, raised)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_download_that_is_cut_is_resumed_or_told(hub: Any, load: Any, not_loaded: Any, file: str) -> None:
    name = f"user/cut-{file}"
    hub.add(name, files_of(CHECKPOINT))
    hub.cut("GET", f"{name}/resolve/.*/{file}", after=2_000)
    raised = not_loaded(name)
    assert raised.kind == "ConnectionError" and f"the hub hung up while {name} was on its way" in raised.message
    hub.faults.clear()
    hub.cut("GET", f"{name}/resolve/.*/{file}", after=1_000, times=2)
    assert is_expected(load(name))
    assert hub.faults[0].times == 0


ALONE = """
import os
import sys

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module
import torch

trusted = {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained(name, **trusted)
inputs = tokenizer(texts, return_tensors="pt", padding=True)
model = AutoModelForSeq2SeqLM.from_pretrained(name, **trusted).eval()
base = AutoModel.from_pretrained(name, **trusted).eval()
vae = get_class_from_dynamic_module("text.SeqVAE", name).from_pretrained(name)
posteriors = [model.encode(**inputs), base.encode(**inputs)]
vae.save_pretrained(again + "-strings/best")  # as a run has it
model.save_pretrained(again)
tokenizer.save_pretrained(again)
saved = AutoModelForSeq2SeqLM.from_pretrained(again, **trusted).eval()
posteriors.append(saved.encode(**inputs))
result = {
    "encoded": [torch.cat([posterior.mean, posterior.variance], 1).tolist() for posterior in posteriors],
    "bounds": model.iw_nll(**inputs, num_samples=1).tolist(),
    "words": tokenizer.batch_decode(model.sample(3, max_length=12)),
    "strings": type(vae).from_pretrained(again + "-strings").encode(texts).tolist(),
    "nll": vae.nll(texts, num_samples=20).tolist(),
    "sampled": vae.sample(2, seed=0, max_length=12),
    "reconstructed": vae.reconstruct(texts, max_length=8),
    "modules": [type(thing).__module__ for thing in (model, base, vae, AutoConfig.from_pretrained(name, **trusted))],
    "imported": "modeling_seqvae" in sys.modules,
}
"""


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_without_the_package_a_checkpoint_loads_by_the_code_it_carries(
    hub: Any, stranger: Any, with_code: Path, tmp_path: Path, place: str
) -> None:
    with pytest.raises(Exception, match="No module named 'modeling_seqvae'"):
        stranger("import modeling_seqvae")
    hub.add("user/alone", files_of(with_code), private=True)
    name = "user/alone" if place == "hub" else str(with_code)
    found = stranger(ALONE, name=name, texts=TEXTS, again=str(tmp_path / "again"))
    for encoded in (*found["encoded"], found["strings"]):
        assert is_expected(encoded)
    assert found["nll"] == pytest.approx(EXPECTED["nll"], abs=1e-3)
    assert len(found["bounds"]) == len(found["words"]) == 3
    assert found["sampled"] == EXPECTED["sampled"] and found["reconstructed"] == EXPECTED["reconstructed"]
    assert all(module.startswith("transformers_modules.") for module in found["modules"]) and not found["imported"]


def test_without_trust_no_code_runs(hub: Any, stranger: Any, with_code: Path) -> None:
    hub.add("user/untrusted", files_of(with_code))
    code = """
from transformers import AutoModel
result = AutoModel.from_pretrained("user/untrusted", trust_remote_code=False)
"""
    with pytest.raises(Exception, match="trust_remote_code=True"):
        stranger(code)
    assert not any(path.endswith("seqvae.py") for _, path in hub.requests)


LATER = """
import sys
from transformers import AutoModel

name, checkout = sys.argv[1:]
before = AutoModel.from_pretrained(name, trust_remote_code=True)
sys.path.insert(0, checkout)
import modeling_seqvae

after = [AutoModel.from_pretrained(name, trust_remote_code=trusted) for trusted in (True, None)]
print(*(type(model).__module__ for model in (before, *after)))
"""


def test_the_package_takes_over_from_the_copy_once_it_is_imported(
    hub_environment: Any, with_code: Path, tmp_path: Path
) -> None:
    environment = hub_environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", LATER, str(with_code), str(CHECKPOINT.parents[2])]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, *after = done.stdout.split()
    assert before.startswith("transformers_modules.") and after == ["modeling_seqvae.modeling_seqvae"] * 2


VECTORIZER = """
import joblib
from sklearn.base import clone
from modeling_seqvae.evaluation.sklearn import SeqVAEVectorizer

vectorizer = SeqVAEVectorizer(name)
vectorizers = (vectorizer, clone(vectorizer), vectorizer)
result = [[joblib.hash(each), each.transform(texts).tolist()] for each in vectorizers]
"""


def test_a_vectorizer_is_of_one_commit_and_its_hash_tells_which(hub: Any, package: Any) -> None:
    files = files_of(CHECKPOINT)
    repo = hub.add("user/trained-again", files)
    first = package(VECTORIZER, name="user/trained-again", texts=TEXTS)
    assert len({hashed for hashed, _ in first}) == 1 and all(is_expected(features) for _, features in first)
    weights = {name: 2 * tensor for name, tensor in read_tensors(files["model.safetensors"]).items()}
    changed = files | {"model.safetensors": write_tensors(weights, {"format": "pt"})}
    repo.commit("main", "train again", changed, frozenset())
    second = package(VECTORIZER, name="user/trained-again", texts=TEXTS)
    assert len({hashed for hashed, _ in second}) == 1 and second[0][0] != first[0][0]
    assert not any(is_expected(features) for _, features in second)
