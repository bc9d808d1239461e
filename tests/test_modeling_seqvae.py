"""The forward pass: what the loss is, which targets count, where z comes from, and that padding changes nothing."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch.nn import functional as F

from modeling_seqvae.kernels import weight_of
from modeling_seqvae.modeling_seqvae import SeqVAEEncoderOutput


def nll_by_hand(logits: torch.Tensor, ids: torch.Tensor, length: int) -> torch.Tensor:
    """-log p of the tokens after `<s>` of one sentence, from its logits (T, V), one token at a time."""
    return -sum(logits[t].log_softmax(-1)[ids[t + 1]] for t in range(length - 1))


# The objective


def test_loss_is_the_mean_of_reconstruction_and_weighted_kl(make_model, batch) -> None:
    out = make_model()(**batch, kl_weight=0.3)
    assert out.reconstruction_loss.shape == out.kl.shape == (4,)
    torch.testing.assert_close(out.loss, (out.reconstruction_loss + 0.3 * out.kl).mean())


def test_reconstruction_is_the_sum_over_every_token_after_the_first(make_model, batch) -> None:
    out, lengths = make_model()(**batch), batch["attention_mask"].sum(1)
    rows = zip(out.logits, batch["input_ids"], lengths, strict=True)
    torch.testing.assert_close(out.reconstruction_loss, torch.stack([nll_by_hand(*row) for row in rows]))


def test_kl_is_the_posteriors(make_model, batch) -> None:
    model = make_model()
    torch.testing.assert_close(model(**batch).kl, model.encode(batch["input_ids"]).kl())


def test_kl_weight_is_the_models_unless_given(make_model, batch) -> None:
    model = make_model()
    at_one = model(**batch)
    model.kl_weight = 0.25
    assert model(**batch).loss == (at_one.reconstruction_loss + 0.25 * at_one.kl).mean()
    assert model(**batch, kl_weight=0.0).loss == at_one.reconstruction_loss.mean()


def test_a_language_model_has_no_kl_and_the_same_loss_at_any_weight(make_model, batch) -> None:
    model = make_model(latent_size=0)
    out = model(**batch, kl_weight=7.0)
    assert out.kl.tolist() == [0] * 4
    assert out.latents.shape == (4, 0)
    torch.testing.assert_close(out.loss, out.reconstruction_loss.mean())


def test_no_more_than_one_tensor_of_logits_in_training(make_model, batch, tensor_spy) -> None:
    model = make_model(vocab_size=4000).train()
    logits = batch["input_ids"][:, 1:].numel() * 4000
    with tensor_spy() as spy:
        loss = model(**batch).loss
        loss.backward()
    assert spy.count(logits // 2) == 1


# Which targets count


def test_labels_are_shifted_inside(make_model, batch) -> None:
    ids, mask = batch["input_ids"][:1], batch["attention_mask"][:1]
    labels = torch.randint(4, 20, ids.shape)
    out = make_model()(ids, mask, labels=labels)
    torch.testing.assert_close(out.reconstruction_loss[0], nll_by_hand(out.logits[0], labels[0], 6))


@pytest.mark.parametrize("return_logits", [True, False])
def test_a_target_of_minus_100_does_not_count(make_model, batch, return_logits) -> None:
    model = make_model()
    batch["labels"][0, 3] = -100
    out, whole = model(**batch, return_logits=return_logits), model(batch["input_ids"], labels=batch["input_ids"])
    skipped = -whole.logits[0, 2].log_softmax(-1)[batch["input_ids"][0, 3]]
    torch.testing.assert_close(out.reconstruction_loss[0], whole.reconstruction_loss[0] - skipped)


def test_a_masked_target_does_not_count(make_model, batch) -> None:
    model, ids = make_model(), batch["input_ids"]
    for mask in (batch["attention_mask"], None):  # padding tokens are masked without being told
        assert model(ids, mask, labels=ids).loss == model(**batch).loss


def test_a_mask_of_the_decoder_alone_counts_where_both_read_the_same_words(make_model, batch) -> None:
    model, mask = make_model(), batch["attention_mask"].clone()
    mask[:, 4:] = 0
    expected = model(**batch, decoder_input_ids=batch["input_ids"], decoder_attention_mask=mask)
    out = model(**batch, decoder_attention_mask=mask)
    assert torch.equal(out.reconstruction_loss, expected.reconstruction_loss)
    assert (out.reconstruction_loss[:2] < model(**batch).reconstruction_loss[:2]).all()
    with pytest.raises(ValueError, match="pad on the right"):
        model.model(batch["input_ids"], decoder_attention_mask=mask.flip(1))


def test_labels_belong_to_the_decoders_own_input(make_model, batch) -> None:
    """A sentence is encoded, another is written: its own length, padding and targets."""
    model, written = make_model(), torch.tensor([[1, 11, 12, 13, 14, 15, 2], [1, 16, 2, 0, 0, 0, 0]])
    read = {"input_ids": batch["input_ids"][:2], "attention_mask": batch["attention_mask"][:2]}
    mask = (written != 0).long()
    out = model(**read, decoder_input_ids=written, decoder_attention_mask=mask, labels=written)
    rows = zip(out.logits, written, mask.sum(1), strict=True)
    torch.testing.assert_close(out.reconstruction_loss, torch.stack([nll_by_hand(*row) for row in rows]))
    torch.testing.assert_close(out.kl, model.encode(**read).kl())
    assert model(**read, decoder_input_ids=written, labels=written).loss == out.loss


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_labels", [True, False])
def test_logits_are_left_out_only_when_training_on_labels(make_model, batch, training, with_labels) -> None:
    model = make_model().train(training)
    if not with_labels:
        del batch["labels"]
    assert (model(**batch).logits is None) == (training and with_labels)
    assert model(**batch, return_logits=True).logits.shape == (4, 6, 20)
    assert model(**batch, return_logits=False).logits is None


def test_the_loss_is_the_same_with_and_without_logits(make_model, batch) -> None:
    model = make_model()
    gradients = []
    for return_logits in (True, False):
        out = model(**batch, return_logits=return_logits)
        gradients.append((out.loss, *torch.autograd.grad(out.loss, list(model.parameters()))))
    torch.testing.assert_close(gradients[1], gradients[0])


def test_labels_without_a_sentence_to_encode_are_refused(make_model, batch) -> None:
    start = SeqVAEEncoderOutput(last_hidden_state=torch.zeros(4, 1, 3), latents=torch.zeros(4, 3))
    with pytest.raises(ValueError, match="labels need a sentence to encode"):
        make_model()(encoder_outputs=start, decoder_input_ids=batch["input_ids"], labels=batch["labels"])


# Where z comes from


def test_training_samples_the_posterior_and_evaluation_takes_its_mean(make_model, batch) -> None:
    model = make_model(embedding_dropout=0, output_dropout=0)
    mean = model.encode(batch["input_ids"]).mean
    assert torch.equal(model(**batch).latents, mean)
    first, second = model.train()(**batch).latents, model(**batch).latents
    assert not torch.isclose(first, second).any() and not torch.isclose(first, mean).any()


def test_sample_posterior_decides_in_either_mode(make_model, batch) -> None:
    model = make_model()
    mean = model.encode(batch["input_ids"]).mean
    assert not torch.isclose(model(**batch, sample_posterior=True).latents, mean).any()
    assert torch.equal(model.train()(**batch, sample_posterior=False).latents, mean)


def test_draws_in_training_are_the_posteriors(make_model, batch) -> None:
    model = make_model().train()
    posterior = model.encode(batch["input_ids"])
    torch.manual_seed(3)
    expected = posterior.rsample()[0]
    torch.manual_seed(3)
    torch.testing.assert_close(model(**batch).latents, expected)


@pytest.mark.parametrize("training", [True, False])
def test_given_latents_override_both(make_model, batch, training) -> None:
    model, latents = make_model().train(training), torch.randn(4, 3)
    out = model(**batch, latents=latents)
    assert torch.equal(out.latents, latents)
    torch.testing.assert_close(out.kl, model.encode(batch["input_ids"]).kl())


def test_every_sentence_is_decoded_from_its_own_latent(make_model, batch) -> None:
    model, latents = make_model(), torch.randn(4, 3)
    logits = model(**batch, latents=latents).logits
    swapped = model(**batch, latents=latents[[1, 0, 2, 3]]).logits
    assert not torch.isclose(swapped[:2], logits[:2]).all(-1).any()
    torch.testing.assert_close(swapped[2:], logits[2:])


@pytest.mark.parametrize("action", ["encode", "reconstruct"])
def test_a_language_model_has_nothing_to_encode_into(make_model, batch, action) -> None:
    with pytest.raises(ValueError, match="latent_size=0"):
        getattr(make_model(latent_size=0), action)(batch["input_ids"])


def test_encoder_outputs_stand_for_the_sentence(make_model, batch) -> None:
    model, expected = make_model(), make_model()(**batch)
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    for given in (encoded, encoded.to_tuple()):
        out = model(encoder_outputs=given, decoder_input_ids=batch["input_ids"], labels=batch["labels"])
        assert torch.equal(out.logits, expected.logits) and out.loss == expected.loss


# Padding


@pytest.mark.parametrize("mode", ["last", "avg", "max", "abs", "attention"])
def test_padding_changes_nothing(make_model, batch, mode) -> None:
    model = make_model(pooling_mode=mode)
    mask = F.pad(batch["attention_mask"], (0, 3))
    padded = torch.where(mask.bool(), F.pad(batch["input_ids"], (0, 3)), torch.randint(20, mask.shape))
    expected = model(**batch)
    out = model(padded, mask, labels=padded)
    for name in ("loss", "reconstruction_loss", "kl", "latents", "pooled"):
        torch.testing.assert_close(out[name], expected[name])
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(out.logits[:, :6][real], expected.logits[real])


def test_padding_changes_no_gradient(make_model, batch) -> None:
    model, gradients = make_model(), []
    for extra in (0, 3):
        ids = F.pad(batch["input_ids"], (0, extra))
        gradients.append(torch.autograd.grad(model(ids, labels=ids).loss, list(model.parameters())))
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_sentence_does_not_depend_on_its_batch(make_model, batch) -> None:
    model, together = make_model(), make_model()(**batch)
    alone = model(batch["input_ids"][2:3, :3], labels=batch["input_ids"][2:3, :3])
    torch.testing.assert_close(alone.reconstruction_loss, together.reconstruction_loss[2:3])
    torch.testing.assert_close(alone.kl, together.kl[2:3])


def test_padding_before_words_is_refused_where_the_decoder_reads(make_model, batch) -> None:
    model, left = make_model(), torch.tensor([[1, 5, 2], [0, 1, 2]])
    with pytest.raises(ValueError, match="pad on the right"):
        model(left, labels=left)
    with pytest.raises(ValueError, match="pad on the right"):
        model(left, decoder_input_ids=left, decoder_attention_mask=(left != 0).long())
    assert model(left, decoder_input_ids=batch["input_ids"][:2]).logits is not None  # the encoder takes either


@pytest.mark.parametrize("shape", [(1, 6), (4, 4), (4, 2), (4, 8)])
@pytest.mark.parametrize("latent_size", [0, 3])
def test_a_mask_of_another_shape_than_the_words_is_refused(make_model, batch, shape, latent_size) -> None:
    """One row for all sentences would leave all but the first without words, and fewer columns would cut them."""
    model, mask = make_model(latent_size=latent_size), torch.ones(shape, dtype=torch.long)
    ids = batch["input_ids"]
    with pytest.raises(ValueError, match=r"mask must be \(4, 6\), .* got"):
        model(ids, attention_mask=mask, labels=batch["labels"])
    with pytest.raises(ValueError, match=r"mask must be \(4, 6\), .* got"):
        model.iw_nll(ids, mask, num_samples=2)
    if latent_size:
        embeds = model.get_input_embeddings()(ids)
        for use in (model.encode, model.reconstruct):
            with pytest.raises(ValueError, match="mask must be"):
                use(ids, mask)
        with pytest.raises(ValueError, match="mask must be"):
            model.encode(inputs_embeds=embeds, attention_mask=mask)
        with pytest.raises(ValueError, match="mask must be"):
            model(**batch, decoder_input_ids=ids, decoder_attention_mask=mask)


# Inputs that are not ids


def test_embeddings_for_both_sides_equal_ids(make_model, batch) -> None:
    model, expected = make_model(), make_model()(**batch)
    ids = batch.pop("input_ids")
    to_encoder, to_decoder = model.model.encoder.embed_tokens(ids), model.model.decoder.embed_tokens(ids)
    out = model(
        inputs_embeds=to_encoder, decoder_inputs_embeds=to_decoder, **batch,
        decoder_attention_mask=batch["attention_mask"],
    )  # fmt: skip
    assert torch.equal(out.logits, expected.logits) and out.loss == expected.loss
    mixed = model(inputs_embeds=to_encoder, attention_mask=batch["attention_mask"], decoder_input_ids=ids)
    assert torch.equal(mixed.logits, expected.logits)


def test_embeddings_for_the_encoder_alone_are_refused(make_model, batch) -> None:
    model = make_model()
    with pytest.raises(ValueError, match="give decoder_input_ids or decoder_inputs_embeds too"):
        model(inputs_embeds=model.get_input_embeddings()(batch["input_ids"]))


@pytest.mark.parametrize("latent_size", [0, 3])
def test_no_input_and_two_inputs_are_refused(make_model, batch, latent_size) -> None:
    model = make_model(latent_size=latent_size)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    for inputs in ({}, {"input_ids": batch["input_ids"], "inputs_embeds": embeds}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**inputs)


@pytest.mark.parametrize("decoder", ["lstm", "unigram"])
def test_ids_and_embeddings_for_the_decoder_are_refused(make_model, batch, decoder) -> None:
    """`generate` would write every word after the same embedding."""
    model, ids = make_model(decoder=decoder), batch["input_ids"]
    embeds = model.get_input_embeddings()(ids)
    with pytest.raises(ValueError, match="either decoder_input_ids or decoder_inputs_embeds"):
        model(**batch, decoder_input_ids=ids, decoder_inputs_embeds=embeds)
    with pytest.raises(ValueError, match="either decoder_input_ids or decoder_inputs_embeds"):
        model.generate(ids, decoder_inputs_embeds=embeds[:, :1], max_new_tokens=3)


# What else comes out


def test_hidden_states_are_those_of_every_layer(make_model, batch) -> None:
    out = make_model(num_hidden_layers=2, encoder_hidden_size=5)(**batch, output_hidden_states=True)
    assert [tuple(states.shape) for states in out.encoder_hidden_states] == [(4, 6, 6), (4, 6, 5), (4, 6, 5)]
    assert [tuple(states.shape) for states in out.decoder_hidden_states] == [(4, 6, 6), (4, 6, 8), (4, 6, 8)]
    assert torch.equal(out.encoder_hidden_states[-1], out.encoder_last_hidden_state)
    assert out.pooled.shape == (4, 5)


def test_pooled_is_the_pool_of_the_encoders_states(make_model, batch) -> None:
    out = make_model(pooling_mode="max")(**batch)
    hidden = [
        row[:n].amax(0) for row, n in zip(out.encoder_last_hidden_state, batch["attention_mask"].sum(1), strict=True)
    ]
    torch.testing.assert_close(out.pooled, torch.stack(hidden))


# Precision and wrappers


def test_under_bfloat16_autocast_the_loss_is_float32_and_close(make_model, batch) -> None:
    model = make_model()
    expected = model(**batch, return_logits=False).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch, return_logits=False).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"latent_size": 0}, {"decoder_skip": True, "pooling_mode": "attention"}])
def test_encoder_and_decoder_run_through_their_forward(make_model, batch, changes) -> None:
    """Sharding and offloading place a module's weights when its forward is called, and there only."""
    model, called = make_model(**changes).train(), []
    for name in ("encoder", "decoder"):
        module = getattr(model.model, name)
        module.register_forward_pre_hook(lambda module, inputs: called.append(type(module).__name__))
    model(**batch)
    assert called == ["SeqVAEEncoder" if model.config.latent_size else "NoEncoder", "LSTMDecoder"]


@pytest.mark.parametrize(
    "changes", [{}, {"latent_size": 0}, {"decoder": "unigram"}, {"posterior": "implicit"}], ids=str
)
@pytest.mark.parametrize("training", [False, True])
def test_copies_of_data_parallel_give_what_the_model_gives(make_model, batch, data_parallel, changes, training) -> None:
    model = make_model(embedding_dropout=0.0, output_dropout=0.0, **changes).train(training)
    given = batch | {"latents": torch.randn(4, model.config.latent_size)}
    together = model(**given, sample_posterior=False)
    together.loss.backward()
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    halves = [{name: of[rows] for name, of in given.items()} for rows in ([0, 1], [2, 3])]
    found = data_parallel(model, halves)
    found.loss.mean().backward()
    torch.testing.assert_close(found.loss.mean(), together.loss)
    torch.testing.assert_close({name: weight.grad for name, weight in model.named_parameters()}, expected)


def test_copies_of_data_parallel_cannot_refine(make_model, batch, data_parallel) -> None:
    with pytest.raises(ValueError, match="'refined' cannot run in DataParallel"):
        data_parallel(make_model(posterior="refined"), [batch, batch])


@pytest.fixture
def data_parallel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What torch.nn.DataParallel makes of the outputs of a model's copies, without the GPUs that it copies to."""
    replicate, gather = (import_module(f"torch.nn.parallel.{name}") for name in ("replicate", "scatter_gather"))

    def copies(tensors, devices, detach=False):
        return [[tensor.detach() if detach else tensor * 1 for tensor in tensors] for _ in devices]

    monkeypatch.setattr(replicate, "_broadcast_coalesced_reshape", copies)
    monkeypatch.setattr(replicate, "_get_device_index", lambda device, *unused: device)
    together = SimpleNamespace(apply=lambda target, dim, *of: torch.cat([torch.atleast_1d(one) for one in of], dim))
    monkeypatch.setattr(gather, "Gather", together)

    def run(model, batches):
        models = replicate.replicate(model, list(range(len(batches))))
        return gather.gather(
            [copy(**part, sample_posterior=False) for copy, part in zip(models, batches, strict=True)], 0
        )

    return run


def test_a_misspelt_argument_is_refused(make_model, batch):
    with pytest.raises(TypeError, match="kl_wieght"):
        make_model()(**batch, kl_wieght=0.5)


def test_labels_of_another_shape_are_refused(make_model, batch):
    short = {**batch, "labels": batch["input_ids"][:, :-1]}
    with pytest.raises(ValueError, match="labels are"):
        make_model()(**short)


@pytest.mark.parametrize("decoder", ["lstm", "unigram"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_latents_of_another_number_of_sentences_are_refused(make_model, batch, decoder, count):
    with pytest.raises(ValueError, match=rf"latents must be \(4, 3\), got \({count}, 3\)"):
        make_model(decoder=decoder)(**batch, latents=torch.zeros(count, 3))


@pytest.mark.parametrize("training", [False, True])
def test_ids_of_32_bits_are_the_same_words(make_model, batch, training):
    model = make_model(embedding_dropout=0.0, output_dropout=0.0).train(training)
    short = {name: tensor.int() for name, tensor in batch.items()}
    torch.testing.assert_close(*(model(**words, sample_posterior=False).loss for words in (short, batch)))


def test_given_latents_need_no_sentence_to_encode(make_model, batch):
    model = make_model()
    z = torch.randn(len(batch["input_ids"]), model.config.latent_size)
    alone = model(decoder_input_ids=batch["input_ids"], latents=z).logits
    torch.testing.assert_close(alone, model(batch["input_ids"], batch["attention_mask"], latents=z).logits)


def test_a_wrapped_vocabulary_layer_is_part_of_the_loss(make_model, batch):
    class Doubled(torch.nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    model = make_model()
    head = model.lm_head
    given = {**batch, "labels": batch["input_ids"], "return_logits": False}
    plain = model(**given).loss
    model.lm_head = Doubled(head.in_features, head.out_features, bias=False)
    model.lm_head.weight = head.weight
    loss = model(**given).loss
    assert loss != plain
    torch.testing.assert_close(loss, model(**{**given, "return_logits": True}).loss)


@pytest.mark.parametrize(
    "changes", [{}, {"num_hidden_layers": 2}, {"decoder": "dilated_cnn"}, {"decoder": "hybrid"}], ids=str
)
def test_offloaded_weights_give_the_same_values(make_model, batch, changes):
    """They are in place while their layer is called, and there only."""
    model = make_model(embedding_dropout=0.0, output_dropout=0.0, **changes)
    given = batch | {"latents": torch.randn(4, 3), "return_logits": False, "sample_posterior": False}
    draws = torch.randn(5, 4, 3)

    @torch.no_grad()
    def values():
        out = model.train()(**given)
        nll = model.eval().iw_nll(batch["input_ids"], latents=draws)
        return out.loss, out.auxiliary_loss, nll

    expected = values()
    cpu_offload(model, torch.device("cpu"))
    assert model.lm_head.weight.device.type == "meta"
    torch.testing.assert_close(values(), expected)


@pytest.mark.parametrize("posterior", ["normalised", "planar_flow", "implicit"])
def test_weights_that_are_read_without_a_call_cannot_be_elsewhere(make_model, batch, posterior):
    model = make_model(posterior=posterior)
    cpu_offload(model, torch.device("cpu"))
    with pytest.raises(ValueError, match="cannot be quantised or offloaded"):
        model(**batch)
    with pytest.raises(ValueError, match="cannot be quantised or offloaded"):
        weight_of(SimpleNamespace(weight=lambda: torch.ones(1)))  # as torch's quantised layers have it


@pytest.mark.parametrize("name", ["lm_head", "model.decoder.auxiliary", "model.decoder.deconvolution.blocks"])
def test_what_a_hook_changes_is_part_of_the_loss(make_model, batch, name):
    model = make_model(decoder="hybrid", embedding_dropout=0.0, output_dropout=0.0).train()

    def losses():
        out = model(**batch, sample_posterior=False)
        return (out.loss + out.auxiliary_loss.mean()).item()

    before = losses()
    model.get_submodule(name).register_forward_hook(lambda layer, inputs, output: 2 * output)
    assert losses() != pytest.approx(before)


def test_a_hook_on_gradients_of_the_vocabulary_layer_is_called(make_model, batch):
    model, seen = make_model().train(), []
    model.lm_head.register_full_backward_hook(lambda layer, of_inputs, of_output: seen.append(of_output[0].shape[-1]))
    model(**batch).loss.backward()
    assert seen == [model.config.vocab_size]
