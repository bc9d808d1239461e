"""What the parts of a model promise each other, tried on two random texts before parts of your own are trained."""

import torch
from torch.nn import functional as F

from .modeling_seqvae import SeqVAEForTextModeling
from .noise import sentence_generator
from .text_batches import evaluating

SHORT, LONG = 4, 9
"""Tokens of the two texts."""


def require_contracts(model: SeqVAEForTextModeling) -> None:
    """Raise ValueError that names the part of a model that would make its figures wrong.

    Tried are that a text's features, draws and likelihood are the same alone as in a batch, that no prediction depends
    on a later word, that likelihoods are those of the predictions, and that words may be read one by one. This is in
    evaluation mode, in the weights' precision; torch's random state and the model stay as they are.
    """
    config, device = model.config, model.device
    choice = torch.Generator().manual_seed(0)
    words = torch.tensor([id_ for id_ in range(min(config.vocab_size, 1000)) if id_ != config.pad_token_id])
    ids = words[torch.randint(len(words), (2, LONG), generator=choice)].to(device)
    mask = torch.ones_like(ids)
    mask[0, SHORT:] = 0
    ids[0, SHORT:] = config.pad_token_id or 0
    alone = [(ids[:1, :SHORT], mask[:1, :SHORT]), (ids[1:], mask[1:])]
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with torch.no_grad(), evaluating(model), forked:
        latents = _require_texts_apart(model, ids, mask, alone) if config.latent_size else ids.new_empty(2, 0)
        _require_reading_in_order(model, ids, mask, latents)


Texts = list[tuple[torch.Tensor, torch.Tensor]]


def _require_texts_apart(
    model: SeqVAEForTextModeling, ids: torch.Tensor, mask: torch.Tensor, alone: Texts
) -> torch.Tensor:
    """That encoder and posterior see each text by itself; returns a draw of each, (2, Z)."""
    config = model.config
    together = model.get_encoder().read(ids, mask)[1]
    by_itself = torch.cat([model.get_encoder().read(*text)[1] for text in alone])
    _require_equal(
        together,
        by_itself,
        f"encoder={config.encoder!r} with pooling_mode={config.pooling_mode!r}: the features of a text depend on the "
        "padding behind it or the texts beside it; states where the mask is False are no part of a text",
    )
    draws = model.encode(ids, mask).proposal.rsample(3, [sentence_generator(0, row) for row in range(2)])
    each = [model.encode(*text).proposal.rsample(3, [sentence_generator(0, row)]) for row, text in enumerate(alone)]
    _require_equal(
        draws,
        torch.cat(each, 1),
        f"posterior={config.posterior!r}: what is drawn for a text depends on the texts beside it; a sequence in place "
        "of a `generator` has one for each text, as modeling_seqvae.noise.standard_normal takes it",
    )
    return draws[0]


def _require_reading_in_order(
    model: SeqVAEForTextModeling, ids: torch.Tensor, mask: torch.Tensor, latents: torch.Tensor
) -> None:
    """That the decoder, given latents (2, Z), predicts each word from those before it, and the same in all its ways."""
    decoder, name = model.get_decoder(), f"decoder={model.config.decoder!r}"
    latents = latents.to(model.dtype)
    states, cache = decoder(latents, ids[:, :SHORT])
    later = decoder(latents, ids)[0][-1]
    if later.shape[1] > 1:  # a state for each word
        _require_equal(
            later[:, :SHORT],
            states[-1],
            f"{name}: a prediction depends on words behind it, which is no likelihood: a state may depend on its own "
            "word and those before it alone",
        )
        _require_equal(
            decoder(latents, ids[:, SHORT:], cache=cache)[0][-1],
            later[:, SHORT:],
            f"{name}: words that are read after others, with the cache of these, get other states than all at once",
        )
    logits = model(ids, mask, latents=latents).logits[:, :-1]
    nll = F.cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none") * mask[:, 1:]
    _require_equal(
        model.nll_given(latents[None], ids, mask)[0].to(logits.dtype),
        nll.sum(1).to(logits.dtype),
        f"{name}: -log p(x|z) by `states_under` and `nll`, of which likelihoods are made, is not that of its logits",
    )


def _require_equal(found: torch.Tensor, expected: torch.Tensor, told: str) -> None:
    tolerance = 1e-3 if torch.finfo(found.dtype).bits >= 32 else 5e-2
    if found.shape != expected.shape or not (found - expected).abs().max() <= tolerance * expected.abs().max():
        raise ValueError(told)
