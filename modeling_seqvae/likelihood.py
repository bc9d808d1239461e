"""The importance-weighted estimate of -log p(x), in memory that does not grow with the number of samples.

-log (1/S) sum_s p(x|z_s) p(z_s) / q(z_s|x) with z_s ~ q(z|x) (Burda, Grosse and Salakhutdinov 2016). q is the posterior
where its density is known, else the proposal that is fitted to it. The expectation is an upper bound of the true
negative log-likelihood: with S = 1 it is the -ELBO (of that q), and it tightens as S grows.
"""

import math
from collections.abc import Callable, Iterator

import torch

from .noise import Generators
from .posteriors import Posterior, Proposal, prior_of


def importance_weighted_nll(
    posterior: Posterior,
    reconstruction: Callable[[torch.Tensor], torch.Tensor],
    num_samples: int,
    samples_at_once: int,
    generator: Generators = None,
    latents: torch.Tensor | None = None,
) -> torch.Tensor:
    """The importance-weighted negative log-likelihood of each sentence, (B,) in nats.

    `reconstruction` maps latents (s, B, Z) to -log p(x|z), (s, B). `latents` (S, B, Z) fixes the draws, which must come
    from the posterior's proposal; otherwise `num_samples` are drawn from it. Neither `samples_at_once` nor the order of
    sentences changes which draws `generator` gives. Raises ValueError where there is no draw, or `latents` do not fit
    the posterior.
    """
    total = None
    count = 0
    for z, log_q in _draws(posterior.proposal, num_samples, samples_at_once, generator, latents):
        log_weights = prior_of(posterior).log_prob(z) - log_q - reconstruction(z)  # (s, B)
        chunk = log_weights.logsumexp(0)
        total = chunk if total is None else torch.logaddexp(total, chunk)
        count += z.shape[0]
    if total is None:
        raise ValueError("num_samples must be at least 1")
    return math.log(count) - total


def _draws(
    proposal: Proposal, num_samples: int, samples_at_once: int, generator: Generators, latents: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if latents is not None:
        if latents.shape[1:] != proposal.mean.shape or len(latents) == 0:
            sentences, size = proposal.mean.shape
            raise ValueError(f"latents must be (S, {sentences}, {size}), S at least 1, got {tuple(latents.shape)}")
        for z in latents.split(samples_at_once):
            yield z, proposal.log_prob(z)
        return
    for start in range(0, num_samples, samples_at_once):
        yield proposal.rsample_with_log_prob(min(samples_at_once, num_samples - start), generator)
