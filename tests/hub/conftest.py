"""A hub on loopback, a Python that has the package and one that does not, and a small run to share.

Starting Python with torch takes seconds, so each of the two is started once and given snippets to run.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from modeling_seqvae.training.recipe import resolve

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CHECKPOINT = CHECKOUT / "tests" / "fixtures" / "checkpoint-v1"


def _sibling(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"hub_{name}", HERE / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Raised(Exception):
    """What a snippet raised: the name of the class, and the message."""

    def __init__(self, kind: str, message: str):
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class Snippets:
    """A Python process: call it with code and variables; what the code assigns to `result` comes back."""

    def __init__(self, environment: dict[str, str], folder: Path, *options: str):
        self._process = subprocess.Popen(
            [sys.executable, *options, str(HERE / "snippets.py")],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, code: str, **variables: Any) -> Any:
        self._process.stdin.write(json.dumps({"code": code, "variables": variables}, default=str) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(*answer["raised"])
        return answer["result"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    with _sibling("server").Hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Any) -> Any:
    """The hub without the faults, settings and log of the test before; repositories stay, so use names of your own."""
    for remembered in (server.faults, server.requests, server.leaked_tokens, server.stored):
        remembered.clear()
    server.lfs_above = None
    return server


@pytest.fixture(scope="session")
def hub_environment(server: Any) -> Callable[[Path], dict[str, str]]:
    """The variables under which another process knows this hub only, as user `user` who may write."""

    def environment(home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
        return kept | {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": "hf_writer",
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
        }

    return environment


@pytest.fixture(scope="session")
def package(hub_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snippets]:
    """A Python in which the package can be imported, in a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    snippets = Snippets(hub_environment(folder / "home") | {"PYTHONPATH": str(CHECKOUT)}, folder)
    yield snippets
    snippets.close()


@pytest.fixture(scope="session")
def stranger(hub_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snippets]:
    """A Python in which the package cannot be imported, not even where it is installed for development."""
    folder = tmp_path_factory.mktemp("stranger")
    snippets = Snippets(hub_environment(folder / "home") | {"WITHOUT_PACKAGE": "1"}, folder, "-I")
    yield snippets
    snippets.close()


HISTORY = [
    {"epoch": 1, "encoder_updates": 13, "decoder_updates": 13, "seconds": 1.0, "kl_weight": 0.1, "bound": 30.0,
     "rec": 28.0, "kl": 2.0, "mi": 0.5, "au": 2, "cosine": 0.5, "lr": 0.02, "words_per_second": 1000},
    {"epoch": 2, "encoder_updates": 26, "decoder_updates": 26, "seconds": 2.0, "kl_weight": 0.2, "bound": 29.0,
     "rec": 27.5, "kl": 1.5, "mi": 0.4, "au": 3, "cosine": 0.4, "lr": 0.02, "words_per_second": 1000},
]  # fmt: skip
EVALUATION = {
    "title": "SeqVAE + Attention", "corpus": "demo", "split": "test", "limit": None, "bound": 29.5, "rec": 28.0,
    "kl": 1.5, "mi": 0.4, "au": 3, "cosine": 0.4, "nll": 28.75, "nll_se": 0.4, "nll_gap": 0.25,
    "nll_gap_se": 0.02, "nll_sentences": 300, "nll_samples": 500,
    "ppl": 4.0, "sentences": 2000, "tokens": 35000, "shuffled": False, "unknown_share": 0.3,
    "seed": 0,
}  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(evaluated=False, corpus="demo"): the directory of a run, with the fixture's checkpoint as its best."""

    def make(evaluated: bool = False, corpus: Any = "demo", data_dir: str | None = None) -> Path:
        run = tmp_path / "run"
        shutil.copytree(CHECKPOINT, run / "best", ignore=shutil.ignore_patterns("expected.json"))
        (run / "best" / "README.md").write_text("# an earlier card\n", "utf-8")
        (run / "last").mkdir()
        (run / "last" / "progress.json").write_text("{}", "utf-8")
        recipe = resolve("attention", corpus, overrides=["model.latent_size=3"])
        recipe.model_copy(update={"data_dir": data_dir}).save(run / "recipe.yaml")
        (run / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in HISTORY), "utf-8")
        if evaluated:
            (run / "evaluation.json").write_text(json.dumps(EVALUATION), "utf-8")
        return run

    return make
