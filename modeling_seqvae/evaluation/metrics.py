"""What tables report of the latents: mutual information, active units, dispersion. `docs/metrics.md` explains each.

N sentences, Z latent dimensions; all logarithms are natural, all information is in nats per sentence. Posteriors are
diagonal Gaussians given by mean and log-variance, (N, Z) each; of other posteriors, their `base`.
"""

import math

import numpy as np
import torch

from ..gaussian import DiagonalGaussian

GROUP_SIZE = 32
ACTIVE_VARIANCE = 0.01
PAIRS_AT_ONCE = 1 << 22
MOST_ROUNDING = 1e-3  # nats, of a log density


def mutual_information_batch(
    mean: torch.Tensor, logvar: torch.Tensor, latents: torch.Tensor, seed: int = 0, group_size: int = GROUP_SIZE
) -> float:
    """E_x KL(q(z|x) || q(z)) with q(z) the mixture over random groups of sentences, given one draw (N, Z) of each.

    The groups are fixed by `seed`. Never exceeds log(group_size) = 3.47, whatever the draws: the mixture holds
    1/group_size of a draw's own posterior. Can be slightly negative by noise. Sentences beyond the last full group are
    left out; fewer than one group are one group.
    """
    count = len(mean) // group_size
    if count == 0:
        return mutual_information_corpus(mean, logvar, latents)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(mean)))[: count * group_size]
    groups = [tensor[order].unflatten(0, (count, group_size)) for tensor in (mean, logvar, latents)]
    return float(np.mean([mutual_information_corpus(*group) for group in zip(*groups, strict=True)]))


def mutual_information_corpus(mean: torch.Tensor, logvar: torch.Tensor, latents: torch.Tensor) -> float:
    """E_x KL(q(z|x) || q(z)) with q(z) the mixture over all N sentences given, in memory linear in N.

    Never exceeds log N, whatever the draws; can be slightly negative by noise.
    """
    mean, logvar, latents = mean.double(), logvar.double(), latents.double()
    log_conditional = DiagonalGaussian(mean, logvar).log_prob(latents)  # (N,)
    return float((log_conditional - log_aggregate_posterior(mean, logvar, latents)).mean())


def mutual_information_equal_length(
    mean: torch.Tensor, logvar: torch.Tensor, latents: torch.Tensor, negative_entropy: torch.Tensor | None = None
) -> float:
    """The estimate common in the literature, for one group of sentences (of equal length, there).

    The entropy of q(z|x) is analytic instead of taken at the draw; q(z) is the mixture over the group. Only the
    expectation over draws is at most log N: one draw may exceed it. `negative_entropy` (N,) is the Gaussians' own
    unless it is given.
    """
    mean, logvar, latents = mean.double(), logvar.double(), latents.double()
    if negative_entropy is None:
        negative_entropy = DiagonalGaussian(mean, logvar).negative_entropy()
    return float((negative_entropy - log_aggregate_posterior(mean, logvar, latents)).mean())


def mutual_information_by_length(
    mean: torch.Tensor,
    logvar: torch.Tensor,
    latents: torch.Tensor,
    lengths: torch.Tensor,
    negative_entropy: torch.Tensor | None = None,
    group_size: int = GROUP_SIZE,
) -> float:
    """`mutual_information_equal_length` over groups of sentences of one length (N,), as public code reports MI.

    Sentences of a length are grouped in their order, the last group of a length may be smaller, and groups count by
    their size.
    """
    total = 0.0
    for length in lengths.unique():
        for group in (lengths == length).nonzero().squeeze(1).split(group_size):
            entropies = None if negative_entropy is None else negative_entropy[group].double()
            found = mutual_information_equal_length(mean[group], logvar[group], latents[group], entropies)
            total += len(group) * found
    return total / len(lengths)


def log_aggregate_posterior(mean: torch.Tensor, logvar: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """log q(z) of each draw (M, Z) under the mixture of N posteriors (N, Z), as (M,) in nats.

    The quadratic form is expanded into two matrix products, in float64, a block of draws at a time; where posteriors
    are so narrow that this would round too much, it is summed dimension by dimension.
    """
    precision = (-logvar).exp()
    blocks = latents.split(max(1, PAIRS_AT_ONCE // len(mean)))
    if (mean.square() * precision).sum(-1).max() * torch.finfo(precision.dtype).eps > MOST_ROUNDING:
        constant = -0.5 * (logvar + math.log(2 * math.pi)).sum(-1)  # (N,)
        apart = [
            sum((z[:, None, d] - mean[:, d]).square() * precision[:, d] for d in range(mean.shape[1])) for z in blocks
        ]  # (M, N) each
        return torch.cat([(constant - 0.5 * each).logsumexp(-1) for each in apart]) - math.log(len(mean))
    weights = torch.cat([-0.5 * precision, mean * precision], -1)  # (N, 2Z)
    constant = -0.5 * (mean.square() * precision + logvar + math.log(2 * math.pi)).sum(-1)  # (N,)
    parts = [(torch.cat([z.square(), z], -1) @ weights.T + constant).logsumexp(-1) for z in blocks]
    return torch.cat(parts) - math.log(len(mean))


def active_units(mean: torch.Tensor) -> int:
    """Number of latent dimensions whose posterior mean varies over sentences: unbiased variance above 0.01."""
    if len(mean) < 2:
        return 0
    return int((mean.double().var(0) > ACTIVE_VARIANCE).sum())


class Dispersion:
    """Mean cosine similarity of all pairs of features, fed in batches: (|sum u_i|^2 - sum |u_i|^2) / (N (N - 1)).

    u_i has length 1, or is 0 where the feature is: its cosine with others is taken as 0. Linear time and memory;
    features (B, H) may be added in any order and split.
    """

    def __init__(self) -> None:
        self.total: torch.Tensor | float = 0.0
        self.squares: torch.Tensor | float = 0.0
        self.count = 0

    def add(self, features: torch.Tensor) -> None:
        wide = (features.cpu() if features.device.type == "mps" else features).double()  # which has no float64
        directions = torch.nn.functional.normalize(wide, dim=-1)
        self.total = self.total + directions.sum(0)
        self.squares = self.squares + directions.square().sum()
        self.count += len(features)

    def on_host(self) -> "Dispersion":
        """Itself, to be sent to other processes; the features may have been a GPU's."""
        if isinstance(self.total, torch.Tensor):  # both at once, for which a GPU is waited for once
            both = torch.cat([self.total, torch.as_tensor(self.squares).reshape(1)]).cpu()
            self.total, self.squares = both[:-1], both[-1]
        return self

    def merge(self, other: "Dispersion") -> None:
        """Add what another process has seen."""
        self.total = self.total + other.total
        self.squares = self.squares + other.squares
        self.count += other.count

    def cosine(self) -> float:
        """The mean pairwise cosine similarity; not a number with fewer than two features."""
        if self.count < 2:
            return math.nan
        squared = float(torch.as_tensor(self.total).square().sum())
        return (squared - float(self.squares)) / (self.count * (self.count - 1))


def bits_per_byte(nll: float, byte_count: int) -> float:
    """NLL in nats of a text, or of many in total, as bits for each byte of its UTF-8: NLL / (ln 2 * bytes).

    It compares models of different tokenizers. Not a number where there are no bytes. The NLL must be that of the text
    itself: that of tokens among which some are `<unk>` is another, smaller figure.
    """
    return nll / (math.log(2) * byte_count) if byte_count else math.nan
