"""The maximum mean discrepancy between latents and the prior, and the kernel it shares with the curvature (WAE-RNF)."""

import torch

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def inverse_multiquadric(squared_distance: torch.Tensor, latent_size: int) -> torch.Tensor:
    """The sum over SCALES of C / (C + d²), with C = 2 latent_size scale, of squared distances d² of any shape.

    2 latent_size is the mean squared distance of two draws from the prior (Tolstikhin et al. 2018).
    """
    constants = squared_distance.new_tensor(SCALES) * (2 * latent_size)
    return (constants / (constants + squared_distance[..., None])).sum(-1)


def mmd(latents: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """The squared maximum mean discrepancy of two sets of latents (N, Z) and (M, Z), a number () of at least 0.

    The biased (V-statistic) estimate: each set's own pairs include every latent with itself. It is of the whole set and
    no sum over its members, and takes memory of (N + M)² Z.
    """
    both = torch.cat([latents, prior])
    kernel = inverse_multiquadric((both[:, None] - both).square().sum(-1), latents.shape[-1])  # (N + M, N + M)
    count = len(latents)
    own, other, cross = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    return own.mean() + other.mean() - 2 * cross.mean()
