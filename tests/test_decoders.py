"""The unigram decoder, a softmax of z for every token whatever the words before, and the dilated CNN: laws of each."""

from itertools import product

import pytest
import torch

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling, decoders
from modeling_seqvae.convolutional_decoders import ResidualBlock


@pytest.fixture
def unigram(make_model) -> SeqVAEForTextModeling:
    return make_model(decoder="unigram")


def test_the_reconstruction_is_the_sum_of_the_log_probabilities_of_words_and_end(unigram, batch) -> None:
    output = unigram(**batch)
    log_probs = (output.latents @ unigram.lm_head.weight.T + unigram.lm_head.bias).log_softmax(-1)  # (B, V)
    for sentence, found, row in zip(batch["input_ids"].tolist(), output.reconstruction_loss, log_probs, strict=True):
        words = [word for word in sentence[1:] if word != 0]  # all but `<s>` and padding
        torch.testing.assert_close(found, -row[words].sum())
    torch.testing.assert_close(output.loss, (output.reconstruction_loss + output.kl).mean())


def test_the_order_of_the_words_makes_no_difference_to_what_it_predicts(unigram) -> None:
    latents = torch.randn(1, 3)
    there, back = torch.tensor([[1, 5, 6, 7, 2]]), torch.tensor([[1, 7, 5, 6, 2]])
    costs = [unigram(ids, latents=latents, labels=ids).reconstruction_loss for ids in (there, back)]
    torch.testing.assert_close(*costs)


def test_logits_stand_at_every_position_and_are_those_of_the_loss(unigram, batch) -> None:
    output = unigram(**batch)
    assert output.logits.shape == (4, 6, 20)
    nll = torch.nn.functional.cross_entropy(
        output.logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:], ignore_index=-100, reduction="none"
    )
    torch.testing.assert_close(nll.sum(1), output.reconstruction_loss)


def test_labels_that_do_not_count_have_no_part_and_gradients_reach_the_encoder(unigram, batch) -> None:
    batch["labels"][0, 3] = -100
    output = unigram.train()(**batch)
    output.loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in unigram.parameters())
    assert output.logits is None


def test_the_likelihood_is_that_of_the_integral_over_z(make_model) -> None:
    """In one dimension, by quadrature."""
    model = make_model(decoder="unigram", latent_size=1)
    ids = torch.tensor([[1, 5, 6, 2]])
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    log_probs = (grid[:, None] @ model.lm_head.weight.double().T + model.lm_head.bias.double()).log_softmax(-1)
    log_joint = log_probs[:, [5, 6, 2]].sum(1) - 0.5 * grid.square() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    exact = -(log_joint.logsumexp(0) + (grid[1] - grid[0]).log())
    estimate = model.iw_nll(ids, num_samples=20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate.double(), exact[None], atol=0.02, rtol=0)


def test_sampled_words_have_the_probabilities_of_z(unigram) -> None:
    latents = torch.tensor([[0.5, -1.0, 0.3]])
    expected = unigram.lm_head(latents)[0].softmax(-1)
    written = unigram.sample(latents=latents.expand(4000, -1), generator=torch.Generator().manual_seed(0), max_length=3)
    frequencies = torch.bincount(written[:, 1], minlength=20) / len(written)
    torch.testing.assert_close(frequencies, expected, atol=0.03, rtol=0)
    again = unigram.sample(latents=latents.expand(4000, -1), generator=torch.Generator().manual_seed(0), max_length=3)
    assert torch.equal(written, again)


def test_beams_and_greedy_search_take_the_likeliest_word(unigram, batch) -> None:
    best = unigram.lm_head(unigram.encode(batch["input_ids"]).mean).argmax(-1)
    written = unigram.reconstruct(batch["input_ids"], max_length=4)
    assert torch.equal(written[:, 1], best)
    assert unigram.reconstruct(batch["input_ids"], num_beams=3, max_length=4).shape[0] == 4


def test_many_rows_are_taken_some_at_a_time_with_the_same_result(unigram, batch, monkeypatch) -> None:
    expected = unigram(**batch).reconstruction_loss
    monkeypatch.setattr(decoders, "LOGITS_AT_ONCE", 1)
    torch.testing.assert_close(unigram(**batch).reconstruction_loss, expected)


@pytest.mark.parametrize(
    ("field", "value"), [("latent_size", 0), ("decoder_skip", True), ("tie_word_embeddings", True)]
)
def test_what_it_cannot_have_is_refused_by_field(field, value) -> None:
    with pytest.raises(ValueError, match=f"decoder='unigram' .*{field} cannot be {value}"):
        SeqVAEConfig(decoder="unigram", embedding_size=8, hidden_size=8, **{field: value})


def test_unknown_decoders_are_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="decoder='cnn' is not one of lstm, unigram, dilated_cnn"):
        SeqVAEConfig(decoder="cnn")


@pytest.mark.parametrize(("posterior", "decoder"), list(product(["gaussian", "normalised"], decoders.DECODERS)))
def test_the_kl_is_the_sum_of_its_dimensions(make_model, batch, posterior, decoder) -> None:
    output = make_model(posterior=posterior, decoder=decoder)(**batch)
    assert output.kl_per_dimension.shape == (4, 3)
    torch.testing.assert_close(output.kl_per_dimension.sum(-1), output.kl)


def test_a_posterior_of_dependent_dimensions_has_no_kl_per_dimension(make_model, batch) -> None:
    assert make_model(posterior="planar_flow")(**batch).kl_per_dimension is None


# Dilated convolutions


SIZES = {"small": 15, "medium": 63, "large": 125}


def cnn_states(model: SeqVAEForTextModeling, ids: torch.Tensor, latents: torch.Tensor, **given) -> torch.Tensor:
    return model.model.decoder(latents, ids, **given)[0][-1]


@pytest.mark.parametrize("size", SIZES)
def test_a_word_changes_its_receptive_field_and_nothing_else(make_model, size) -> None:
    """Neither what is predicted before it nor, beyond the field, after it; and all that is within."""
    model = make_model(decoder="dilated_cnn", cnn_size=size, hidden_size=48).double()
    field, place, length = SIZES[size], 4, SIZES[size] + 20
    assert model.model.decoder.receptive_field == field
    ids, latents = torch.randint(3, 20, (1, length)), torch.randn(1, 3).double()
    other = ids.clone()
    other[0, place] = (ids[0, place] + 1 - 3) % 17 + 3
    changed = (cnn_states(model, ids, latents) != cnn_states(model, other, latents)).any(-1)[0]
    assert changed.nonzero()[:, 0].min() == place and changed.nonzero()[:, 0].max() == place + field - 1
    assert not changed[:place].any() and not changed[place + field :].any()


@pytest.mark.parametrize("latent_size", [3, 0])
def test_words_one_by_one_or_some_at_a_time_are_the_whole_sentence(make_model, latent_size) -> None:
    model = make_model(decoder="dilated_cnn", latent_size=latent_size).double()
    ids, latents = torch.randint(3, 20, (2, 40)), torch.randn(2, latent_size).double()
    whole = cnn_states(model, ids, latents)
    for size in (1, 3, 29):
        cache, parts = None, []
        for part in ids.split(size, 1):
            states, cache = model.model.decoder(latents, part, cache=cache)
            parts.append(states[-1])
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert cache.get_seq_length() == 40


def test_the_dilated_cnn_writes_with_its_cache_what_it_writes_without(make_model, batch) -> None:
    for changes in ({}, {"latent_size": 0}):
        model = make_model(decoder="dilated_cnn", **changes)
        latents = torch.randn(3, model.config.latent_size)
        for options in ({"do_sample": False}, {"do_sample": False, "num_beams": 3}):
            found = [model.sample(latents=latents, max_length=25, use_cache=use, **options) for use in (True, False)]
            assert torch.equal(*found)
        greedy = model.sample(latents=latents, max_length=25, do_sample=False)
        logits = model(decoder_input_ids=greedy, latents=latents).logits if changes == {} else model(greedy).logits
        chosen, written = logits[:, :-1].argmax(-1), greedy[:, 1:]
        going = (written != 2).cumprod(1).roll(1, 1).bool()  # words up to `</s>`
        going[:, 0] = True
        assert torch.equal(chosen[going], written[going])


def test_the_convolution_is_that_of_a_loop_over_words(make_model) -> None:
    """One block by hand: x + W_2 relu(sum_k C_k relu(W_1 x_(t - k d)) + c) with zeros before the first word."""
    block = ResidualBlock(6, 2).double()
    states = torch.randn(1, 9, 6).double()
    found, _ = block(states, torch.zeros(1, 4, 3).double())
    inner = torch.relu(block.narrow(states))[0]
    for place in range(9):
        total = block.convolution.bias
        for k in range(3):
            if place - 2 * k >= 0:
                total = total + block.convolution.weight[:, :, 2 - k] @ inner[place - 2 * k]
        torch.testing.assert_close(found[0, place], states[0, place] + block.widen(torch.relu(total)))


def test_padding_and_latents_of_the_dilated_cnn(make_model, batch) -> None:
    model = make_model(decoder="dilated_cnn")
    alone = model(batch["input_ids"][1:2, :5], labels=batch["input_ids"][1:2, :5])
    torch.testing.assert_close(alone.reconstruction_loss, model(**batch).reconstruction_loss[1:2])
    first, second = (cnn_states(model, batch["input_ids"], torch.full((4, 3), value)) for value in (0.0, 1.0))
    assert (first != second).any(-1).all()


def test_what_a_dilated_cnn_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="cnn_size='huge' is not one of small, medium, large"):
        SeqVAEConfig(decoder="dilated_cnn", cnn_size="huge")
    with pytest.raises(ValueError, match="decoder_skip cannot be True"):
        SeqVAEConfig(decoder="dilated_cnn", decoder_skip=True)
