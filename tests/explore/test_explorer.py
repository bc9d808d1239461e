"""What visitors may ask for, whatever they send; and that they do not disturb each other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAE, train_bpe_tokenizer
from modeling_seqvae.explore.explorer import LONGEST, Explorer

TEXT = "this bistro was lovely ."
OTHER = "our room was cold ."


def test_neighbours_are_those_of_the_model(explorer: Explorer, vae: SeqVAE) -> None:
    found = explorer.neighbours(TEXT, 4.0)
    expected = vae.neighbours(TEXT, explorer.texts, 4)
    assert [near.position for near in found] == [near.position for near in expected]
    assert explorer.neighbours(explorer.texts[7], 1)[0].position == 7 == explorer.texts.index(explorer.text_at(7))
    for one, other in zip(explorer.neighbours_at(7.0, 3), explorer.neighbours(explorer.texts[7], 3), strict=True):
        assert one.position == other.position and one.distance == pytest.approx(other.distance, abs=1e-6)
    long = Explorer(vae, [TEXT, "a long text " * LONGEST])
    assert long.neighbours_at(1)[0].position == 1
    with pytest.raises(ValueError, match="the point"):
        long.neighbours_at(2)


def test_sentences_are_those_of_the_model_without_unknown_words(explorer: Explorer, vae: SeqVAE) -> None:
    without = {"suppress_tokens": [vae.tokenizer.unk_token_id]}
    assert explorer.between(TEXT, "our room was cold .", 3) == vae.interpolate(
        TEXT, "our room was cold .", 3, **without
    )
    assert explorer.at(TEXT, "our room was cold .", 0) == explorer.between(TEXT, "our room was cold .", 2)[0]
    assert (
        explorer.at(TEXT, "our room was cold .", 1.0, "spherical")
        == explorer.between(TEXT, "our room was cold .", 2)[1]
    )
    values, sentences = zip(*explorer.traverse("", 3, 2.0, 5), strict=True)
    assert values == (-2, -1, 0, 1, 2) and list(sentences) == vae.traverse(None, 3, values, **without)
    written = explorer.write(6, temperature=1.5, seed=1)
    assert written == vae.sample(6, 1, temperature=1.5, top_p=1.0, **without) and "<unk>" not in " ".join(written)


def test_a_prompt_begins_every_sentence_and_a_seed_fixes_them(explorer: Explorer) -> None:
    begun = explorer.write(5, prompt="We had", seed="7")
    assert all(text.startswith("we had ") for text in begun) and begun == explorer.write(5, prompt="we had", seed=7)
    assert explorer.write(3) != explorer.write(3)
    assert explorer.write(3, "aggregate", seed=0) == explorer.write(3, "aggregate", seed=0)


def test_an_edit_moves_along_the_labels(explorer: Explorer, vae: SeqVAE) -> None:
    direction = vae.direction(explorer.texts, explorer.labels, "5", "1")
    np.testing.assert_allclose(explorer.direction("5", "1"), direction, atol=1e-5)
    strengths, sentences = zip(*explorer.edit(TEXT, "1", "5", "logistic", 2.0, 3), strict=True)
    assert strengths == (0, 1, 2) and sentences[0] == vae.reconstruct(TEXT)
    assert explorer.classes() == ["1", "2", "3", "4", "5"] and explorer.direction("5", "") is not None
    for most in (4, 5, 9):  # one class alone is named, not called "1 others"
        assert explorer.coloured_classes(most) == (explorer.classes(), [])
    assert explorer.coloured_classes(3) == (["1", "2", "3"], ["4", "5"])


def test_colours_are_of_every_text(explorer: Explorer, vae: SeqVAE) -> None:
    assert list(explorer.colours) == ["label", "length", "NLL", "NLL per token"]
    for name in explorer.colours:
        assert len(explorer.coloured(name)) == len(explorer.texts)
    ids = vae.tokenizer(explorer.texts[3])["input_ids"]
    assert explorer.lengths[3] == len(ids) - 1
    ratio = explorer.coloured("NLL")[3] / explorer.coloured("NLL per token")[3]
    assert ratio == pytest.approx(explorer.lengths[3])
    with pytest.raises(ValueError, match="the texts have no labels to colour them by"):
        Explorer(vae, [TEXT]).coloured("label")


@pytest.mark.filterwarnings("ignore:.*were cut there")
def test_of_a_text_that_is_cut_the_tokens_that_were_read_count(vae: SeqVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae.tokenizer, "model_max_length", 8)
    cut = Explorer(vae, ["the food was good , and the room was clean .", "the food was good , and"])
    assert cut.lengths == [12, 7]
    assert cut.coloured("NLL per token") == pytest.approx([cut.nll()[0] / 7, cut.nll()[1] / 7])


def test_the_labels_are_measured_or_not_told(explorer: Explorer, vae: SeqVAE) -> None:
    found = explorer.disentanglement()
    assert found is not None and 0 <= found["mig"] <= 1 and 0 <= found["sap"] <= 1
    assert Explorer(vae, explorer.texts[:3], ["a", "b", "c"]).disentanglement() is None
    assert Explorer(vae, explorer.texts[:3]).disentanglement() is None


def test_the_words_that_a_model_does_not_read_are_counted(explorer: Explorer, vae: SeqVAE) -> None:
    pieces, left_out = explorer.costs("the food was good . " * 45)
    assert left_out == 5 * 45 + 2 - vae.tokenizer.model_max_length > 0
    assert len(pieces) == vae.tokenizer.model_max_length - 1
    assert explorer.costs(TEXT)[1] == 0


def test_a_model_of_bytes_is_explored_alike(make_model: Any) -> None:
    """Whose tokens are parts of words and of letters."""
    texts = ["the food was good .", "our room was cold", "le café était très bon"] * 9
    tokenizer = train_bpe_tokenizer(texts, vocabulary_size=280)
    named = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    vae = SeqVAE(make_model(vocab_size=len(tokenizer), **named), tokenizer)
    bytewise, text = Explorer(vae, texts), "  Le café 你好, naïve 🤗 <b>!"
    pieces, left_out = bytewise.costs(text)
    assert "".join(piece.text for piece in pieces).replace(" ", "") == text.replace(" ", "") and left_out == 0
    assert not any(piece.unknown for piece in pieces)
    assert sum(piece.nll for piece in pieces) == pytest.approx(vae.nll(text, 2000), rel=0.02)
    assert all(sentence.startswith("le café") for sentence in bytewise.write(3, prompt="le café", seed=0))


HUGE = 10**400
ODD = [None, [], {}, "many", float("nan"), float("inf"), -float("inf"), HUGE, -1, 2.5, True, b"1", {"a": 1}]
CALLS: dict[str, Callable[[Explorer, Any], Any]] = {
    "count": lambda e, odd: e.write(odd),
    "temperature": lambda e, odd: e.write(1, temperature=odd if odd != 2.5 else 99),
    "top_p": lambda e, odd: e.write(1, top_p=odd),
    "neighbours": lambda e, odd: e.neighbours(TEXT, odd),
    "point": lambda e, odd: e.text_at(odd),
    "steps": lambda e, odd: e.between(TEXT, TEXT, odd),
    "place": lambda e, odd: e.at(TEXT, TEXT, odd),
    "dimension": lambda e, odd: e.traverse("", odd),
    "range": lambda e, odd: e.traverse("", 0, odd if odd != 2.5 else 99),
    "strength": lambda e, odd: e.edit(TEXT, "1", "5", "means", odd if odd not in (-1, 2.5) else 99),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("odd", ODD, ids=[repr(odd)[:12] for odd in ODD])
def test_numbers_out_of_bounds_are_refused(explorer: Explorer, name: str, odd: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        CALLS[name](explorer, odd)


TEXTS: dict[str, Callable[[Explorer, Any], Any]] = {
    "neighbours": lambda e, odd: e.neighbours(odd),
    "prompt": lambda e, odd: e.write(1, prompt=odd),
    "between": lambda e, odd: e.between(odd, TEXT),
    "between, the second": lambda e, odd: e.between(TEXT, odd),
    "at": lambda e, odd: e.at(TEXT, odd, 0.5),
    "traverse": lambda e, odd: e.traverse(odd, 0),
    "edit": lambda e, odd: e.edit(odd, "1"),
    "costs": lambda e, odd: e.costs(odd),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_out_of_bounds_are_refused(explorer: Explorer, name: str) -> None:
    for odd in (3, ["a"], {"text": "a"}, b"a"):
        with pytest.raises(ValueError, match="must be text"):
            TEXTS[name](explorer, odd)
    with pytest.raises(ValueError, match="has 1,001 characters: at most 1,000 are read here"):
        TEXTS[name](explorer, "a" * (LONGEST + 1))
    with pytest.raises(ValueError, match="not valid Unicode"):
        TEXTS[name](explorer, "a \ud800")
    for empty in ("", " \n", None):
        if name in ("prompt", "traverse"):
            assert TEXTS[name](explorer, empty)
        else:
            with pytest.raises(ValueError, match=r"is empty|must be text"):
                TEXTS[name](explorer, empty)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda e: e.places("lda"), "is not one of pca"),
        (lambda e: e.places([]), "is not one of pca"),
        (lambda e: e.coloured("mood"), "is not one of label"),
        (lambda e: e.write(1, "posterior"), "is not one of model, aggregate"),
        (lambda e: e.write(1, prompt="the " * 60), "the prompt has 60 tokens: at most 50"),
        (lambda e: e.write(1, seed="soon"), "the seed must be a number"),
        (lambda e: e.write(1, seed=-1), "the seed must be a number"),
        (lambda e: e.between(TEXT, TEXT, path="winding"), "is not one of linear, spherical"),
        (lambda e: e.edit(TEXT, "9"), "there is no label '9'"),
        (lambda e: e.edit(TEXT, None), "there is no label 'None'"),
        (lambda e: e.edit(TEXT, "1", ["5"]), r"there is no label "),
        (lambda e: e.edit(TEXT, "1", "1"), "needs two labels"),
        (lambda e: e.edit(TEXT, "1", method="guess"), "is not one of means, logistic"),
    ],
)
def test_other_choices_are_refused(explorer: Explorer, call: Callable[[Explorer], Any], said: str) -> None:
    made = set(explorer._made)
    with pytest.raises(ValueError, match=said):
        call(explorer)
    assert set(explorer._made) == made  # and not remembered


def test_what_cannot_be_explored_is_refused(vae: SeqVAE, make_model: Any) -> None:
    with pytest.raises(ValueError, match="no texts"):
        Explorer(vae, [])
    with pytest.raises(ValueError, match="1 texts and 2 labels"):
        Explorer(vae, [TEXT], ["a", "b"])
    for nothing in ("", None, float("nan")):
        with pytest.raises(ValueError, match=r"labels\[1\] is not a name"):
            Explorer(vae, [TEXT, OTHER], ["a", nothing])  # type: ignore[list-item]
    model = make_model(latent_size=0, vocab_size=vae.model.config.vocab_size)
    with pytest.raises(ValueError, match="latent_size=0"):
        Explorer(SeqVAE(model, vae.tokenizer), [TEXT])


def test_one_text_is_a_map(vae: SeqVAE) -> None:
    alone = Explorer(vae, [TEXT])
    assert alone.places().tolist() == [[0, 0]] and alone.neighbours("wow")[0].text == TEXT and alone.active == 0


def test_no_visitor_disturbs_another(explorer: Explorer) -> None:
    """Many at once get what each would get alone, and the program's own random state stays as it is."""
    seeds = [0, 1, 2, 3] * 4
    alone = {seed: explorer.write(3, seed=seed, temperature=1.3) for seed in set(seeds)}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with ThreadPoolExecutor(8) as visitors:
        costs = visitors.submit(explorer.costs, TEXT)
        together = list(visitors.map(lambda seed: explorer.write(3, seed=seed, temperature=1.3), seeds))
        assert costs.result() == explorer.costs(TEXT)
    assert together == [alone[seed] for seed in seeds]
    assert torch.equal(torch.get_rng_state(), state[0]) and (np.random.get_state()[1] == state[1]).all()
