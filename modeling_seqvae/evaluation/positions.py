"""At which words z is of use: the nats it saves at each position, from the start and from the end.

A sentence is scored several times, word by word, by the same decoder: given z ~ q(z|x), and given z ~ p(z), which knows
nothing of it. `docs/metrics.md` explains what is made of that. N sentences, T predicted tokens of the longest, S draws,
B sentences of a batch, Z latent dimensions.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch.nn import functional as F

from ..argument_checks import at_least, require_unicode
from ..configuration_seqvae import COLLAPSED_BELOW
from ..modeling_seqvae import SENTENCE_TOKENS_AT_ONCE, SeqVAEForTextModeling
from ..noise import sentence_generator
from ..posteriors import prior_of
from ..text import SeqVAE
from ..text_batches import cut_to, evaluating
from ..tokenization import WHITE_SPACE
from .evaluate import Evaluator, standard_error

DRAWS = 8
"""Draws of the prior a sentence, and as many of q(z|x)."""

FIRST_WORDS = 3
"""Words at a sentence's start that a local latent remembers; what is told of later ones counts as global."""

SHARE = 0.1
"""Positions that fewer of the sentences have are left out of a curve: its end would be of a few long ones alone."""


@dataclass(frozen=True)
class TokenCosts:
    """What each predicted token costs given one z ~ q(z|x), and how much less than without it; a row a sentence.

    `given`, `saved` and `told` are (N, T) in nats, not a number after a sentence's `</s>`. `saved` is the cost under a
    z of the prior, averaged over draws, minus `given`; `told` is -log p(x_t | x_<t), the cost after the words before
    alone, minus `given`.
    """

    number: NDArray[np.int64]  # (N,), the sentence's number
    kl: NDArray[np.float64]  # (N,), nats
    given: NDArray[np.float64]
    saved: NDArray[np.float64]
    told: NDArray[np.float64]

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Predicted tokens of each sentence, (N,), `</s>` included."""
        return (~np.isnan(self.given)).sum(1)


class PositionEvaluator(Evaluator):
    """An Evaluator that keeps what each token costs."""

    @torch.no_grad()
    def token_costs(self, num_draws: int = DRAWS) -> TokenCosts:
        """Costs of every token, by the draw of q(z|x) that `measure` takes and `num_draws` more of it and of p(z).

        The costs given z add up to the reconstruction of `measure`. Raises ValueError for a language model, and for
        less than one draw.
        """
        if num_draws < 1:
            raise ValueError(f"what z saves needs at least 1 draw of the prior, got num_draws={num_draws}")
        rows: list[tuple[int, float, NDArray]] = []
        for numbers, batch in self._batches(len(self.dataset), f"positions, {num_draws} draws"):
            words = self._encoder_words(numbers, batch)
            kls, costs = _batch_costs(self.model, batch, words, self._generators(numbers), num_draws)
            ends = batch["attention_mask"].sum(1).tolist()
            for row, (number, kl, end) in enumerate(zip(numbers.tolist(), kls.tolist(), ends, strict=True)):
                rows.append((number, kl, costs[:, row, : end - 1]))
        rows = sorted(gather_object(rows), key=lambda row: row[0])
        table = np.full((3, len(rows), max(cost.shape[1] for _, _, cost in rows)), np.nan)
        for row, (_, _, cost) in enumerate(rows):
            table[:, row, : cost.shape[1]] = cost
        return TokenCosts(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), *table)


def _batch_costs(
    model: SeqVAEForTextModeling,
    batch: dict[str, torch.Tensor],
    encoder_words: torch.Tensor,
    generators: list[torch.Generator],
    num_draws: int,
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """KL (B,), and given, saved and told (3, B, T) of a batch; the encoder reads `encoder_words` (B, T + 1)."""
    q = model.encode(encoder_words, batch["attention_mask"])
    proposal, p = q.proposal, prior_of(q)
    drawn = proposal.draw(generators)
    posterior = proposal.rsample_with_log_prob(num_draws, generators)[0]
    prior = p.rsample(num_draws, drawn.latents, generators)
    latents = torch.cat([drawn.latents[None], posterior, prior])  # (1 + 2S, B, Z)
    log_weights = -F.softplus(proposal.log_prob(latents[1:]) - p.log_prob(latents[1:]))  # log p / (p + q)
    nll = _in_parts(model, latents, batch)  # (1 + 2S, B, T)
    return drawn.kl, _costs(nll, log_weights.double()).cpu().numpy()


def _costs(nll: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
    """Given, saved and told (3, B, T), from costs (1 + 2S, B, T) under one draw of q, S of q and S of the prior.

    `log_weights` (2S, B) are log p(z) / (p(z) + q(z|x)) of all but the first: with these weights both kinds of draws
    together represent the prior, and more of them lie where a sentence, or its first words, are likely.
    """
    given, prior = nll[0], nll[1 + len(log_weights) // 2 :]
    saved = (prior - given).mean(0)
    so_far = F.pad(nll[1:].cumsum(-1), (1, 0))  # (2S, B, 1 + T), -log p(x_1 .. x_t | z) from t = 0
    log_p = (log_weights[..., None] - so_far).logsumexp(0)  # (B, 1 + T), log p(x_1 .. x_t) and a constant
    return torch.stack([given, saved, -log_p.diff(dim=-1) - given])


def _in_parts(model: SeqVAEForTextModeling, latents: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What each token costs under many latents (S, B, Z), some at a time: (S, B, T) float64, 0 at padding."""
    words = (batch["input_ids"], batch["attention_mask"])
    parts = latents.split(max(1, SENTENCE_TOKENS_AT_ONCE // batch["input_ids"].numel()))
    return torch.cat([model.token_nll_given(part, *words).double() for part in parts])


class PieceCost(NamedTuple):
    """A piece of a text and what the model pays for it, in nats.

    `nll` is -log p(x_t | x_<t), after the words before alone; `told` is how much less it costs given z ~ q(z|x) too.
    The last piece is the end of the text, whose `text` is "".
    """

    text: str
    nll: float
    told: float
    unknown: bool


@torch.inference_mode()
def piece_costs(vae: SeqVAE, text: str, num_draws: int = 64, seed: int = 0) -> list[PieceCost]:
    """What each token of one text costs, in order, with `num_draws` draws of q(z|x) and of p(z).

    Pieces are parts of the text as it was given, without what stands between words; tokens of one place, such as the
    bytes of a letter, are one piece. The `nll` of all add up to an importance-weighted estimate of -log p(x). A text
    longer than the model reads is cut there. Raises ValueError for a language model, and for less than one draw.
    """
    vae.model.model._require_latent("tell what z says of a text")
    num_draws = at_least(1, num_draws, "num_draws")
    require_unicode([text], "texts")
    text = text.strip(WHITE_SPACE)  # as everywhere
    encoded = vae.tokenizer(text, return_offsets_mapping=True, verbose=False)
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    ids = cut_to(vae.tokenizer.model_max_length, encoded["input_ids"])
    input_ids = torch.tensor([ids], device=vae.model.device)
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    with evaluating(vae.model):
        _, costs = _batch_costs(vae.model, batch, input_ids, [sentence_generator(seed, *ids)], num_draws)
    told, nll = costs[2, 0], costs[0, 0] + costs[2, 0]
    pieces: list[PieceCost] = []
    until = 0
    for (start, end), id_, cost, gain in zip(offsets[1 : len(ids) - 1], ids[1:-1], nll[:-1], told[:-1], strict=True):
        unknown = id_ == vae.tokenizer.unk_token_id
        if pieces and start < until:  # bytes of a letter that has begun
            before = pieces.pop()
            more = (before.nll + float(cost), before.told + float(gain), before.unknown or unknown)
            pieces.append(PieceCost(before.text + text[until:end], *more))
        else:
            pieces.append(PieceCost(text[start:end], float(cost), float(gain), unknown))
        until = max(until, end)
    return [*pieces, PieceCost("", float(nll[-1]), float(told[-1]), False)]


def from_the_end(values: NDArray) -> NDArray:
    """Values (N, T) of sentences with each turned around: column 0 is `</s>`, column 1 the last word."""
    turned = np.full_like(values, np.nan)
    for row, sentence in zip(turned, values, strict=True):
        there = sentence[~np.isnan(sentence)]
        row[: len(there)] = there[::-1]
    return turned


def curves(costs: TokenCosts, from_end: bool = False) -> dict[str, list[Any]]:
    """Mean and standard error of `saved` and `told` at each position, over the sentences long enough to have it.

    Positions count from 1. Only those that at least two sentences and a tenth of all have are kept.
    """
    sides = {name: getattr(costs, name) for name in ("saved", "told")}
    if from_end:
        sides = {name: from_the_end(values) for name, values in sides.items()}
    counts = (~np.isnan(sides["saved"])).sum(0)
    counts = counts[counts >= max(2, SHARE * len(costs.number))]  # they never grow with the position
    found: dict[str, list[Any]] = {"position": list(range(1, len(counts) + 1)), "sentences": counts.tolist()}
    for name, values in sides.items():
        columns = [column[~np.isnan(column)] for column in values.T[: len(counts)]]
        found[name] = [float(column.mean()) for column in columns]
        found[f"{name}_se"] = [standard_error(column) for column in columns]
    return found


def _share(part: NDArray, whole: NDArray) -> dict[str, float | None]:
    """The mean of a part (N,) over the mean of the whole, and the standard error of such a ratio (Cochran 1977, 2.11).

    None where the whole is next to nothing: a share of it would be of noise.
    """
    total = float(whole.mean())
    if total < COLLAPSED_BELOW:
        return {"later_share": None, "later_share_se": None}
    share, error = float(part.mean()) / total, standard_error(part - part.mean() / total * whole)
    return {"later_share": share, "later_share_se": None if error is None else error / total}


def position_report(costs: TokenCosts) -> dict[str, Any]:
    """What z saves and tells in all and where, fit for JSON; nats per sentence, with standard errors over them (`_se`).

    `saved` is the sum of `saved_first` (the first word), `saved_between` and `saved_end` (`</s>`), and so is `told`.
    `told_later` is the part of `told` at words after the first three, `</s>` left out, and `later_share` its share of
    `told`: None where `told` is below a tenth of a nat. `rec` and `kl` are those of the same draw.
    """
    means = {"rec": np.nansum(costs.given, 1), "kl": costs.kl}
    for name, values in {"saved": costs.saved, "told": costs.told}.items():
        total, end = np.nansum(values, 1), values[np.arange(len(values)), costs.tokens - 1]
        first = np.where(costs.tokens > 1, values[:, 0], 0.0)  # a sentence without words has none
        means |= {name: total, f"{name}_first": first, f"{name}_between": total - first - end, f"{name}_end": end}
    told = means["told"]
    means["told_later"] = np.nansum(costs.told[:, FIRST_WORDS:], 1) - np.where(
        costs.tokens > FIRST_WORDS, means["told_end"], 0.0
    )
    report: dict[str, Any] = {"sentences": len(costs.number), **_share(means["told_later"], told)}
    for name, values in means.items():
        report |= {name: float(values.mean()), f"{name}_se": standard_error(values)}
    return report | {"from_start": curves(costs), "from_end": curves(costs, from_end=True)}
