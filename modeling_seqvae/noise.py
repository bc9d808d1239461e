"""Random numbers that depend on what they are for, never on the batch, process or call they are drawn in."""

import hashlib
from collections.abc import Sequence

import torch

from .transfers import to_device

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch, or one per sentence, so that a sentence's noise does not depend on its batch."""


BLOCK = 16
"""torch draws normal numbers on a CPU in blocks of this many: calls for whole blocks give what one call gives."""


def standard_normal(num_samples: int, like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
    """Noise (S, B, Z) for `like` (B, Z): draws taken in several calls are the same draws.

    A sentence with a generator of its own gets the same noise in any batch. All of it is drawn in float32, which torch
    draws otherwise than other types: a model has the same draws in each. Raises ValueError when a sequence of
    generators does not hold one per sentence.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return torch.stack([_one_draw(like, generator) for _ in range(num_samples)])
    if len(generator) != like.shape[0]:
        raise ValueError(f"got {len(generator)} generators for {like.shape[0]} sentences: give one, or one each")
    if not generator:
        return like.new_empty(num_samples, *like.shape)
    return to_device(torch.stack([_of_sentence(num_samples, like, own) for own in generator], 1), like.device)


def _one_draw(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    if generator is None:
        return torch.randn_like(like, dtype=torch.float32).to(like.dtype)
    noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return to_device(noise, like.device).to(like.dtype)


def _of_sentence(num_samples: int, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(S, Z), on a CPU in one call: what is left of a draw's last block is not used."""
    size = like.shape[1]
    if generator.device.type != "cpu":
        rows = [_one_draw(like[0], generator) for _ in range(num_samples)]
        return torch.stack(rows)
    blocks = -(-size // BLOCK)
    noise = torch.randn(num_samples, blocks * BLOCK, generator=generator, dtype=torch.float32)
    return noise[:, :size].to(like.dtype)


def seed_of(*parts: int) -> int:
    """A 32-bit seed mixed from whole numbers of any size, such as a seed and a sentence's number.

    Of all of them and of how many they are: numpy's SeedSequence takes (1,), (1, 0) and (1, 0, 0) for the same, and a
    number of more than 32 bits for two.
    """
    told = ",".join(str(int(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=4).digest(), "little")


def seed_torch(seed: int, device: torch.device) -> None:
    """torch's global random state of the CPU and of a device; those of devices of other kinds may stay as they were.

    Without a GPU `torch.manual_seed` takes half a millisecond, to write down for the GPUs to come who called it.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def sentence_generator(seed: int, *numbers: int) -> torch.Generator:
    """The random numbers of one sentence in any batch: a function of the seed and its number, or its token ids."""
    return torch.Generator().manual_seed(seed_of(seed, *numbers))
