"""The page over HTTP, without a browser: what it answers, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

import httpx
from gradio_client import Client
from gradio_client.exceptions import AppError

from modeling_seqvae import SeqVAE
from modeling_seqvae.explore.explorer import Explorer
from modeling_seqvae.explore.page import launch, map_value, page, require_gradio

ROOT = Path(__file__).resolve().parents[2]
TEXT = "this bistro was lovely ."
WRITE = ("model", "", 3, 1.0, 1.0)


@pytest.fixture(scope="module")
def url(explorer: Explorer) -> Iterator[str]:
    require_gradio()
    made = page(explorer)
    made.close()
    server = launch(explorer, port=None, prevent_thread_lock=True, quiet=True)
    yield server[1]
    server[0].blocks.close()


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False)


def test_every_tab_answers(client: Client, explorer: Explorer) -> None:
    assert client.predict(*WRITE, "3", api_name="/write").count("<li>") == 3
    assert client.predict(TEXT, "our room was cold .", 4, "spherical", api_name="/between").count("<tr>") == 1 + 4
    assert "<li>" in client.predict(TEXT, "our room was cold .", 50, "linear", api_name="/at")
    assert client.predict(TEXT, 3, 2, 5, api_name="/traverse").count("<tr>") == 1 + 5
    assert client.predict(TEXT, "1", "5", "means", 2, 3, api_name="/edit").count("<tr>") == 1 + 3
    assert "nats in all" in client.predict(TEXT, api_name="/score")
    assert client.predict(TEXT, 2, api_name="/neighbours")[1].count("<tr>") == 1 + 2


@pytest.mark.parametrize(
    ("arguments", "name", "said"),
    [
        (("model", "", 10_000, 1.0, 1.0, "0"), "/write", "number of sentences|maximum value"),
        (("model", "", -1, 1.0, 1.0, "0"), "/write", "number of sentences|minimum value"),
        (("model", "", 3, 1e9, 1.0, "0"), "/write", "temperature|maximum value"),
        (("anything", "", 3, 1.0, 1.0, "0"), "/write", "anything"),
        (("model", "x" * 5_000, 3, 1.0, 1.0, "0"), "/write", "characters"),
        (("model", "", 3, 1.0, 1.0, "9" * 500), "/write", "seed|characters"),
        (("x" * 5_000,), "/score", "characters"),
        (("",), "/score", "is empty"),
        ((TEXT, 10_000_000), "/neighbours", "number of neighbours|maximum value"),
        ((TEXT, TEXT, 10_000_000, "linear"), "/between", "steps|maximum value"),
        ((TEXT, TEXT, "far", "linear"), "/at", "place|str"),
        ((TEXT, 99_999, 2, 5), "/traverse", "99999|dimension"),
        ((TEXT, "<img src=x onerror=alert(1)>", "5", "means", 2, 3), "/edit", "img"),
        (("umap2", "label"), "/map", "umap2"),
    ],
)
def test_what_is_out_of_bounds_is_refused_to_programs_too(client: Client, arguments: Any, name: str, said: str) -> None:
    with pytest.raises((AppError, ValueError), match=said) as refused:
        client.predict(*arguments, api_name=name)
    assert "<img" not in str(refused.value) or "choices" in str(refused.value)


def test_visitors_with_seeds_get_their_own_sentences(url: str, explorer: Explorer) -> None:
    def visit(seed: int) -> str:
        return Client(url, verbose=False).predict(*WRITE, str(seed), api_name="/write")

    seeds = [1, 2, 1, 2, 1, 2]
    with ThreadPoolExecutor(6) as visitors:
        found = list(visitors.map(visit, seeds))
    assert len(set(found)) == 2 and found[::2] == [found[0]] * 3
    assert all(sentence in found[0] for sentence in explorer.write(3, seed=1))


def test_no_files_go_in_or_out(url: str) -> None:
    secret = ROOT / "setup.py"
    for place in (f"gradio_api/file={secret}", "gradio_api/file=/etc/passwd", f"gradio_api/file=../../{secret.name}"):
        assert httpx.get(f"{url}{place}").status_code in (403, 404), place
    sent = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.txt", b"0123456789")})
    assert sent.status_code >= 400


def test_it_is_here_alone_and_calls_nobody(url: str) -> None:
    config = httpx.get(f"{url}config").json()
    assert url.startswith("http://127.0.0.1:") and config["analytics_enabled"] is False
    assert config.get("run_history") in (None, False)
    shown = httpx.get(url).text
    for elsewhere in ("fonts.googleapis.com", "cdn", "api.gradio.app"):
        assert elsewhere not in shown.lower()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_markup_of_texts_and_labels_is_not_in_the_page(url: str, client: Client) -> None:
    config = json.dumps(httpx.get(f"{url}config").json())
    assert "<b>of</b>" not in config.replace('"title": "Reviews <b>of</b>', "") and "&lt;b&gt;of" in config
    assert "<script>window" not in client.predict("<script>window.evil = 1</script>", api_name="/score")


def test_the_map_is_of_all_points_in_colours_that_are_named(explorer: Explorer, vae: SeqVAE) -> None:
    by_label, by_length = map_value(explorer, "pca", "label"), map_value(explorer, "pca", "length")
    for value in (by_label, by_length):
        assert {len(value[name]) for name in ("x", "y", "texts", "colours", "told")} == {len(explorer.texts)}
    assert by_label["legend"] == ["1", "2", "3", "4", "5"]
    assert [by_label["legend"][colour] for colour in by_label["colours"]] == explorer.labels
    assert min(by_length["colours"]) == 0 and max(by_length["colours"]) == 1 and "legend" not in by_length
    many = Explorer(vae, explorer.texts[:30], [str(i) for i in range(30)])
    value = map_value(many, "pca", "label")
    assert value["legend"][-1] == "22 others" and max(value["colours"]) == len(value["legend"]) - 1
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("host", ["host.invalid", "192.0.2.1", "a" * 300])
def test_a_host_that_is_not_this_machine_is_told_at_once(explorer: Explorer, host: str) -> None:
    with pytest.raises(ValueError, match="is no address of this machine"):
        launch(explorer, host, prevent_thread_lock=True, quiet=True)


def test_tabs_that_have_nothing_to_show_are_left_out(vae: SeqVAE, explorer: Explorer) -> None:
    def tabs(explorer: Explorer) -> list[str]:
        return [block.label for block in page(explorer).blocks.values() if type(block).__name__ == "Tab"]

    assert tabs(explorer) == ["Map", "Write", "Between", "Traverse", "Edit", "Score", "Training"]
    assert tabs(Explorer(vae, explorer.texts[:9])) == ["Map", "Write", "Between", "Traverse", "Score"]


def test_the_training_s_figures_are_of_the_epoch_that_the_model_is_of(vae: SeqVAE, explorer: Explorer) -> None:
    history = explorer.history
    for best, told in ((None, "-ELBO, epoch 3"), (history[0], "-ELBO, epoch 1")):
        made = page(Explorer(vae, explorer.texts[:9], history=history, best=best))
        assert any(told in str(getattr(block, "value", "")) for block in made.blocks.values())


def test_without_gradio_a_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['gradio'] = None\nfrom modeling_seqvae.cli import app\n"
        "app(['explore', 'model_cards/demo-unigram-pretraining'])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "seqvae: the page needs Gradio: pip install 'seqvae[explore]'"
