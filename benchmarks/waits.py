"""Counts what would make a program wait for a GPU: values, sizes and copies that the host asks a tensor for.

On a CPU nothing waits, so that the calls are counted instead of the waits.
"""

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGES = ("modeling_seqvae", "transformers", "accelerate")
"""Whose lines are named."""

VALUES = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::nonzero_static", "aten::masked_select", "aten::equal",
    "aten::is_nonzero", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
}  # fmt: skip
"""Operators whose result, or its size, the host needs before it can go on."""
INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operators that wait where an index is a mask, whose true values have to be counted."""
READS = {torch.Tensor.cpu, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
"""Calls that bring a tensor to the host; on a CPU they reach no operator."""
MASKS = (torch.bool, torch.uint8)


class Waits:
    """Inside the block, `places` counts the lines that wait, and `count` all waits."""

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()
        self._stack = ExitStack()

    @property
    def count(self) -> int:
        """All waits of the block."""
        return sum(self.places.values())

    def __enter__(self) -> Self:
        self._stack.enter_context(_Operators(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def note(self, what: str) -> None:
        """Count a wait at the innermost line of these packages that is at work."""
        frame = sys._getframe(1)
        while frame is not None:
            path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
            if not set(PACKAGES).isdisjoint(path.parts) and not name.startswith("__torch_"):
                self.places[f"{path.name}:{frame.f_lineno} {what}"] += 1
                return
            frame = frame.f_back  # type: ignore[assignment]
        self.places[f"backward {what}"] += 1  # of an operator whose line autograd does not know


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        masked = name in INDEXED and any(index is not None and index.dtype in MASKS for index in args[1])
        if name in VALUES or masked:
            self.waits.note(name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS or (func is torch.Tensor.to and "cpu" in args[1:2]):
            self.waits.note(func.__name__)
        return func(*args, **(kwargs or {}))
