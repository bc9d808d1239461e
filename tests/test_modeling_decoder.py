"""The decoder: word dropout, layers, the skip connection, and the state it carries from word to word."""

import pytest
import torch
from torch import nn

from modeling_seqvae import SeqVAEModel

UNKNOWN = 3


def words_read(model, side: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The ids that reach one side's embedding in a training step."""
    seen: list[torch.Tensor] = []
    embedding = getattr(model.model, side).embed_tokens
    handle = embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(**batch)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_word_dropout_makes_words_unknown_but_no_end_and_no_padding(side: str, make_model) -> None:
    ids = torch.randint(4, 20, (50, 40))
    ids[:, 0], ids[:, -3], ids[:, -2:] = 1, 2, 0
    rate = {"encoder": "encoder_word_dropout", "decoder": "word_dropout"}[side]
    seen = words_read(make_model(**{rate: 0.3}).train(), side, {"input_ids": ids, "labels": ids})
    dropped = seen != ids
    assert not dropped[:, [0, -3, -2, -1]].any()
    assert set(seen[dropped].tolist()) == {UNKNOWN}
    assert dropped[:, 1:-3].float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("rate", "untouched"),
    [("word_dropout", "encoder"), ("encoder_word_dropout", "decoder")],
    ids=["decoder", "encoder"],
)
def test_word_dropout_leaves_the_other_side_and_the_targets_alone(rate: str, untouched: str, make_model, batch) -> None:
    model = make_model(**{rate: 0.9}, embedding_dropout=0, output_dropout=0).train()
    assert torch.equal(words_read(model, untouched, batch), batch["input_ids"])
    out = model(**batch, return_logits=True)
    log_p = out.logits.log_softmax(-1)[:, :-1].gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    expected = -(log_p * batch["attention_mask"][:, 1:]).sum(1)
    torch.testing.assert_close(out.reconstruction_loss, expected)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_word_dropout_stops_in_evaluation(side: str, make_model, batch) -> None:
    model = make_model(word_dropout=0.9, encoder_word_dropout=0.9)
    assert torch.equal(words_read(model, side, batch), batch["input_ids"])


def test_dropout_acts_on_word_embeddings_and_on_what_the_vocabulary_layer_reads(make_model) -> None:
    """In training only, and never on z."""
    model, ids, z = make_model(SeqVAEModel, embedding_dropout=0.5, output_dropout=0.25), torch.ones(40, 30).long(), 3
    inputs: list[torch.Tensor] = []
    model.decoder.layers[0].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    outputs = [model(ids, latents=torch.ones(40, z)).last_hidden_state]
    outputs.append(model.train()(ids, latents=torch.ones(40, z)).last_hidden_state)
    assert [(x[..., :-z] == 0).float().mean().item() for x in inputs] == pytest.approx([0, 0.5], abs=0.05)
    assert [(x == 0).float().mean().item() for x in outputs] == pytest.approx([0, 0.25], abs=0.05)
    assert (inputs[1][..., -z:] == 1).all()


def test_several_layers_equal_one_stacked_lstm_started_from_z(make_model, batch) -> None:
    """c_0 = W z and h_0 = tanh(c_0) in every layer, z beside every input of the first."""
    decoder, z = make_model(num_hidden_layers=3).model.decoder, torch.randn(4, 3)
    stacked = nn.LSTM(6 + 3, 8, num_layers=3, batch_first=True)
    for index, layer in enumerate(decoder.layers):
        for name, parameter in layer.named_parameters():
            getattr(stacked, name.replace("l0", f"l{index}")).data.copy_(parameter)
    embeds = decoder.embed_tokens(batch["input_ids"])
    cell = torch.stack((z @ decoder.initial_cell.weight.T).chunk(3, dim=-1))  # (L, B, H)
    inputs = torch.cat([embeds, z[:, None].expand(-1, 6, -1)], -1)
    expected, (hidden, last_cell) = stacked(inputs, (cell.tanh(), cell))
    states, cache = decoder(z, batch["input_ids"])
    torch.testing.assert_close([states[-1], cache.hidden, cache.cell], [expected, hidden, last_cell])


def test_the_skip_connection_reads_state_and_latent(make_model, batch) -> None:
    """g_t = tanh(W_h h_t + W_z z); with W_z = 0 only the state is left."""
    plain, skip = make_model(SeqVAEModel), make_model(SeqVAEModel, decoder_skip=True)
    plain.load_state_dict(skip.state_dict(), strict=False)
    latents = torch.randn(4, 3)
    state = plain(batch["input_ids"], latents=latents).last_hidden_state @ skip.decoder.skip_state.weight.T
    expected = torch.tanh(state + (latents @ skip.decoder.skip_latent.weight.T)[:, None])
    torch.testing.assert_close(skip(batch["input_ids"], latents=latents).last_hidden_state, expected)
    nn.init.zeros_(skip.decoder.skip_latent.weight)
    torch.testing.assert_close(skip(batch["input_ids"], latents=latents).last_hidden_state, torch.tanh(state))


def test_a_language_model_is_an_lstm_that_starts_from_zero(make_model, batch) -> None:
    model = make_model(latent_size=0)
    embeds = model.model.decoder.embed_tokens(batch["input_ids"])
    expected = model.lm_head(model.model.decoder.layers[0](embeds)[0])
    torch.testing.assert_close(model(batch["input_ids"]).logits, expected)


@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 2}, {"latent_size": 0}, {"decoder_skip": True}])
def test_reading_in_two_parts_equals_reading_at_once(make_model, batch, changes) -> None:
    model, ids = make_model(**changes), batch["input_ids"][:2, :5]
    whole = model(ids)
    first = model(ids, decoder_input_ids=ids[:, :2])
    second = model(ids, decoder_input_ids=ids[:, 2:], cache=first.cache)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)
    assert second.cache.get_seq_length() == 5


def test_a_cache_is_one_state_a_sentence(make_model, batch) -> None:
    model, ids = make_model(num_hidden_layers=2), batch["input_ids"]
    cache = model(ids).cache
    assert len(cache) == len(list(cache)) == 4
    for sentence, row in zip(cache, ids, strict=True):
        alone = model(row[None]).cache
        torch.testing.assert_close([sentence.hidden, sentence.cell], [alone.hidden, alone.cell])
        assert sentence.get_seq_length() == 6
