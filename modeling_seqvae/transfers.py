"""Copies between the host and a GPU that neither waits for."""

from collections.abc import Iterable, Iterator, Mapping

import torch

Tensors = dict[str, torch.Tensor]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device; to a GPU it is on its way when this returns, before what is launched next."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def arriving(batches: Iterable[Mapping[str, torch.Tensor]]) -> Iterator[Tensors]:
    """Batches of tensors on the host, in order; each is yielded after the next one has been launched.

    So the device computes while the host reads.
    """
    before = None
    for batch in batches:
        copies = _Copies(batch)
        if before:
            yield before.tensors()
        before = copies
    if before:
        yield before.tensors()


class _Copies:
    """Tensors on their way to the host: into memory that a GPU can write by itself, which is handed back soon."""

    def __init__(self, batch: Mapping[str, torch.Tensor]):
        device = next((tensor.device for tensor in batch.values() if tensor.device.type == "cuda"), None)
        self.there = device is None
        self.copies = {name: tensor.to("cpu", non_blocking=not self.there) for name, tensor in batch.items()}
        if device is not None:
            self.done = torch.cuda.Event()
            self.done.record(torch.cuda.current_stream(device))

    def tensors(self) -> Tensors:
        if self.there:
            return self.copies
        self.done.synchronize()
        return {name: copy.clone() if copy.is_pinned() else copy for name, copy in self.copies.items()}
