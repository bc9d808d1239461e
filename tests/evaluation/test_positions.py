"""What z saves at each word: sums, bounds, and all that it does not depend on."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.distributions import Independent, Normal

from modeling_seqvae import SeqVAE, SeqVAEForTextModeling
from modeling_seqvae.evaluation import positions as module
from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.evaluation.positions import (
    PositionEvaluator,
    TokenCosts,
    curves,
    from_the_end,
    piece_costs,
    position_report,
)
from modeling_seqvae.noise import seed_of, standard_normal

COUNT = 40
DRAWS = 5


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Tokenised sentences of 0 to 8 random words."""
    random = np.random.default_rng(0)
    words = [5, 1, 0, 2, 8, *random.integers(0, 9, COUNT - 5)]
    ids = [[1, *random.integers(3, 20, length).tolist(), 2] for length in words]
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "index": list(range(COUNT))})


@pytest.fixture
def model(make_model: Callable[..., Any]) -> SeqVAEForTextModeling:
    return make_model().double()


def costs_of(model: SeqVAEForTextModeling, dataset: Dataset, draws: int = DRAWS, **arguments: Any) -> TokenCosts:
    return PositionEvaluator(model, dataset, **{"progress": False, **arguments}).token_costs(draws)


def columns(costs: TokenCosts) -> list[np.ndarray]:
    return [costs.given, costs.saved, costs.told]


def total(values: np.ndarray) -> np.ndarray:
    """The sum over each sentence's tokens, (N,)."""
    return np.nansum(values, 1)


def test_the_costs_of_the_words_add_up_to_the_evaluator_s_reconstruction(model, dataset) -> None:
    costs = costs_of(model, dataset, seed=3)
    measured = Evaluator(model, dataset, seed=3, progress=False).measure()
    np.testing.assert_allclose(total(costs.given), measured.reconstruction.numpy(), atol=1e-10)
    np.testing.assert_allclose(costs.kl, measured.kl.numpy(), atol=1e-12)
    assert costs.tokens.tolist() == measured.tokens.tolist()
    assert costs.number.tolist() == list(range(COUNT))


def test_what_is_saved_and_told_is_that_of_each_sentence_alone(model, dataset) -> None:
    """By the definitions, draw by draw: means of logarithms, and logarithms of weighted means of probabilities."""
    costs = costs_of(model, dataset, seed=1)
    for number in (0, 2, 4):
        row = torch.tensor([dataset[number]["input_ids"]])
        posterior, generator = model.encode(row), torch.Generator().manual_seed(seed_of(1, number))
        noise = standard_normal(1 + 2 * DRAWS, posterior.mean, [generator])[:, 0]
        q = Independent(Normal(posterior.mean[0], posterior.variance[0].sqrt()), 1)
        p = Independent(Normal(torch.zeros(3).double(), 1.0), 1)
        z = torch.cat([q.base_dist.mean + q.base_dist.stddev * noise[: 1 + DRAWS], noise[1 + DRAWS :]])
        rows = row.expand(len(z), -1)
        logits = model(rows, decoder_input_ids=rows, latents=z).logits
        log_p = logits[:, :-1].log_softmax(-1).gather(2, rows[:, 1:, None]).squeeze(2).detach()  # (1 + 2S, T)
        weights = (p.log_prob(z[1:]).exp() / (p.log_prob(z[1:]).exp() + q.log_prob(z[1:]).exp())).detach()
        seen = weights  # weights of the draws after the words so far
        for t in range(costs.tokens[number]):
            predictive = (seen * log_p[1:, t].exp()).sum() / seen.sum()
            seen = seen * log_p[1:, t].exp()
            assert costs.given[number, t] == pytest.approx(-log_p[0, t].item())
            assert costs.saved[number, t] == pytest.approx((log_p[0, t] - log_p[1 + DRAWS :, t].mean()).item())
            assert costs.told[number, t] == pytest.approx((log_p[0, t] - predictive.log()).item())
        for values in columns(costs):
            assert np.isnan(values[number, costs.tokens[number] :]).all()


def test_without_z_a_sentence_costs_its_likelihood(model, dataset) -> None:
    """Σ_t told_t = -log p(x) - Rec, with -log p(x) as the importance-weighted NLL has it."""
    few = dataset.select(range(10))
    nll = Evaluator(model, few, seed=7, progress=False).nll(3000)
    costs = costs_of(model, few, draws=3000)
    np.testing.assert_allclose(total(costs.told) + total(costs.given), nll, atol=0.1)


def test_a_decoder_that_ignores_z_saves_exactly_nothing(make_model, dataset) -> None:
    model = make_model()  # in float32
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.initial_cell.weight.zero_()
        decoder.layers[0].weight_ih_l0[:, -3:] = 0
    costs = costs_of(model, dataset)
    assert (costs.saved[~np.isnan(costs.saved)] == 0).all()
    np.testing.assert_allclose(total(costs.told), 0, atol=1e-10)


def test_no_more_is_told_than_the_kl(model, dataset) -> None:
    """E_q[log p(x|z)] - log p(x) = KL(q(z|x) || p(z)) - KL(q(z|x) || p(z|x))."""
    few = dataset.select(range(10))
    found = [costs_of(model, few, draws=50, seed=seed) for seed in range(20)]
    told = np.array([total(costs.told).mean() for costs in found])
    error = told.std(ddof=1) / np.sqrt(len(told))
    assert told.mean() + 4 * error < found[0].kl.mean()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batch_size_and_chunks_change_no_cost(model, dataset, batch_size, monkeypatch) -> None:
    expected = costs_of(model, dataset)
    monkeypatch.setattr(module, "SENTENCE_TOKENS_AT_ONCE", 3 * batch_size)
    found = costs_of(model, dataset, batch_size=batch_size)
    for one, other in zip(columns(expected), columns(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_a_sentence_has_the_same_costs_in_any_dataset(model, dataset) -> None:
    expected = costs_of(model, dataset)
    found = costs_of(model, dataset.select([7, 4, 2]))
    assert found.number.tolist() == [2, 4, 7]
    width = found.given.shape[1]
    for one, other in zip(columns(expected), columns(found), strict=True):
        np.testing.assert_allclose(one[[2, 4, 7], :width], other, atol=1e-10)


@pytest.mark.parametrize(
    "posterior",
    [{"posterior": "planar_flow"}, {"posterior": "implicit", "sampler_layers": 2}, {"posterior": "vmf"}],
)
def test_other_posteriors_are_measured_at_the_draw_of_their_bound(make_model, dataset, posterior) -> None:
    model = make_model(**posterior).double()
    measured = Evaluator(model, dataset, progress=False).measure()
    costs = costs_of(model, dataset)
    np.testing.assert_allclose(total(costs.given), measured.reconstruction.numpy(), atol=1e-10)


def test_with_shuffled_words_the_costs_are_those_of_the_shuffled_bound(model, dataset) -> None:
    measured = Evaluator(model, dataset, seed=3, progress=False, shuffle_words=True).measure()
    costs = costs_of(model, dataset, seed=3, shuffle_words=True)
    np.testing.assert_allclose(total(costs.given), measured.reconstruction.numpy(), atol=1e-10)
    np.testing.assert_allclose(costs.kl, measured.kl.numpy(), atol=1e-12)
    assert not np.allclose(costs.kl, costs_of(model, dataset, seed=3).kl)


def test_a_language_model_and_no_draws_are_refused(make_model, model, dataset) -> None:
    with pytest.raises(ValueError, match="latent_size=0"):
        costs_of(make_model(latent_size=0), dataset)
    with pytest.raises(ValueError, match="num_draws=0"):
        costs_of(model, dataset, draws=0)


# Curves

RAGGED = np.array([[1.0, 2.0, 3.0], [5.0, 4.0, np.nan], [3.0, np.nan, np.nan]])


def made_of(values: np.ndarray) -> TokenCosts:
    return TokenCosts(np.arange(len(values)), np.zeros(len(values)), values, values, -values)


def test_a_position_is_averaged_over_the_sentences_that_have_it() -> None:
    assert curves(made_of(RAGGED)) == {
        "position": [1, 2],  # only one sentence has a third
        "sentences": [3, 2],
        "saved": [3.0, 3.0],
        "saved_se": [pytest.approx(2 / np.sqrt(3)), pytest.approx(1.0)],
        "told": [-3.0, -3.0],
        "told_se": [pytest.approx(2 / np.sqrt(3)), pytest.approx(1.0)],
    }


def test_positions_that_few_sentences_have_are_left_out() -> None:
    values = np.full((40, 2), 1.0)
    values[3:, 1] = np.nan
    assert curves(made_of(values))["sentences"] == [40]
    values[3, 1] = 1.0
    assert curves(made_of(values))["sentences"] == [40, 4]


def test_from_the_end_the_last_token_comes_first() -> None:
    np.testing.assert_array_equal(from_the_end(RAGGED), [[3, 2, 1], [4, 5, np.nan], [3, np.nan, np.nan]])
    assert curves(made_of(RAGGED), from_end=True)["saved"] == [pytest.approx(10 / 3), 3.5]


def test_the_parts_add_up_and_the_report_is_plain_json(model, dataset) -> None:
    costs = costs_of(model, dataset)
    report = position_report(costs)
    without_words = int(np.flatnonzero(costs.tokens == 1)[0])
    alone = position_report(costs_of(model, dataset.select([without_words])))
    for name in ("saved", "told"):
        parts = [report[f"{name}_{part}"] for part in ("first", "between", "end")]
        assert report[name] == pytest.approx(sum(parts)) == pytest.approx(total(getattr(costs, name)).mean())
        assert (alone[f"{name}_first"], alone[f"{name}_between"]) == (0, pytest.approx(0))
    given, kl, told = total(costs.given), costs.kl, costs.told[np.arange(COUNT), costs.tokens - 1]
    for name, values in {"rec": given, "kl": kl, "saved": total(costs.saved), "told_end": told}.items():
        expected = np.sqrt(((values - values.mean()) ** 2).sum() / (COUNT - 1) / COUNT)  # of a mean over sentences
        assert report[f"{name}_se"] == pytest.approx(expected), name
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    json.dumps(alone, allow_nan=False)


def test_what_lies_beyond_the_first_three_words_is_a_share_of_what_is_told() -> None:
    """By hand: `</s>` belongs to neither side, and a sentence of three words has nothing beyond them."""
    told = np.array([[1.0, 0.5, 0.25, 2.0, 1.0, 4.0], [1.0, 1.0, 1.0, 8.0, np.nan, np.nan]])  # 5 and 3 words
    short = np.array([[np.nan] * 6, [np.nan] * 6])
    short[:, :2] = [[2.0, 1.0], [0.0, 1.0]]  # a word and </s>
    told = np.concatenate([told, short])
    report = position_report(TokenCosts(np.arange(4), np.zeros(4), told, told, told))
    assert report["told"] == pytest.approx((8.75 + 11 + 3 + 1) / 4)
    assert report["told_later"] == pytest.approx(3.0 / 4)
    assert report["later_share"] == pytest.approx(3.0 / 23.75)
    residual = np.array([3.0, 0, 0, 0]) - 3.0 / 23.75 * np.array([8.75, 11, 3, 1])
    assert report["later_share_se"] == pytest.approx(residual.std(ddof=1) / 2 / (23.75 / 4))


def test_of_next_to_nothing_there_is_no_share() -> None:
    for values in (np.full((3, 5), 0.01), np.full((3, 5), -1.0)):
        report = position_report(TokenCosts(np.arange(3), np.zeros(3), values, values, values))
        assert (report["later_share"], report["later_share_se"]) == (None, None)
    one = position_report(TokenCosts(np.arange(1), np.zeros(1), *np.ones((3, 1, 6))))
    assert (one["later_share"], one["later_share_se"]) == (pytest.approx(2 / 6), None)


def test_from_either_side_every_position_that_all_have_counts_every_sentence(model, dataset) -> None:
    report = position_report(costs_of(model, dataset))
    assert report["from_start"]["sentences"] == report["from_end"]["sentences"]
    assert report["from_start"]["sentences"][0] == COUNT
    assert report["from_end"]["saved"][0] == pytest.approx(report["saved_end"])


# One text, piece by piece


@pytest.fixture(scope="module")
def vae() -> SeqVAE:
    return SeqVAE.from_pretrained(Path(__file__).parents[1] / "fixtures" / "checkpoint-v1")


TEXT = "The food was  xyzzy, <b>very</b> good."


def test_the_pieces_of_a_text_are_its_own_letters_and_their_costs_its_likelihood(vae) -> None:
    pieces = piece_costs(vae, TEXT, 2000)
    assert "".join(piece.text for piece in pieces) == TEXT.replace(" ", "")
    assert pieces[-1].text == "" and "xyzzy" in [piece.text for piece in pieces if piece.unknown]
    ids = torch.tensor([vae.tokenizer(TEXT)["input_ids"]])
    latents = torch.randn(20_000, 1, vae.model.config.latent_size)
    with torch.no_grad():
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        given = module._in_parts(vae.model, latents, batch).sum(-1)
    likelihood = given.neg().logsumexp(0) - np.log(len(latents))  # of draws of the prior, which are enough in 3-D
    assert sum(piece.nll for piece in pieces) == pytest.approx(-likelihood.item(), abs=0.25)
    assert piece_costs(vae, TEXT, 8) == piece_costs(vae, TEXT, 8) != piece_costs(vae, TEXT, 8, seed=1)
    (end,) = piece_costs(vae, "")
    assert end.text == "" and 0 < end.nll < vae.nll("", 4000)


def test_tokens_of_one_place_are_one_piece(vae, monkeypatch) -> None:
    """As the bytes of a letter are, to a tokenizer of bytes."""
    ids = vae.tokenizer("was good")["input_ids"]
    encoded = {"input_ids": [*ids[:2], *ids[1:]], "offset_mapping": [(0, 0), (0, 1), (0, 1), (2, 4), (0, 0)]}
    whole = {"input_ids": [*ids[:2], *ids[1:]], "offset_mapping": [(0, 0), (0, 1), (1, 2), (2, 4), (0, 0)]}
    for tokenised, expected in ((whole, ["w", "a", "s "]), (encoded, ["w", "s "])):
        tokenizer = SimpleNamespace(model_max_length=100, unk_token_id=-1)
        stand_in = SimpleNamespace(model=vae.model, tokenizer=Answers(tokenizer, tokenised))
        found = piece_costs(stand_in, "was good")
        assert [piece.text for piece in found[:-1]] == expected
    apart = piece_costs(SimpleNamespace(model=vae.model, tokenizer=Answers(tokenizer, whole)), "was good")
    assert sum(piece.nll for piece in found) == pytest.approx(sum(piece.nll for piece in apart))


class Answers:
    """A tokenizer that answers what it is told to."""

    def __init__(self, fields: Any, answer: dict[str, Any]):
        self.__dict__.update(vars(fields))
        self.answer = answer

    def __call__(self, text: str, **unused: Any) -> dict[str, Any]:
        return self.answer


def test_a_text_longer_than_the_model_reads_is_cut_and_nonsense_refused(vae) -> None:
    before, vae.tokenizer.model_max_length = vae.tokenizer.model_max_length, 5
    try:
        assert [piece.text for piece in piece_costs(vae, "the food was good . and more", 2)] == [
            "the",
            "food",
            "was",
            "",
        ]
    finally:
        vae.tokenizer.model_max_length = before
    with pytest.raises(ValueError, match="num_draws must be at least 1"):
        piece_costs(vae, TEXT, 0)
    with pytest.raises(ValueError, match="not valid Unicode"):
        piece_costs(vae, "half \ud800")
