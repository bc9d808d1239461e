"""Semi-amortised posteriors: the encoder's Gaussian, improved for each sentence by gradient steps (Kim et al. 2018).

λ is a sentence's mean and log-variance, and L_k(λ) = -log p(x|z_k) + w KL at one draw z_k of N(λ). From the encoder's
λ_0 and a velocity v_0 = 0, step k is

    v_{k+1} = momentum v_k - clip(∇L_k(λ_k))        λ_{k+1} = λ_k + rate v_{k+1}

with the gradient's part in the mean and that in the log-variance clipped to a norm each. On its way back through the
steps a sentence's gradient is never longer than it was in λ_K: steps that diverge, far from any optimum, would lengthen
it without bound. Nothing here looks at other sentences, so that a posterior does not depend on its batch.
Sizes: B sentences, K steps, Z latent dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch

from .gaussian import DiagonalGaussian, GaussianPosterior, common_noise
from .kernels import differentiable_once, frozen
from .noise import seed_torch, standard_normal

Costs = Callable[[torch.Tensor], torch.Tensor]
"""Latents (B, Z), one for each sentence -> -log p(x|z), (B,) in nats."""


@runtime_checkable
class RefiningHead(Protocol):
    """A head whose posteriors are only the start of those that the model uses."""

    def refine(
        self, start: DiagonalGaussian, costs: Costs, weights: Sequence[torch.Tensor], kl_weight: float = 1.0
    ) -> DiagonalGaussian:
        """The posteriors of the sentences whose reconstruction `costs` gives by means of `weights`."""


class RefinedPosterior(GaussianPosterior):
    """Pooled features (B, H) -> DiagonalGaussian, which `refine` improves by the text itself."""

    def __init__(self, hidden_size: int, latent_size: int, steps: int, rate: float, momentum: float, clip: float):
        super().__init__(hidden_size, latent_size)
        self.steps = steps
        self.rate = rate
        self.momentum = momentum
        self.clip = clip

    def refine(
        self, start: DiagonalGaussian, costs: Costs, weights: Sequence[torch.Tensor], kl_weight: float = 1.0
    ) -> DiagonalGaussian:
        """The posteriors after all steps: differentiable, through the steps, in `start` and in `weights`.

        In training every step has noise and dropout of its own, from torch's global random state; in evaluation its
        noise is the same for every sentence and at every call, and the KL's weight is 1: a posterior is a function of
        its text. Takes memory for one step, however many there are.
        """
        if self.steps == 0:
            return start
        weights = [weight for weight in dict.fromkeys(weights) if weight.requires_grad]  # a tied one once
        learning = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(learning):
            point = torch.stack([start.mean, start.logvar]).clone()  # (2, B, Z), no inference tensor
            if self.training:
                noise = standard_normal(self.steps, point[0].detach())
                seeds: Sequence[int | None] = torch.randint(2**62, (self.steps,)).tolist()
            else:
                noise, seeds = common_noise(self.steps, point[0].detach()), [None] * self.steps
                kl_weight = 1.0
            found = _Steps.apply(_Descent(self, costs, weights, kl_weight, noise, seeds), point, *weights)
        return DiagonalGaussian(*found)


class _Descent:
    """The steps of one batch: their gradients, and how a vector comes back through one of them."""

    def __init__(
        self,
        head: RefinedPosterior,
        costs: Costs,
        weights: Sequence[torch.Tensor],
        kl_weight: float,
        noise: torch.Tensor,
        seeds: Sequence[int | None],
    ):
        self.head = head
        self.costs = costs
        self.weights = weights
        self.kl_weight = kl_weight
        self.noise = noise
        self.seeds = seeds

    def gradients(self, step: int, point: torch.Tensor, of_weights: bool = False) -> list[torch.Tensor]:
        """Those of the sum of L_step over sentences, in the point (2, B, Z) and, if asked for, in the weights.

        In float32 or wider.
        """
        device, weights = point.device, self.weights if of_weights else ()
        kept = nullcontext() if of_weights else frozen(self.weights)  # a third of the work
        with torch.enable_grad(), torch.autocast(device.type, enabled=False), kept, _seeded(self.seeds[step], device):
            point = point.detach().requires_grad_()
            posterior = DiagonalGaussian(*point)
            latents = posterior.mean + (0.5 * posterior.logvar).exp() * self.noise[step]
            loss = (self.costs(latents) + self.kl_weight * posterior.kl()).sum()
            found = torch.autograd.grad(loss, [point, *weights], allow_unused=True)
        return [
            torch.zeros_like(of) if gradient is None else gradient
            for of, gradient in zip([point, *weights], found, strict=True)
        ]

    def clipped(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient (2, B, Z) with no part longer than the head's `clip`."""
        return _cut(gradient, self.head.clip, -1)

    def shortened(self, vector: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
        """What comes back through a step (2, B, Z), no sentence's part longer than (1, B, 1)."""
        return _cut(vector, longest, (0, -1))

    def back_through_clip(self, vector: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """A vector (2, B, Z) times the Jacobian of `clipped` at a gradient, which is symmetric."""
        length = gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        along = (vector * gradient).sum(-1, keepdim=True) / length.square() * gradient
        return torch.where(length > self.head.clip, (vector - along) * self.head.clip / length, vector)

    def second_order(self, step: int, point: torch.Tensor, vector: torch.Tensor) -> list[torch.Tensor]:
        """The derivatives of ∇L_step · vector in the point and in weights, by central differences along the vector.

        A sentence's point moves by the cube root of the rounding error, in the root mean square over sentences: there
        the error of the differences and that of their rounding are about equal.
        """
        length = vector.norm()
        if length == 0:
            return [torch.zeros_like(of) for of in (point, *self.weights)]
        distance = torch.finfo(point.dtype).eps ** (1 / 3) * point.shape[1] ** 0.5 / length
        after = self.gradients(step, point + distance * vector, of_weights=True)
        before = self.gradients(step, point - distance * vector, of_weights=True)
        return [(a - b).div_(2 * distance) for a, b in zip(after, before, strict=True)]


class _Steps(torch.autograd.Function):
    """All steps. On the way back, the product with a step's second derivatives is taken anew, by differences."""

    @staticmethod
    def forward(ctx: Any, descent: _Descent, point: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.descent, ctx.path = descent, []
        velocity = torch.zeros_like(point)
        for step in range(descent.head.steps):
            (gradient,) = descent.gradients(step, point)
            ctx.path.append((point, gradient))
            velocity = descent.head.momentum * velocity - descent.clipped(gradient)
            point = point + descent.head.rate * velocity
        return point

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_point: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        descent, of_velocity = ctx.descent, torch.zeros_like(of_point)
        of_weights = [torch.zeros_like(weight) for weight in descent.weights]
        longest = of_point.norm(dim=(0, -1), keepdim=True)  # (1, B, 1)
        for step in reversed(range(descent.head.steps)):
            point, gradient = ctx.path[step]
            of_velocity = of_velocity + descent.head.rate * of_point
            vector = descent.back_through_clip(of_velocity, gradient)
            in_point, *in_weights = descent.second_order(step, point, vector)
            of_point = descent.shortened(of_point - in_point, longest)
            for total, part in zip(of_weights, in_weights, strict=True):
                total.sub_(part)
            of_velocity = descent.head.momentum * of_velocity
        return None, of_point, *of_weights


def _cut(vector: torch.Tensor, longest: torch.Tensor | float, dims: int | tuple[int, ...]) -> torch.Tensor:
    """A vector whose norms over some dimensions are no longer than that."""
    return vector * (longest / vector.norm(dim=dims, keepdim=True).clamp_min(1e-12)).clamp_max(1)


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Inside, torch's global random state is that of a seed; None leaves it alone."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_torch(seed, device)
        yield
