"""Random numbers that depend on what they are for, never on the batch, process or call they are drawn in."""

import hashlib
from collections.abc import Sequence

import torch

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch, or one per sentence, so that a sentence's noise does not depend on its batch."""


def standard_normal(num_samples: int, like: torch.Tensor, generator: Generators = None) -> torch.Tensor:
    """Noise (S, B, Z) for `like` (B, Z), drawn sample by sample: draws taken in several calls are the same draws.

    Raises ValueError when a sequence of generators does not hold one per sentence.
    """
    return torch.stack([_one_draw(like, generator) for _ in range(num_samples)])


def _one_draw(like: torch.Tensor, generator: Generators) -> torch.Tensor:
    if generator is None:
        return torch.randn_like(like)
    if isinstance(generator, torch.Generator):
        noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
        return noise.to(like.device)
    if len(generator) != like.shape[0]:
        raise ValueError(f"got {len(generator)} generators for {like.shape[0]} sentences: give one, or one each")
    rows = [torch.randn(like.shape[1], generator=g, device=g.device, dtype=like.dtype) for g in generator]
    return torch.stack(rows).to(like.device)


def seed_of(*parts: int) -> int:
    """A 32-bit seed mixed from whole numbers of any size, such as a seed and a sentence's number.

    Of all of them and of how many they are: numpy's SeedSequence takes (1,), (1, 0) and (1, 0, 0) for the same, and a
    number of more than 32 bits for two.
    """
    told = ",".join(str(int(part)) for part in parts)
    return int.from_bytes(hashlib.blake2b(told.encode(), digest_size=4).digest(), "little")


def sentence_generator(seed: int, *numbers: int) -> torch.Generator:
    """The random numbers of one sentence in any batch: a function of the seed and its number, or its token ids."""
    return torch.Generator().manual_seed(seed_of(seed, *numbers))
