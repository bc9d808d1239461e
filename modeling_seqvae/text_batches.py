"""Texts as batches for a model, and what `encode` takes from the model's answers."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from .argument_checks import outside, progress_bar, require_unicode
from .configuration_seqvae import COLLAPSED_BELOW
from .modeling_seqvae import SeqVAEForTextModeling
from .noise import sentence_generator
from .tokenization import WHITE_SPACE

FEATURES = {
    "mean": ("mean",),
    "mean_variance": ("mean", "variance"),
    "centre": ("centre",),
    "pooled": ("pooled",),
}
"""What `encode` returns, side by side: mean and variance of q(z|x), and its centre, (N, Z) each, and the pooled vector
h_x, (N, H). The centre is the z that stands for a text: the mean; on a sphere its direction; with flows the flow of the
mean of z_0, of which mean and variance are."""

UNKNOWN_SHARE = 0.2
"""Unknown words above this share of a call are worth a warning."""

WINDOW_BATCHES = 256
"""Batches' worth of texts that are tokenised and sorted by length together: little padding, bounded memory."""


_SWITCHING = threading.Lock()
_EVALUATED: dict[nn.Module, tuple[int, list[tuple[nn.Module, bool]]]] = {}
"""Models inside `evaluating`: how often they are, and the mode of each of their parts before."""


class TextBatch(NamedTuple):
    """Some of the caller's texts, as a model reads them."""

    positions: list[int]  # places in the caller's list
    input_ids: torch.Tensor  # (B, T), padded on the right
    attention_mask: torch.Tensor  # (B, T)


def batches_by_length(
    texts: list[str],
    model: SeqVAEForTextModeling,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    doing: str,
    show_progress: bool | None = None,
    warn: bool = True,
) -> Iterator[TextBatch]:
    """All texts, tokenised, in batches of similar length, longest first; at the end, the warnings they call for.

    The model is in evaluation mode until the last of them is done.
    """
    window = WINDOW_BATCHES * batch_size
    tally = _Tally()
    with evaluating(model), progress_bar(len(texts), doing, show_progress) as bar:
        for start in range(0, len(texts), window):
            ids = _tokenise(texts[start : start + window], tokenizer, tally, start)
            order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
            for chosen in (order[i : i + batch_size] for i in range(0, len(order), batch_size)):
                yield _batch([start + i for i in chosen], [ids[i] for i in chosen], model)
                bar.update(len(chosen))
    if warn:
        tally.warn(tokenizer.model_max_length)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, a model is in evaluation mode, without dropout; then each of its parts again in the mode it was in.

    Threads share it: the first to enter remembers the modes, and the last to leave restores them.
    """
    with _SWITCHING:
        calls, modes = _EVALUATED.get(model) or (0, [(part, part.training) for part in model.modules()])
        _EVALUATED[model] = calls + 1, modes
        if not calls:
            model.eval()
    try:
        yield
    finally:
        with _SWITCHING:
            calls, modes = _EVALUATED.pop(model)
            if calls > 1:
                _EVALUATED[model] = calls - 1, modes
            else:
                for part, training in modes:
                    part.training = training


@dataclass
class _Tally:
    """What deserves a warning, counted over a call."""

    words: int = 0
    unknown: int = 0
    cut: int = 0

    def warn(self, limit: int) -> None:
        if self.unknown > UNKNOWN_SHARE * self.words:
            warnings.warn(
                f"{self.unknown / self.words:.0%} of the words are not in the model's vocabulary and were read as "
                "unknown: the texts may be of another kind, language or tokenisation than those it was trained on, and "
                "then its results say little about them",
                stacklevel=outside(),
            )
        if self.cut:
            warnings.warn(
                f"{self.cut} texts have more than {limit} tokens and were cut there: set tokenizer.model_max_length "
                "higher to read them whole",
                stacklevel=outside(),
            )


INFORMATIVE_METHOD = (
    "Train again with --method unigram_pretraining, which keeps the latent informative; if that was the method, train "
    "for longer, or on more texts"
)
"""What to do about a latent that says next to nothing."""


def latent_warning(kl: float, mi: float | None) -> str:
    """What is wrong where the latent says next to nothing of a text, and what to do; empty where it says something.

    The KL and the mutual information of text and latent are in nats per text. A posterior whose KL has a floor, or is
    constant, need not have collapsed to say nothing: the mutual information tells, where it is known.
    """
    if kl < COLLAPSED_BELOW:
        return (
            f"the posterior has collapsed: the latent holds {max(0.0, kl):.2f} nats a text, so that features, and what "
            f"is written from latents, say next to nothing of it. {INFORMATIVE_METHOD}"
        )
    if mi is not None and mi < COLLAPSED_BELOW:
        return (
            f"the KL is {kl:.2f} nats a text, but all texts have much the same posterior: the mutual information of "
            f"text and latent is {max(0.0, mi):.2f} nats. {INFORMATIVE_METHOD}"
        )
    return ""


def _tokenise(texts: list[str], tokenizer: PreTrainedTokenizerBase, tally: _Tally, start: int) -> list[list[int]]:
    """`<s> x_1 ... x_n </s>` of each text, cut to the tokenizer's limit, and counted into `tally`.

    `start` is the place of the first one in the caller's list.
    """
    limit = tokenizer.model_max_length
    sentences: list[list[int]] = []
    for ids in token_ids(texts, tokenizer, start):
        if len(ids) > limit:
            tally.cut += 1
            ids = cut_to(limit, ids)
        tally.words += len(ids) - 2
        tally.unknown += ids.count(tokenizer.unk_token_id)
        sentences.append(ids)
    return sentences


def token_ids(texts: list[str], tokenizer: PreTrainedTokenizerBase, start: int = 0) -> list[list[int]]:
    """`<s> x_1 ... x_n </s>` of each text, of any length; white space at its ends is not read, as in files.

    Raises ValueError with the index of what is not Unicode.
    """
    try:
        stripped = [text.strip(WHITE_SPACE) for text in texts]
        return tokenizer(stripped, return_attention_mask=False, verbose=False)["input_ids"]
    except (TypeError, UnicodeError):
        require_unicode(texts, "texts", start)
        raise


def _batch(positions: list[int], sentences: list[list[int]], model: SeqVAEForTextModeling) -> TextBatch:
    rows = [torch.tensor(ids) for ids in sentences]
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    input_ids = pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id or 0)
    return TextBatch(positions, input_ids.to(model.device), mask.to(model.device))


def read_features(
    model: SeqVAEForTextModeling,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    features: str,
    positions: list[int] | None = None,
) -> torch.Tensor:
    """Features (B, D) float32 of a batch of token ids (B, T), as in `SeqVAE.encode`.

    Raises FloatingPointError where they are not finite numbers; `positions`, the batch's places in the caller's list,
    let it name the text.
    """
    pooled = model.get_encoder().read(input_ids, attention_mask)[1]
    if FEATURES[features] == ("pooled",):
        found = pooled.float()
    else:
        posterior = model.posterior(pooled, input_ids, attention_mask)
        found = torch.cat([getattr(posterior, block).float() for block in FEATURES[features]], 1)
    strange = (~found.isfinite()).any(1).nonzero().flatten().tolist()
    if strange:
        text = "a text" if positions is None else f"texts[{min(positions[row] for row in strange)}]"
        raise FloatingPointError(
            f"the features of {text} are not finite numbers: the model's weights are damaged, or its training diverged"
        )
    return found


def nll_of(model: SeqVAEForTextModeling, batch: TextBatch, num_samples: int, seed: int) -> torch.Tensor:
    """Importance-weighted -log p(x) of each text, (B,) in nats; draws depend on the seed and its token ids alone."""
    return model.iw_nll(batch.input_ids, batch.attention_mask, num_samples, _generators(batch, seed))


def bound_of(model: SeqVAEForTextModeling, batch: TextBatch, seed: int) -> torch.Tensor:
    """-ELBO of each text from one draw of z, (B,) in nats: its reconstruction loss and the KL; exact without a latent.

    The draw depends on the seed and the token ids alone, and is one of what likelihoods are estimated with.
    """
    words = (batch.input_ids, batch.attention_mask)
    if model.config.latent_size == 0:
        return model.iw_nll(*words)
    drawn = model.encode(*words).proposal.draw(_generators(batch, seed))
    return model.nll_given(drawn.latents[None], *words)[0] + drawn.kl


def _generators(batch: TextBatch, seed: int) -> list[torch.Generator]:
    rows = zip(batch.input_ids.tolist(), batch.attention_mask.sum(1).tolist(), strict=True)
    return [sentence_generator(seed, *ids[:length]) for ids, length in rows]


def prompt_ids(prompt: str, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """`<s> x_1 ... x_n` of the text that sentences begin with, (1, 1 + n). Warns of words that the model does not know.

    Raises TypeError for what is no string.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a string, got {type(prompt).__name__}")
    require_unicode([prompt], "prompt")
    ids = token_ids([prompt], tokenizer)[0][:-1]
    unknown = ids.count(tokenizer.unk_token_id)
    if unknown:
        warnings.warn(
            f"{unknown} of the {len(ids) - 1} words of the prompt {prompt[:80]!r} are not in the model's vocabulary: "
            f"sentences begin with {tokenizer.unk_token} in their places",
            stacklevel=outside(),
        )
    return torch.tensor([ids])


def cut_to(limit: int, ids: list[int]) -> list[int]:
    """The first of the ids of a sentence, `limit` at most, and its `</s>` as the last of them."""
    return ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]
