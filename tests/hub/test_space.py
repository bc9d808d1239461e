"""A run's page as a Space: what arrives over HTTP, and that it runs by itself."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from modeling_seqvae.data.columns import labels_of, texts_of
from modeling_seqvae.hub.space import space_contents
from modeling_seqvae.registry import OBJECTIVES
from modeling_seqvae.training.checkpoint import texts_for
from modeling_seqvae.training.configuration import PACKAGE

MakeRun = Callable[..., Path]
PUSH = "result = seqvae('push', *arguments)"
MODEL = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
TEXTS = "review,stars\nthe food was good .,5\nour room was cold,1\nthe staff was warm,5\n,3\n"


@pytest.fixture
def push(package: Any) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments: tuple(package(PUSH, arguments=[str(argument) for argument in arguments]))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(TEXTS)
    return path


def front_matter(card: bytes) -> dict[str, Any]:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card.decode(), re.DOTALL).group(1))


def test_a_space_is_one_commit_apart_from_the_models(hub: Any, push: Any, make_run: MakeRun, texts: Path) -> None:
    run = make_run()
    options = ["--texts", texts, "--text-column", "review", "--label-column", "stars", "--license", "mit"]
    code, output, told = push(run, "user/shown", "--space", *options)
    assert code == 0, told
    commit = hub.repos["spaces/user/shown"].at("main")
    assert output == f"{hub.url}/spaces/user/shown/commit/{commit.sha}\n" and "user/shown" not in hub.repos
    assert "3 texts: everybody who sees the Space can read them" in told
    assert [one.message for one in hub.repos["spaces/user/shown"].branches["main"]] == [
        "initial commit", "Share the page of SeqVAE + Attention on demo",
    ]  # fmt: skip
    files = hub.files("spaces/user/shown")
    assert {f"model/{name}" for name in MODEL} | {"model/recipe.yaml", "model/history.jsonl"} <= set(files)
    assert {"app.py", "requirements.txt", "README.md", "texts.csv", "modeling_seqvae/explore/map.js"} <= set(files)
    assert files["model/model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()
    card = front_matter(files["README.md"])
    assert (card["sdk"], card["app_file"], card["license"]) == ("gradio", "app.py", "mit")
    assert f"gradio=={card['sdk_version']}\n" in files["requirements.txt"].decode()
    assert re.search(r"^torch>=", files["requirements.txt"].decode(), re.M)
    assert b"the food was good ." in files["texts.csv"] and str(run).encode() not in b"".join(
        content for name, content in files.items() if not name.endswith(".safetensors")
    )


def test_a_space_is_replaced_only_when_told_and_loses_what_is_no_longer_written(
    hub: Any, push: Any, make_run: MakeRun, texts: Path
) -> None:
    run = make_run()
    options = ["--texts", texts, "--text-column", "review"]
    assert push(run, "user/again", "--space", *options)[0] == 0
    code, _, told = push(run, "user/again", "--space")
    assert code == 1 and "user/again exists already and holds files" in told
    hub.repos["spaces/user/again"].commit(
        "main", "mine", hub.files("spaces/user/again") | {"notes": b"mine"}, frozenset()
    )
    assert push(run, "user/again", "--space", "--update", "--no-code")[0] == 0
    files = hub.files("spaces/user/again")
    assert files["notes"] == b"mine" and "texts.csv" not in files
    assert not any(name.startswith("modeling_seqvae/") for name in files)
    assert files["requirements.txt"].decode().splitlines()[1].startswith("seqvae==")


def test_a_space_is_private_from_the_start_or_nothing(hub: Any, push: Any, make_run: MakeRun) -> None:
    assert push(make_run(), "user/secret", "--space", "--private", "--no-code")[0] == 0
    assert hub.repos["spaces/user/secret"].private


def test_options_of_the_other_kind_are_refused(hub: Any, push: Any, make_run: MakeRun, texts: Path) -> None:
    run = make_run()
    assert "are for --space" in push(run, "user/no", "--texts", texts)[2]
    assert "push twice" in push(run, "user/no", "--space", "--sentence-transformers", "mean")[2]
    code, output, _ = push(run, "user/no", "--space", "--dry-run")
    assert code == 0 and "sdk: gradio" in output and "app.py" in output and hub.requests == []


def test_the_files_of_a_space_run_by_themselves(
    hub: Any, push: Any, make_run: MakeRun, texts: Path, tmp_path: Path
) -> None:
    """In a folder of their own, where this package is found nowhere else."""
    pytest.importorskip("gradio")
    options = ["--texts", texts, "--text-column", "review", "--label-column", "stars"]
    assert push(make_run(), "user/runs", "--space", *options)[0] == 0
    space = tmp_path / "space"
    for name, content in hub.files("spaces/user/runs").items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_", "GRADIO"))}
    environment = kept | {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["NO_PROXY"] = "127.0.0.1,localhost"
    program = (
        "import sys; sys.path.insert(0, '.'); import modeling_seqvae, os\n"
        "assert os.path.samefile(os.path.dirname(modeling_seqvae.__file__), 'modeling_seqvae')\n"
        "import runpy; runpy.run_path('app.py', run_name='__main__')"
    )
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen([sys.executable, "-c", program], cwd=space, env=environment, stdout=log, stderr=log)
    try:
        config = None
        for _ in range(240):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                config = json.load(urlopen(f"http://127.0.0.1:{port}/config", timeout=10))
                break
            except OSError:
                time.sleep(0.5)
        assert config is not None and config["title"].startswith("SeqVAE + Attention on demo")
        shown = json.dumps(config)
        assert "3 texts: texts.csv" in shown and '"Edit"' in shown
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_texts_of_a_space_are_read_again_as_they_are(make_run: MakeRun, tmp_path: Path) -> None:
    given, shown = tmp_path / "odd.csv", tmp_path / "texts.csv"
    given.write_bytes(b'review,mood\n"one\rline",NA\n"two\nlines",null\n=1+1,NA\nplain,null\n')
    run = make_run()
    files = space_contents(run, texts=given, text_column="review", label_column="mood").files
    shown.write_bytes(files["texts.csv"])
    rows = texts_for(str(run), shown, "text", "label")[0]
    assert list(texts_of(rows)) == ["one\rline", "two\nlines", "=1+1", "plain"]
    assert labels_of(rows) == ["NA", "null", "NA", "null"]


def test_a_file_without_texts_is_refused_before_it_is_shared(make_run: MakeRun, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text("\n  \n")
    with pytest.raises(ValueError, match=r"blank\.txt holds no texts"):
        space_contents(make_run(), texts=blank)


OF_TRAINING = """
from modeling_seqvae.registry import OBJECTIVES

@OBJECTIVES.register("of_a_space")
def of_a_space(output, kl_weight):
    return output.loss
"""


def test_what_the_recipe_names_of_the_training_is_in_a_space_too(make_run: MakeRun, tmp_path: Path) -> None:
    module, run, space = tmp_path / "of_training.py", make_run(), tmp_path / "space"
    module.write_text(OF_TRAINING, "utf-8")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    recipe["imports"], recipe["training"]["objective"] = [str(module)], "of_a_space"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    try:
        files = space_contents(run).files
    finally:
        OBJECTIVES.pop("of_a_space", None)
        sys.modules.pop("of_training", None)
        sys.path[:] = [place for place in sys.path if place != str(tmp_path)]
    (space / "model").mkdir(parents=True)
    for name in ("of_training.py", "model/recipe.yaml"):
        (space / name).write_bytes(files[name])
    program = "from modeling_seqvae.training.recipe import Recipe; print(Recipe.load('model/recipe.yaml').imports)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", program], cwd=space, env=environment, capture_output=True, text=True)
    assert done.stdout == "['of_training']\n", done.stderr
