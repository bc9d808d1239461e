"""Every example runs, on a small checkpoint and few texts."""

import json
import re
import runpy
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from modeling_seqvae import SeqVAE
from modeling_seqvae.training.recipe import resolve

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ["--set", "model.hidden_size=8", "--set", "model.embedding_size=8", "--set", "training.epochs=1"]
SHORT = ["--set", "pretraining.training.epochs=1"]
FEW = ["--limit", "train=80", "--limit", "validation=20", "--limit", "test=20"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """run(name, *arguments): what an example prints."""

    def printed(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            assert not end.code
        return capsys.readouterr().out

    return printed


def run_notebook(path: Path) -> str:
    """Run the code cells of a notebook one after the other, as a kernel would; the value of the last line of each."""
    names: dict[str, Any] = {}
    values = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, "clear the outputs before committing"
            *lines, last = "".join(cell["source"]).splitlines()
            try:
                code = compile(last, str(path), "eval")
            except SyntaxError:
                exec("\n".join([*lines, last]), names)
            else:
                exec("\n".join(lines), names)
                values.append(eval(code, names))
    return repr(values)


@pytest.mark.parametrize("path", sorted((EXAMPLES / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_ablation_changes_a_method_of_ours_in_one_place(path: Path) -> None:
    base = "unigram_pretraining" if path.stem == "no_pretraining" else yaml.safe_load(path.read_text("utf-8"))["base"]
    recommended, changed = resolve(base, "demo"), resolve(str(path), "demo")
    if path.stem == "no_pretraining":
        assert (changed.model, changed.training, changed.pretraining) == (recommended.model, recommended.training, None)
        return
    before, after = (
        {
            (part, section, name): value
            for part, fields in (("run", recipe), ("pretraining", recipe["pretraining"] or {}))
            for section in ("model", "training")
            for name, value in fields.get(section, {}).items()
        }
        for recipe in (recommended.model_dump(), changed.model_dump())
    )
    # epochs that are given leave no `updates` to bound them
    assert sum(before.get(field) != value is not None for field, value in after.items()) == 1


def test_train(run: Any, tmp_path: Path) -> None:
    place = ["--corpus", "demo", "--output-dir", str(tmp_path / "run")]
    assert "best epoch 1" in run("train", *place, *SMALL, *SHORT, *FEW)


def test_train_with_hf_trainer(run: Any, tmp_path: Path) -> None:
    printed = run("train_with_hf_trainer", str(tmp_path / "run"), *SMALL, *FEW)
    assert "nats per sentence" in printed and "written from the prior" in printed
    assert SeqVAE.from_pretrained(tmp_path / "run" / "best").encode(["the food"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--method", "unigram_pretraining"), "not trained by -ELBO alone"),
        (("--preset", "small"), "one for sgd: choose another preset"),
    ],
    ids=str,
)
def test_the_hf_trainer_refuses_recipes_that_it_cannot_follow(monkeypatch, tmp_path, arguments, told) -> None:
    monkeypatch.setattr(sys, "argv", ["train_with_hf_trainer", str(tmp_path / "run"), *arguments, *FEW])
    with pytest.raises(SystemExit, match=told):
        runpy.run_path(str(EXAMPLES / "train_with_hf_trainer.py"), run_name="__main__")


def test_encode_for_classification(run: Any) -> None:
    printed = run("encode_for_classification", "--train", "100", "--test", "50", "--label", "topic")
    assert printed.count("of topic correct") == 4 and "TF-IDF" in printed


def test_latent_space_tour(run: Any) -> None:
    printed = run("latent_space_tour", "--texts", "200")
    for heading in (
        "Reconstructions",
        "A spherical path",
        "Nearest reviews, euclidean",
        "Towards five stars, logistic",
    ):
        assert f"\n{heading}\n" in printed
    assert len(printed.splitlines()) > 40


def test_serve_answers_many_at_once_as_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP, from threads: encodings, likelihoods and seeded sentences equal those of calls made alone."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    checkpoint = EXAMPLES.parent / "model_cards" / "demo-unigram-pretraining"
    monkeypatch.setenv("SEQVAE", str(checkpoint))
    served = runpy.run_path(str(EXAMPLES / "serve.py"))["app"]
    server = uvicorn.Server(uvicorn.Config(served, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def ask(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    vae = SeqVAE.from_pretrained(checkpoint)
    texts = ["the soup was warm .", "", "our room seemed cold and the staff was rude .", "the bread"]
    asked: list[tuple[str, dict[str, Any], Any]] = []
    for i in range(8):
        some = texts[i % 4 :] + texts[: i % 4]
        asked.append(("/encode", {"texts": some}, vae.encode(some, "mean").tolist()))
        asked.append(("/nll", {"texts": some}, vae.nll(some, 50).tolist()))
        alone = vae.sample(3, i, prompt="the soup", max_new_tokens=60)
        asked.append(("/sample", {"count": 3, "seed": i, "prompt": "the soup"}, alone))
    try:
        with ThreadPoolExecutor(12) as pool:
            for found, (path, _, expected) in zip(pool.map(lambda one: ask(*one[:2]), asked), asked, strict=True):
                assert found == expected if path == "/sample" else np.allclose(found, expected, atol=1e-4), path
        for wrong in ({"texts": ["a"] * 257}, {"texts": ["a" * 2001]}, {"text": "a"}, {"texts": ["\ud800"]}):
            with pytest.raises(urllib.error.HTTPError, match="422"):
                ask("/encode", wrong)
    finally:
        server.should_exit = True
        thread.join(10)


def test_share_on_the_hub_shows_what_it_would_share(run: Any) -> None:
    printed = run("share_on_the_hub")
    for name in ("model.safetensors", "pipelines.py", "tokenizer.json"):
        assert name in printed
    assert "not shared" in printed and "32 features a text" in printed


def test_the_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(EXAMPLES)
    values = run_notebook(EXAMPLES / "latent_space.ipynb")
    printed = capsys.readouterr().out
    assert "(3, 32)" in values and "spherical\n" in printed and "+2  " in printed


@pytest.mark.parametrize("document", ["latent_space.md", "pipelines.md"])
def test_the_snippets_of_the_documents(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    (snippet,) = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "docs" / document).read_text("utf-8"), re.DOTALL)
    exec(snippet, {})


def test_every_example_has_a_test() -> None:
    names = [*globals(), *(path.stem for path in Path(__file__).parent.glob("test_*.py"))]
    tested = {name.removeprefix("test_") for name in names if name.startswith("test_")}
    for path in EXAMPLES.glob("*.py"):
        assert any(name.startswith(path.stem) for name in tested), path.name
