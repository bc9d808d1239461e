"""The curvature that WAE-RNF gives the latent space: a weight that is large near where posteriors crowd.

Wang and Wang (2019), with the inverse multiquadric kernel and centres found by k-means of posterior means.
"""

import torch
from torch import nn

from .mmd import inverse_multiquadric

CENTRES = 20


class Curvature(nn.Module):
    """beta(z) = sum over scales of C / (C + d²), d the distance of z to the nearest centre.

    The centres are buffers, so that they are part of the state of whatever holds this module. Before the first `fit`
    space is flat: the penalty is 0.
    """

    centres: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, latent_size: int, num_centres: int = CENTRES):
        super().__init__()
        self.register_buffer("centres", torch.zeros(num_centres, latent_size))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, means: torch.Tensor, seed: int) -> None:
        """Place the centres by k-means of posterior means (N, Z); the same means and seed give the same centres.

        With fewer sentences than centres, every sentence's mean is one. Raises ValueError without sentences.
        """
        from sklearn.cluster import KMeans  # here, for it takes a second to import

        if len(means) == 0:
            raise ValueError("the curvature's centres need at least one sentence")
        count = min(len(self.centres), len(means))
        found = KMeans(count, n_init=1, random_state=seed).fit(means.detach().cpu().double().numpy()).cluster_centers_
        repeated = torch.arange(len(self.centres)) % count  # a centre twice is the nearest no less
        self.centres.copy_(torch.from_numpy(found)[repeated])
        self.fitted.fill_(True)

    def weight(self, latents: torch.Tensor) -> torch.Tensor:
        """beta (...) of latents (..., Z), above 0 and at most the number of scales."""
        squared = (latents[..., None, :] - self.centres).square().sum(-1).amin(-1)
        return inverse_multiquadric(squared, latents.shape[-1])

    def penalty(self, flow_inputs: torch.Tensor) -> torch.Tensor:
        """Half the sum over flows of log beta at what each was given, (B, K, Z) -> (B,); 0 before the first `fit`."""
        return 0.5 * self.weight(flow_inputs).log().sum(-1) * self.fitted
