"""transformers' generate() on a recurrent state, and sampling and reconstruction on top of it."""

import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import DeferredStopCheck

from modeling_seqvae.generation import DrawingFrom
from modeling_seqvae.outputs import CACHE_NAME, SeqVAECache, SeqVAEEncoderOutput

END = 2
ARCHITECTURES = [{}, {"num_hidden_layers": 2}, {"decoder_skip": True}, {"latent_size": 0}]


def start_from(latents: torch.Tensor) -> SeqVAEEncoderOutput:
    return SeqVAEEncoderOutput(last_hidden_state=latents[:, None], latents=latents)


def decoder_logits(model, latents: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, V) of the texts given z; every token counts as a word, a padding token too."""
    start, mask = start_from(latents), torch.ones_like(ids)
    return model(encoder_outputs=start, decoder_input_ids=ids, decoder_attention_mask=mask).logits


def greedy_by_hand(model, latents: torch.Tensor, prompt: torch.Tensor, max_length: int) -> torch.Tensor:
    """The likeliest next word, again and again, reading the whole text every time."""
    ids, ended = prompt, torch.zeros(len(prompt), dtype=torch.bool)
    while ids.shape[1] < max_length and not ended.all():
        logits = decoder_logits(model, latents, ids)[:, -1]
        word = logits.argmax(-1).masked_fill(ended, 0)
        ids, ended = torch.cat([ids, word[:, None]], 1), ended | (word == END)
    return ids


@pytest.fixture
def latents() -> torch.Tensor:
    return 2 * torch.randn(5, 3)


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_greedy_with_the_cache_equals_greedy_without(make_model, latents, changes) -> None:
    model = make_model(**changes)
    latents = latents[:, : model.config.latent_size]
    expected = greedy_by_hand(model, latents, torch.ones(5, 1, dtype=torch.long), 12)
    for use_cache in (True, False):
        ids = model.generate(encoder_outputs=start_from(latents), max_length=12, do_sample=False, use_cache=use_cache)
        assert torch.equal(ids, expected)


def test_sampling_with_the_cache_equals_sampling_without(make_model, latents) -> None:
    model = make_model()
    drawn = [
        model.sample(latents=latents, generator=torch.Generator().manual_seed(0), max_length=15, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert torch.equal(*drawn)


def log_probability(model, z: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """log p of every word after the first of texts (N, T), up to and with the first `</s>`, given one z."""
    logits = decoder_logits(model, z.expand(len(texts), -1), texts)
    words = logits.log_softmax(-1)[:, :-1].gather(-1, texts[:, 1:, None]).squeeze(-1)
    after_end = (texts[:, 1:] == END).cumsum(1) - (texts[:, 1:] == END).long() > 0
    return words.masked_fill(after_end, 0).sum(1)


def every_text(vocabulary: int, words: int) -> torch.Tensor:
    """All texts of at most this many words, `</s>` included, as generate() pads them."""
    texts = set()
    for text in itertools.product(range(vocabulary), repeat=words):
        end = text.index(END) + 1 if END in text else words
        texts.add((1, *text[:end], *[0] * (words - end)))
    return torch.tensor(sorted(texts))


def up_to_end(ids: torch.Tensor) -> list[list[int]]:
    """Each text with its first `</s>`; a beam search of transformers may fill up with more of them."""
    return [row[: row.index(END) + 1] if END in row else row for row in ids.tolist()]


@pytest.mark.parametrize("min_length", [0, 5], ids=["any length", "full length"])
@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 2}], ids=["one layer", "two layers"])
def test_beams_wide_enough_find_the_best_of_all_texts(make_model, changes, min_length) -> None:
    """Which takes a cache that follows its beam, and a z of its own for every sentence."""
    model, texts = make_model(vocab_size=5, **changes), every_text(5, 4)
    latents = 3 * torch.randn(3, 3)
    if min_length:
        texts = texts[(texts != END).all(1)]
    found = model.generate(
        encoder_outputs=start_from(latents), num_beams=130, num_return_sequences=3, length_penalty=0.0,
        early_stopping=False, do_sample=False, min_length=min_length, max_length=5,
    )  # fmt: skip
    for z, beams in zip(latents, found.view(3, 3, -1), strict=True):
        best = texts[log_probability(model, z, texts).topk(3).indices]
        assert up_to_end(beams) == up_to_end(best)


def test_beams_of_a_batch_equal_beams_of_each_sentence(make_model, latents) -> None:
    model, options = make_model(), {"num_beams": 4, "num_return_sequences": 2, "max_length": 9, "min_length": 9}
    together = model.generate(encoder_outputs=start_from(latents), **options)
    assert together.shape == (10, 9)
    for index in range(5):
        alone = model.generate(encoder_outputs=start_from(latents[index : index + 1]), **options)
        assert torch.equal(alone, together[2 * index : 2 * index + 2])


def test_beams_with_the_cache_equal_beams_without(make_model, latents) -> None:
    model, options = make_model(), {"num_beams": 4, "max_length": 9}
    found = [model.generate(encoder_outputs=start_from(latents), use_cache=use, **options) for use in (True, False)]
    assert torch.equal(*found)


def test_several_sequences_of_a_sentence_share_its_latent(make_model, batch) -> None:
    model = make_model()
    out = model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=True, top_k=0, num_return_sequences=3,
        max_length=4, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    first = decoder_logits(model, model.encode(batch["input_ids"]).mean, batch["input_ids"][:, :1])[:, 0]
    assert out.sequences.shape == (12, 4)
    torch.testing.assert_close(out.logits[0], first.repeat_interleave(3, dim=0))


def test_latents_given_to_several_sequences_are_repeated(make_model, latents) -> None:
    drawn = make_model().sample(latents=latents, num_return_sequences=2, max_length=6, min_length=6)
    assert drawn.shape == (10, 6)


# Ancestral sampling


def first_word_counts(model, z: torch.Tensor, draws: int, **options) -> torch.Tensor:
    ids = model.sample(latents=z.expand(draws, -1), generator=torch.Generator().manual_seed(0), max_length=2, **options)
    return ids[:, 1].bincount(minlength=model.config.vocab_size).double()


def first_word_probabilities(model, z: torch.Tensor) -> torch.Tensor:
    return decoder_logits(model, z[None], torch.tensor([[1]]))[0, 0].double().softmax(-1)


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = probabilities * counts.sum()
    return ((counts - expected).square() / expected).sum().item()


def test_words_are_drawn_as_often_as_the_model_says(make_model, latents) -> None:
    """Chi-square with 19 degrees of freedom stays below 50 in all but 1 of 10,000 samples."""
    model, z = make_model(), latents[0]
    assert chi_square(first_word_counts(model, z, 4000), first_word_probabilities(model, z)) < 50


def test_samples_are_not_cut_by_the_librarys_or_the_configurations_limits(make_model) -> None:
    """generate() keeps the 50 likeliest words unless told otherwise."""
    model, z = make_model(vocab_size=80, initializer_range=0.05), torch.zeros(3)
    model.generation_config.top_k, model.generation_config.top_p = 3, 0.1
    assert (first_word_counts(model, z, 2000) > 0).sum() > 70


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
def test_latents_of_another_shape_are_refused(make_model, shape) -> None:
    with pytest.raises(ValueError, match=r"latents must be \(N, 3\), got"):
        make_model().sample(latents=torch.zeros(shape))


def test_temperature_sharpens_the_distribution(make_model, latents) -> None:
    model, z = make_model(), latents[0]
    sharpened = first_word_probabilities(model, z).pow(1 / 0.5)
    counts = first_word_counts(model, z, 4000, temperature=0.5)
    assert chi_square(counts, sharpened / sharpened.sum()) < 50


def test_top_k_and_top_p_keep_only_the_likeliest_words(make_model, latents) -> None:
    model, z = make_model(), latents[0]
    probabilities, order = first_word_probabilities(model, z).sort(descending=True)
    by_k = first_word_counts(model, z, 500, top_k=3).nonzero().flatten()
    assert set(by_k.tolist()) == set(order[:3].tolist())
    nucleus = int((probabilities.cumsum(0) < 0.5).sum()) + 1
    by_p = first_word_counts(model, z, 500, top_p=0.5).nonzero().flatten()
    assert set(by_p.tolist()) == set(order[:nucleus].tolist())


def test_samples_come_from_the_prior(make_model) -> None:
    """Words of samples follow the model's probabilities averaged over z ~ N(0, I)."""
    model, draws = make_model(), 4000
    averaged = torch.stack([first_word_probabilities(model, z) for z in torch.randn(500, 3)]).mean(0)
    ids = model.sample(draws, generator=torch.Generator().manual_seed(0), max_length=2)
    frequencies = ids[:, 1].bincount(minlength=20).double() / draws
    assert (frequencies - averaged).abs().max() < 0.03


@pytest.mark.parametrize("latent_size", [0, 3])
def test_a_generator_decides_latents_and_words(make_model, latent_size) -> None:
    model = make_model(latent_size=latent_size)
    generator = torch.Generator().manual_seed(5)
    first, second = (model.sample(6, generator=generator, max_length=9, min_length=9) for _ in range(2))
    torch.manual_seed(99)
    again = model.sample(6, generator=torch.Generator().manual_seed(5), max_length=9, min_length=9)
    assert torch.equal(again, first) and not torch.equal(second, first)


def test_a_generator_leaves_the_global_random_state_alone(make_model) -> None:
    state = torch.get_rng_state()
    make_model().sample(3, generator=torch.Generator().manual_seed(5), max_length=9)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"top_k": 5, "num_return_sequences": 2}], ids=str)
def test_draws_in_threads_are_those_of_the_generator_alone(make_model, options) -> None:
    model, state = make_model(), torch.get_rng_state()

    def drawn(seed: int) -> torch.Tensor:
        return model.sample(3, generator=torch.Generator().manual_seed(seed), max_length=9, min_length=9, **options)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(drawn, range(20)))
    alone = [drawn(seed) for seed in range(20)]
    assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))
    assert len({tuple(ids.flatten().tolist()) for ids in alone}) == 20
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_decides_in_its_own_thread_alone(make_model) -> None:
    with DrawingFrom(torch.Generator().manual_seed(0)), ThreadPoolExecutor(1) as other:
        torch.manual_seed(7)
        elsewhere = other.submit(torch.multinomial, torch.ones(50), 50).result()
    torch.manual_seed(7)
    assert torch.equal(elsewhere, torch.multinomial(torch.ones(50), 50))


def test_without_a_generator_the_global_seed_decides(make_model) -> None:
    model, drawn = make_model(), []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(model.sample(3, max_length=9))
    assert torch.equal(*drawn)


def test_samples_start_with_bos_and_are_padded_after_eos(make_model) -> None:
    ids = make_model().sample(50, max_length=12)
    assert ids.shape[0] == 50 and (ids[:, 0] == 1).all()
    ended = (ids == END).cumsum(1) - (ids == END).long() > 0
    assert ended.any() and not ids[ended].any()


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples_are_refused(make_model, num_samples) -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        make_model().sample(num_samples)


def test_greedy_and_beam_samples_need_only_be_asked_for(make_model, latents) -> None:
    model = make_model()
    greedy = model.sample(latents=latents, do_sample=False, max_length=9)
    assert torch.equal(greedy, greedy_by_hand(model, latents, torch.ones(5, 1, dtype=torch.long), 9))
    beams = model.sample(latents=latents, do_sample=False, num_beams=3, max_length=9)
    assert torch.equal(beams, model.generate(encoder_outputs=start_from(latents), num_beams=3, max_length=9))


@pytest.mark.parametrize("chosen", [{"do_sample": False}, {"do_sample": False, "num_beams": 3}, {"top_k": 1}], ids=str)
def test_a_generation_configuration_says_as_much_as_arguments_do(make_model, latents, caplog, chosen) -> None:
    model, own = make_model(), GenerationConfig(**chosen, max_length=9, eos_token_id=END, pad_token_id=0)
    before = own.to_dict()
    with _libraries_heard(caplog):
        ids = model.sample(latents=latents, generation_config=own)
    assert torch.equal(ids, model.sample(latents=latents, **chosen, max_length=9))
    assert own.to_dict() == before and "generation_config" not in caplog.text


def test_a_configuration_without_limits_samples_from_all_words(make_model) -> None:
    model, own = make_model(vocab_size=80, initializer_range=0.05), GenerationConfig(max_new_tokens=1)
    ids = model.sample(latents=torch.zeros(2000, 3), generation_config=own)
    assert (ids[:, 1].bincount(minlength=80) > 0).sum() > 70


# Reconstruction


def test_reconstruction_is_greedy_unless_a_configuration_is_given_that_samples(make_model, batch) -> None:
    model, ids, drawn = make_model(), batch["input_ids"], GenerationConfig(do_sample=True, max_length=10)
    assert not torch.equal(model.reconstruct(ids, generation_config=drawn), model.reconstruct(ids, max_length=10))
    greedy = model.reconstruct(ids, generation_config=GenerationConfig(max_length=10))
    assert torch.equal(greedy, model.reconstruct(ids, max_length=10))


def test_reconstruction_is_greedy_from_the_posterior_mean(make_model, batch) -> None:
    model = make_model()
    ids = model.reconstruct(batch["input_ids"], batch["attention_mask"], max_length=10)
    mean = model.encode(batch["input_ids"]).mean
    assert torch.equal(ids, greedy_by_hand(model, mean, torch.ones(4, 1, dtype=torch.long), 10))
    assert torch.equal(model.reconstruct(batch["input_ids"], max_length=10), ids)  # padding needs no mask


def test_reconstruction_is_greedy_whatever_the_configuration_samples(make_model, batch) -> None:
    model = make_model()
    expected = model.reconstruct(batch["input_ids"], max_length=10)
    model.generation_config.do_sample = True
    assert torch.equal(model.reconstruct(batch["input_ids"], max_length=10), expected)


def test_reconstruction_takes_the_arguments_of_generate(make_model, batch) -> None:
    model = make_model()
    ids = model.reconstruct(batch["input_ids"], do_sample=True, num_return_sequences=2, max_length=7)
    assert ids.shape[0] == 8
    beams = model.reconstruct(batch["input_ids"], num_beams=3, max_length=7)
    expected = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=3, max_length=7)
    assert torch.equal(beams, expected)


def test_reconstruction_from_a_draw_of_the_posterior(make_model, batch) -> None:
    model, drawn = make_model(), []
    for seed in range(10):
        torch.manual_seed(seed)
        drawn.append(tuple(model.reconstruct(batch["input_ids"], sample_posterior=True, max_length=7)[0].tolist()))
    assert len(set(drawn)) > 1


def test_the_length_limit_is_the_generation_configurations(make_model, batch) -> None:
    model = make_model()
    model.generation_config.max_length = 4
    assert model.reconstruct(batch["input_ids"]).shape[1] <= 4
    assert model.sample(30).shape[1] == 4


@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_max_new_tokens_replaces_the_models_own_limit_without_a_warning(make_model, latents, caplog, how) -> None:
    model = make_model()
    model.generation_config.max_length = 4
    options = {"max_new_tokens": 7}
    if how == "configuration":
        options = {"generation_config": GenerationConfig(max_new_tokens=7, eos_token_id=END, pad_token_id=0)}
    with _libraries_heard(caplog):
        ids = model.generate(encoder_outputs=start_from(latents), bad_words_ids=[[END]], **options)
        prompted = model.sample(latents=latents, decoder_input_ids=[[1, 5, 6]], max_new_tokens=7, min_new_tokens=7)
    assert ids.shape == (5, 8) and prompted.shape == (5, 10)
    assert "max_new_tokens" not in caplog.text
    with _libraries_heard(caplog):
        assert model.sample(latents=latents, max_new_tokens=3, max_length=9).shape[1] <= 4
    assert "max_new_tokens" in caplog.text  # both were asked for


@contextmanager
def _libraries_heard(caplog) -> Iterator[None]:
    """caplog with what transformers logs, which keeps it from the root logger."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_embeddings_generate_what_their_ids_do(make_model, batch) -> None:
    model, mask = make_model(), batch["attention_mask"]
    embeds = model.get_input_embeddings()(batch["input_ids"])
    from_embeds = model.generate(inputs_embeds=embeds, attention_mask=mask, max_length=9, do_sample=False)
    assert torch.equal(from_embeds, model.reconstruct(batch["input_ids"], mask, max_length=9))


# Prompts


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("latent_size", [0, 3])
def test_a_prompt_is_continued(make_model, latents, latent_size, use_cache) -> None:
    model, prompt = make_model(latent_size=latent_size), torch.tensor([[1, 5, 6]]).expand(5, -1)
    latents = latents[:, :latent_size]
    ids = model.sample(latents=latents, decoder_input_ids=prompt, do_sample=False, max_length=9, use_cache=use_cache)
    assert torch.equal(ids, greedy_by_hand(model, latents, prompt, 9))


def test_a_language_model_generates_from_a_prompt_alone(make_model) -> None:
    model, prompt = make_model(latent_size=0), torch.tensor([[1, 5, 6], [1, 7, 8]])
    ids = model.generate(decoder_input_ids=prompt, do_sample=False, max_length=9)
    assert torch.equal(ids, greedy_by_hand(model, torch.empty(2, 0), prompt, 9))


def test_a_language_model_says_that_it_encodes_no_text(make_model, recwarn) -> None:
    text = torch.tensor([[1, 5, 6, 2]])
    make_model(latent_size=0).generate(decoder_input_ids=text[:, :3], max_length=6)
    make_model(latent_size=0).sample(1, max_length=6)
    make_model().generate(text, max_length=6)
    assert not [one for one in recwarn if "without an encoder" in str(one.message)]
    with pytest.warns(UserWarning, match="of input_ids only the number of rows counts. Give .* as decoder_input_ids"):
        make_model(latent_size=0).generate(text, max_length=6)


def test_a_prompt_without_bos_gets_one(make_model, latents) -> None:
    ids = make_model().sample(latents=latents[:2], decoder_input_ids=torch.tensor([[5, 6], [7, 8]]), max_length=6)
    assert ids[:, :3].tolist() == [[1, 5, 6], [1, 7, 8]]


@pytest.mark.parametrize("posterior", ["gaussian", "refined"])
def test_padding_is_no_word_where_no_mask_is_given(make_model, batch, posterior) -> None:
    """transformers infers no mask for an encoder; `forward` and `encode` hide what is padding, and so does this."""
    model, ids = make_model(posterior=posterior), batch["input_ids"]
    given = {"do_sample": False, "max_new_tokens": 4, "return_dict_in_generate": True, "output_logits": True}
    found, expected = (model.generate(ids, attention_mask=mask, **given) for mask in (None, batch["attention_mask"]))
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits))
    encoder = model.get_encoder()
    torch.testing.assert_close(encoder(ids).latents, encoder(ids, batch["attention_mask"]).latents)


@pytest.mark.parametrize("returned", [1, 2])
def test_one_prompt_serves_all_sentences(make_model, latents, returned) -> None:
    model, prompt, mask = make_model(), torch.tensor([[1, 5, 6]]), torch.ones(1, 3, dtype=torch.long)
    options = {"do_sample": False, "max_length": 9, "num_return_sequences": returned, "num_beams": 2}
    expected = model.sample(latents=latents, decoder_input_ids=prompt.expand(5, -1), **options)
    for given in ({}, {"decoder_attention_mask": mask}):
        assert torch.equal(model.sample(latents=latents, decoder_input_ids=prompt, **given, **options), expected)
    assert (model.sample(2, decoder_input_ids=prompt)[:, :3] == prompt).all()


def test_one_prompt_serves_all_reconstructions(make_model, batch) -> None:
    model, prompt = make_model(), torch.tensor([[1, 5, 6]])
    expected = model.reconstruct(batch["input_ids"], decoder_input_ids=prompt.expand(4, -1), max_length=9)
    assert torch.equal(model.reconstruct(batch["input_ids"], decoder_input_ids=prompt, max_length=9), expected)


@pytest.mark.parametrize("prompt", [[[1, 5], [1, 6]], [1, 5]], ids=["two", "no row"])
def test_prompts_for_another_number_of_sentences_are_refused(make_model, latents, prompt) -> None:
    with pytest.raises(ValueError, match="decoder_input_ids must have one row for all sentences or one for each of"):
        make_model().sample(latents=latents, decoder_input_ids=torch.tensor(prompt), max_length=6)


@pytest.mark.parametrize("prompt", [[[1, 5], [0, 1]], [[0, 1], [0, 1]], [[1, 5], [1, 0]]], ids=["left", "all", "right"])
@pytest.mark.parametrize("with_mask", [True, False])
def test_padded_prompts_are_refused(make_model, latents, prompt, with_mask) -> None:
    ids = torch.tensor(prompt)
    options = {"decoder_attention_mask": (ids != 0).long()} if with_mask else {}
    with pytest.raises(ValueError, match="one length at a time"):
        make_model().sample(latents=latents[:2], decoder_input_ids=ids, max_length=6, **options)


def test_a_padding_token_that_was_drawn_is_a_word_like_any_other(make_model, latents) -> None:
    """An untrained model may draw it, and goes on."""
    model = make_model()
    options = {
        "bad_words_ids": [[word] for word in range(20) if word not in (0, 7)],
        "max_length": 9,
        "min_length": 9,
    }
    drawn = [
        model.sample(latents=latents, use_cache=use, generator=torch.Generator().manual_seed(0), **options)
        for use in (True, False)
    ]
    assert torch.equal(*drawn)
    assert set(drawn[0][:, 1:].flatten().tolist()) == {0, 7}


def test_methods_that_take_words_back_are_refused(make_model, batch) -> None:
    """A recurrent state cannot be rolled back."""
    with pytest.raises(ValueError, match="stateful"):
        make_model().generate(batch["input_ids"][:1], prompt_lookup_num_tokens=2, max_length=6)


def test_guidance_is_for_language_models(make_model, batch) -> None:
    """What it compares with would be encoded: the words that are written, as a text of their own."""
    prompt, options = torch.tensor([[1, 5, 9]]), {"guidance_scale": 2.0, "output_logits": True, "max_new_tokens": 3}
    for use_cache in (True, False):
        with pytest.raises(ValueError, match="guidance_scale compares with the model on its last words alone"):
            make_model().generate(batch["input_ids"], use_cache=use_cache, **options)
    model = make_model(latent_size=0)
    guided = model.generate(
        decoder_input_ids=prompt, return_dict_in_generate=True, output_scores=True, do_sample=False, **options
    )
    logits = [model(ids, decoder_input_ids=ids).logits[0, -1].log_softmax(-1) for ids in (prompt, prompt[:, -1:])]
    torch.testing.assert_close(guided.scores[0][0], 2 * logits[0] - logits[1])


# Streams and outputs


class Heard(BaseStreamer):
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_every_token_in_order(make_model, latents) -> None:
    streamer = Heard()
    ids = make_model().sample(latents=latents[:1], streamer=streamer, max_length=9)
    assert streamer.tokens == ids[0].tolist() and streamer.ended


def test_generate_reports_scores_and_states(make_model, batch) -> None:
    out = make_model(num_hidden_layers=2).generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], max_length=5, min_length=5, do_sample=False,
        output_scores=True, output_hidden_states=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert len(out.scores) == len(out.decoder_hidden_states) == 4
    assert len(out.decoder_hidden_states[0]) == len(out.encoder_hidden_states) == 3
    cache = out[CACHE_NAME]
    assert cache.get_seq_length() == 4
    assert cache.hidden.shape == (2, 4, 8)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_goes_on_from_the_cache_that_generate_returned(make_model, latents, name, beams) -> None:
    """Under both names, with every transformers; no word is read twice, whose mark the state would keep."""

    def write(max_length: int, **options):
        return make_model().generate(
            encoder_outputs=start_from(latents), do_sample=False, max_length=max_length, min_length=max_length,
            return_dict_in_generate=True, output_scores=True, **options,
        )  # fmt: skip

    first = write(6)
    ids, cache = first.sequences, first[CACHE_NAME]
    assert cache.get_seq_length() == 5
    if beams > 1:
        cache.reorder_cache(torch.arange(5).repeat_interleave(beams))
    expected = write(12, decoder_input_ids=ids, num_beams=beams)
    continued = write(12, decoder_input_ids=ids, num_beams=beams, **{name: cache})
    assert torch.equal(continued.sequences, expected.sequences)
    torch.testing.assert_close(continued.scores, expected.scores)


def test_a_cache_that_has_read_the_whole_prompt_is_refused(make_model, latents) -> None:
    model, options = make_model(), {"max_length": 6, "min_length": 6}
    first = model.generate(encoder_outputs=start_from(latents), return_dict_in_generate=True, **options)
    ids = first.sequences[:, :5]
    with pytest.raises(ValueError, match="has 5 tokens and the cache has read 5"):
        model.generate(encoder_outputs=start_from(latents), decoder_input_ids=ids, cache=first[CACHE_NAME], **options)


@pytest.mark.parametrize("returned", [True, False])
def test_the_cache_answers_what_generate_asks_where_it_stops_a_step_late(returned) -> None:
    """On Apple's GPUs: the words of the step too many are undone, which a recurrent state cannot be."""
    cache, device = SeqVAECache(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)), torch.device("mps")
    assert DeferredStopCheck.is_supported(device, cache, returned, is_assistant=False) != returned
