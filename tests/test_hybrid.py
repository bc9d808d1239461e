"""The hybrid convolutional VAE: a convolutional encoder, deconvolutions of z, an LSTM on top, and an auxiliary loss."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.convolutional_decoders import Deconvolution

HYBRID: dict[str, Any] = {"decoder": "hybrid", "encoder": "convolutional", "embedding_dropout": 0, "output_dropout": 0}


def states_of(model: SeqVAEForTextModeling, ids: torch.Tensor, latents: torch.Tensor, **given: Any) -> torch.Tensor:
    return model.model.decoder(latents, ids, **given)[0][-1]


# The encoder


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("pooling", ["last", "avg", "max", "abs", "attention"])
def test_padding_on_either_side_changes_no_feature(make_model, layers, pooling) -> None:
    model = make_model(**HYBRID, hidden_size=16, conv_layers=layers, pooling_mode=pooling).double()
    for length in range(1, 10):
        ids = torch.randint(3, 20, (1, length))
        alone = model.get_encoder().read(ids, torch.ones_like(ids))[1]
        for left, right in ((0, 3), (0, 8), (2, 0), (1, 5)):
            padded, mask = F.pad(ids, (left, right)), F.pad(torch.ones_like(ids), (left, right))
            torch.testing.assert_close(model.get_encoder().read(padded, mask)[1], alone)


def test_every_word_has_a_part_in_the_features(make_model) -> None:
    model = make_model(**HYBRID, pooling_mode="avg").double()
    ids = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])
    states, pooled = model.get_encoder().read(ids, None)
    assert [state.shape for state in states] == [(1, 7, 6), (1, 4, 4), (1, 2, 8)] and pooled.shape == (1, 8)
    for place in range(7):
        other = ids.clone()
        other[0, place] = 10
        assert not torch.allclose(model.get_encoder().read(other, None)[1], pooled)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"decoder": "hybrid", "hidden_size": 8, "conv_layers": 3}, "hidden_size=8"),
        ({"decoder": "hybrid", "embedding_size": 3}, "embedding_size=3"),
        ({"encoder": "convolutional", "hidden_size": 64, "encoder_hidden_size": 7}, "encoder_hidden_size=7"),
    ],
)
def test_layers_too_narrow_to_hold_anything_are_refused(parts, field) -> None:
    """Normalised, a single number is 0, whatever was read; a language model has no encoder."""
    with pytest.raises(ValueError, match=rf"makes of {field} a layer of \d states"):
        SeqVAEConfig(**parts)
    SeqVAEConfig(latent_size=0, encoder="convolutional", hidden_size=4)


# The deconvolution


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 5, 16, 21])
def test_a_position_depends_on_z_and_its_place_alone(layers, length) -> None:
    """However many positions are asked for; behind the last there are zeros; all blocks have a part."""
    fields = {"embedding_size": 4, "hidden_size": 16, "latent_size": 3, "conv_layers": layers, "deconv_length": length}
    deconvolution = Deconvolution(SeqVAEConfig(**fields)).double()
    latents = torch.randn(2, 3).double()
    whole = deconvolution(latents, length + 4)
    assert whole.shape == (2, length + 4, 4) and not whole[:, length:].any()
    for count in range(1, length + 4):
        torch.testing.assert_close(deconvolution(latents, count), whole[:, :count])
    assert not torch.allclose(whole[0, :length], whole[1, :length])


def test_it_is_the_published_stack_where_the_length_is_a_multiple() -> None:
    """Linear, then transposed convolutions by torch over all blocks at once, but for the block behind the last."""
    fields = {"embedding_size": 4, "hidden_size": 8, "latent_size": 3, "deconv_length": 16}
    deconvolution = Deconvolution(SeqVAEConfig(**fields)).double()
    latents = torch.randn(2, 3).double()
    states = deconvolution.blocks(latents).relu().unflatten(1, (5, 8))
    for layer, norm in zip(deconvolution.layers, deconvolution.norms, strict=True):
        states = norm(layer(states.transpose(1, 2)).transpose(1, 2)).relu()
    torch.testing.assert_close(deconvolution(latents, 16), states[:, :16])


# The decoder


def test_a_word_changes_no_prediction_before_it(make_model) -> None:
    model = make_model(**HYBRID).double()
    ids, latents = torch.randint(3, 20, (1, 12)), torch.randn(1, 3).double()
    for place in range(12):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1 - 3) % 17 + 3
        changed = (states_of(model, ids, latents) != states_of(model, other, latents)).any(-1)[0]
        assert not changed[:place].any() and changed[place:].all()


@pytest.mark.parametrize("deconv_length", [256, 7])
def test_words_one_by_one_or_some_at_a_time_are_the_whole_sentence(make_model, deconv_length) -> None:
    model = make_model(**HYBRID, deconv_length=deconv_length, num_hidden_layers=2).double()
    ids, latents = torch.randint(3, 20, (2, 17)), torch.randn(2, 3).double()
    whole = states_of(model, ids, latents)
    for size in (1, 4):
        cache, parts = None, []
        for part in ids.split(size, 1):
            states, cache = model.model.decoder(latents, part, cache=cache)
            parts.append(states[-1])
        torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(model.model.decoder.states_under(latents[None], ids), whole)


def test_generation_gives_what_the_whole_pass_predicts(make_model, batch) -> None:
    model = make_model(**HYBRID)
    latents = torch.randn(3, 3)
    written = model.sample(latents=latents, do_sample=False, max_length=14, eos_token_id=None)
    predicted = model.lm_head(states_of(model, written, latents)).argmax(-1)
    assert torch.equal(written[:, 1:], predicted[:, :-1])
    beams = model.sample(latents=latents, do_sample=False, num_beams=3, max_length=14)
    assert len(beams) == 3


def test_padding_changes_neither_bound_nor_auxiliary_loss(make_model, batch) -> None:
    model = make_model(**HYBRID).train()
    latents = torch.randn(4, 3)
    whole = model(**batch, latents=latents)
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        part = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
        alone = model(**part, latents=latents[row : row + 1])
        for name in ("kl", "reconstruction_loss", "auxiliary_loss"):
            torch.testing.assert_close(alone[name], whole[name][row : row + 1])


# The auxiliary loss


def test_the_auxiliary_loss_is_the_deconvolutions_own_reconstruction(make_model, batch) -> None:
    model = make_model(**HYBRID, deconv_length=3, auxiliary_weight=0.5).train()
    latents = torch.randn(4, 3)
    decoder = model.model.decoder
    log_p = decoder.auxiliary(decoder.deconvolution(latents, 5)).log_softmax(-1)
    expected = []
    for row, ids, length in zip(log_p, batch["input_ids"], batch["attention_mask"].sum(1).tolist(), strict=True):
        expected.append(-sum(row[place, ids[place + 1]] for place in range(min(3, length - 1))) * 0.5)
    torch.testing.assert_close(model(**batch, latents=latents).auxiliary_loss, torch.stack(expected))


def test_loss_and_likelihood_are_free_of_it(make_model, batch) -> None:
    model = make_model(**HYBRID)
    other = make_model(**HYBRID, auxiliary_weight=0)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.model.decoder.auxiliary.weight.normal_()
    assert model(**batch).auxiliary_loss is None
    assert torch.equal(model(**batch).loss, other(**batch).loss)
    latents = torch.randn(4, 4, 3)
    assert torch.equal(*(one.iw_nll(batch["input_ids"], latents=latents) for one in (model, other)))
    torch.manual_seed(0)
    trained = model.train()(**batch)
    torch.testing.assert_close(trained.loss, (trained.reconstruction_loss + trained.kl).mean())


def test_without_weight_no_gradient_reaches_its_vocabulary_layer(make_model, batch) -> None:
    for weight, some in ((0.2, True), (0.0, False)):
        model = make_model(**HYBRID, auxiliary_weight=weight).train()
        output = model(**batch)
        (output.loss + output.auxiliary_loss.mean()).backward()
        assert bool(model.model.decoder.auxiliary.weight.grad.any()) is some
        assert model.model.decoder.deconvolution.blocks.weight.grad.any()


def test_its_vocabulary_layer_takes_a_new_vocabulary(make_model, batch) -> None:
    model = make_model(**HYBRID)
    model.resize_token_embeddings(25)
    assert model.model.decoder.auxiliary.weight.shape == (25, 6)
    assert model.train()(**batch).auxiliary_loss.isfinite().all()


@pytest.mark.parametrize(("field", "value"), [("latent_size", 0), ("decoder_skip", True)])
def test_what_it_cannot_have_is_refused_by_field(field, value) -> None:
    with pytest.raises(ValueError, match=f"decoder='hybrid' .*{field} cannot be {value}"):
        SeqVAEConfig(decoder="hybrid", **{field: value})


def test_unknown_encoders_are_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="encoder='cnn' is not one of lstm, convolutional"):
        SeqVAEConfig(encoder="cnn")
