"""For every test: no network, one thread, a fixed seed; and sequence VAEs of a few hundred weights."""

import os

os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")  # before any of the libraries is imported

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling

torch.set_num_threads(1)

LONG = (
    "test_reproduce_command.py", "test_processes.py", "test_own_parts.py", "test_gpu.py", "test_caching.py",
    "test_package.py", "test_killed.py", "test_demo_command.py", "test_jobs.py", "test_docs.py",
)  # fmt: skip
"""Files of a few tests that take long: they come first, so that no worker waits for another at the end."""

# Weights larger than a real start's, so that every word and every z makes a difference.
TINY = {
    "vocab_size": 20,
    "embedding_size": 6,
    "hidden_size": 8,
    "latent_size": 3,
    "initializer_range": 0.6,
    "embedding_initializer_range": 1.0,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True, scope="module")
def _no_accelerator_of_another_file() -> None:
    """Accelerate keeps device, precision and processes for a whole program; every file of tests begins without."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """No power is cut here: what is written need not reach the disk, which takes milliseconds a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """make_model(cls=SeqVAEForTextModeling, **configuration): the same weights every time, in evaluation mode."""

    def make(cls: type = SeqVAEForTextModeling, **changes: Any) -> Any:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return cls(SeqVAEConfig(**{**TINY, **changes})).eval()

    return make


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Four sentences of 4, 3, 1 and 0 words, right padded, as the collator makes them."""
    input_ids = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 5, 3, 2, 0], [1, 10, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0]])
    mask = (input_ids != 0).long()
    return {"input_ids": input_ids, "attention_mask": mask, "labels": input_ids.masked_fill(mask == 0, -100)}


class TensorSpy(TorchDispatchMode):
    """Records the size of every tensor that is computed inside the block, and whether it is new memory or a view."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._storages: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and not tensor.is_mkldnn:  # whose memory cannot be seen
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._storages:
                    self._storages[storage.data_ptr()] = storage  # kept, so that no address is used twice
                    self.sizes.append(storage.nbytes() // tensor.element_size())
        return result

    def count(self, elements: int) -> int:
        """How many tensors of at least this many elements were allocated."""
        return sum(size >= elements for size in self.sizes)


@pytest.fixture(scope="session")
def tensor_spy() -> type[TensorSpy]:
    """`with tensor_spy() as spy:` then spy.sizes and spy.count(elements)."""
    return TensorSpy
