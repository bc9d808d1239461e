"""A tiny corpus, sizes and schedule, and trainers of them: a run takes less than a second.

There are 57 training sentences: 7 batches of 8, and one of a single sentence.
"""

import json
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.training.recipe import Recipe, resolve
from modeling_seqvae.training.run import read_corpus
from modeling_seqvae.training.trainer import SeqVAETrainer

ROOT = Path(__file__).resolve().parents[2]
PRESET = """
model:
  embedding_size: 6
  hidden_size: 8
  latent_size: 3
  embedding_dropout: 0.2
  output_dropout: 0.2
  initializer_range: 0.3
training:
  batch_size: 8
  epochs: 3
  anneal_epochs: 2
  learning_rate: 0.5
  plateau_from: 2
"""


def sentences(count: int, seed: int) -> str:
    """One a line, of 3 to 12 words."""
    source = random.Random(seed)
    subjects, verbs, adjectives = "the a this our", "food room staff view was is seemed", "good bad warm cold slow new"
    words = f"{subjects} {verbs} {adjectives} and but very , .".split()
    return "".join(" ".join(source.choices(words, k=source.randint(3, 12))) + "\n" for _ in range(count))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.yaml (57 training and 20 validation sentences) and preset.yaml."""
    folder = tmp_path_factory.mktemp("tiny")
    for number, (split, count) in enumerate({"train": 57, "validation": 20, "test": 5}.items()):
        (folder / f"{split}.txt").write_text(sentences(count, number), "utf-8")
    files = ", ".join(f"{split}: {folder / split}.txt" for split in ("train", "validation", "test"))
    (folder / "corpus.yaml").write_text(f"data: {{name: tiny, files: {{{files}}}}}\n", "utf-8")
    (folder / "preset.yaml").write_text(PRESET, "utf-8")
    return folder


@pytest.fixture(scope="session")
def make_recipe(tiny: Path) -> Callable[..., Recipe]:
    """make_recipe("training.epochs=5", ..., method="max_pool")."""

    def make(*overrides: str, method: str = "max_pool") -> Recipe:
        return resolve(method, str(tiny / "corpus.yaml"), str(tiny / "preset.yaml"), overrides)

    return make


@pytest.fixture(scope="session")
def make_trainer(make_recipe: Callable[..., Recipe]) -> Callable[..., SeqVAETrainer]:
    """make_trainer(directory, "training.epochs=5", ..., method=, accelerator=, progress=, profile=)."""
    corpora = {}

    def make(
        directory: Path,
        *overrides: str,
        method: str = "max_pool",
        accelerator: Accelerator | None = None,
        progress: bool = False,
        profile: bool = False,
    ) -> SeqVAETrainer:
        recipe = make_recipe(*overrides, method=method)
        if recipe.corpus not in corpora:
            corpora[recipe.corpus] = read_corpus(recipe, None)
        corpus, tokenizer = corpora[recipe.corpus]
        recipe = recipe.with_texts(corpus.splits)
        set_seed(recipe.training.seed)
        model = SeqVAEForTextModeling(recipe.config(tokenizer))
        splits = corpus.splits
        return SeqVAETrainer(
            model, tokenizer, recipe, splits["train"], splits["validation"], directory, accelerator, progress, profile
        )

    return make


@pytest.fixture(autouse=True)
def _no_accelerator_left() -> Iterator[None]:
    """Accelerate keeps device, precision and processes for a whole program: no test finds or leaves any.

    A fixture for a whole module may have left some before its first test.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def weights_of() -> Callable[[SeqVAETrainer], dict[str, torch.Tensor]]:
    """Copies of a trainer's weights by name."""

    def copy(trainer: SeqVAETrainer) -> dict[str, torch.Tensor]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    return copy


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """The content of every file below a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read


MEASURED = {"seconds", "words_per_second", "train_seconds", "evaluate_seconds", "save_seconds", "peak_memory_mb"}
"""What differs between two runs of the same."""


@pytest.fixture(scope="session")
def without_times() -> Callable[[list[dict]], list[dict]]:
    """A history less times and memory."""
    return lambda history: [{name: record[name] for name in record if name not in MEASURED} for record in history]


@pytest.fixture(scope="session")
def history_of(without_times: Callable) -> Callable[[Path], list[dict]]:
    """What a run's history.jsonl holds, less times and memory."""
    return lambda run: without_times([json.loads(line) for line in (run / "history.jsonl").open()])


@pytest.fixture(scope="session")
def assert_same_run(history_of: Callable, without_times: Callable) -> Callable[[Path, Path], None]:
    """Two run directories hold the same history, best and last weights, bit for bit, and stand at the same place."""

    def progress_of(run: Path) -> dict:
        state = json.loads((run / "last" / "progress.json").read_text())
        del state["phase_seconds"], state["seconds"]
        return state | {"history": without_times(state["history"])}

    def check(run: Path, reference: Path) -> None:
        assert history_of(run) == history_of(reference)
        assert progress_of(run) == progress_of(reference)
        for weights in ("best/model.safetensors", "last/model.safetensors"):
            assert (run / weights).read_bytes() == (reference / weights).read_bytes(), weights
        assert sorted(os.listdir(run)) == [".lock", "best", "history.jsonl", "last", "recipe.yaml"]

    return check


@pytest.fixture(scope="session")
def command(tiny: Path) -> Callable[..., list[str]]:
    """command(run, "training.epochs=5", ..., method="max_pool"): `python examples/train.py ...` of a tiny run."""

    def make(run: Path, *overrides: str, method: str = "max_pool") -> list[str]:
        options = ["--corpus", str(tiny / "corpus.yaml"), "--training", str(tiny / "preset.yaml"), "--method", method]
        changes = [argument for override in overrides for argument in ("--set", override)]
        return [str(ROOT / "examples" / "train.py"), *options, "--output-dir", str(run), *changes]

    return make


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For programs that tests start: one thread, no GPU, this checkout's package."""
    return os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip


@pytest.fixture(scope="session")
def torchrun() -> Callable[[], list[str]]:
    """The beginning of a command that starts a program as two processes."""

    def launch() -> list[str]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]

    return launch
