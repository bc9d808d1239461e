"""The unigram decoder: a softmax of z for every token, whatever the words before, and a model like any other."""

from itertools import product

import pytest
import torch

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling, decoders


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
    with pytest.raises(ValueError, match="decoder='cnn' is not one of lstm, unigram"):
        SeqVAEConfig(decoder="cnn")


@pytest.mark.parametrize(("posterior", "decoder"), list(product(["gaussian", "normalised"], decoders.DECODERS)))
def test_the_kl_is_the_sum_of_its_dimensions(make_model, batch, posterior, decoder) -> None:
    output = make_model(posterior=posterior, decoder=decoder)(**batch)
    assert output.kl_per_dimension.shape == (4, 3)
    torch.testing.assert_close(output.kl_per_dimension.sum(-1), output.kl)


def test_a_posterior_of_dependent_dimensions_has_no_kl_per_dimension(make_model, batch) -> None:
    assert make_model(posterior="planar_flow")(**batch).kl_per_dimension is None
