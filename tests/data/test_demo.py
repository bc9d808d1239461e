"""Laws of the demo corpus: always the same sentences, as the grammar says they are, with a known probability."""

import hashlib
import math
import random
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from modeling_seqvae.data import demo
from modeling_seqvae.data.grammar import parse

# If these change, so does every number ever printed for `demo`.
SHA256 = {
    "train": "840d5c919124dc601d601e287723d7fc24864acf20836075a3847a77c547c7fa",
    "validation": "9f901450f184945f601957e72be247b893320ad64582c118247c3d7b1a2aef57",
    "test": "e47254902bd8f9b3498acb46d608a125ffb67b79276c93c6f609dde7cd32ca98",
}


@pytest.fixture(scope="module")
def corpus():
    return demo.build()


@pytest.fixture(scope="module")
def tokens(corpus) -> Counter:
    return Counter(word for text in corpus["train"]["text"] for word in text.split(" "))


def test_sizes_and_columns(corpus):
    assert {split: len(corpus[split]) for split in corpus} == {"train": 20_000, "validation": 2_000, "test": 2_000}
    for split in corpus.values():
        assert split.column_names == ["text", "stars", "topic"]


@pytest.mark.parametrize("split", SHA256)
def test_the_sentences_are_the_same_everywhere(corpus, split):
    assert hashlib.sha256("\n".join(corpus[split]["text"]).encode()).hexdigest() == SHA256[split]


def test_a_smaller_split_is_the_beginning_of_a_larger_one(corpus):
    small = demo.build(sizes=(30, 20, 10))
    for split in small:
        assert small[split].to_list() == corpus[split].to_list()[: len(small[split])]


def test_the_first_reviews_are_drawn_alone(corpus):
    few = demo.first({"train": 7, "test": 9_999})
    assert {split: len(rows) for split, rows in few.items()} == {"train": 7, "validation": 2_000, "test": 2_000}
    assert few["train"].to_list() == corpus["train"].to_list()[:7]


def test_seeds_and_splits_differ(corpus):
    other = demo.build(seed=1, sizes=(100, 100, 100))
    beginnings = [tuple(c[split]["text"][:100]) for c in (corpus, other) for split in c]
    assert len(set(beginnings)) == len(beginnings)


def test_splitting_at_spaces_gives_words_and_marks(tokens):
    assert all(re.fullmatch(r"[a-z0-9]+|[.,!?]", token) for token in tokens), sorted(tokens)


def test_every_sentence_ends_with_a_mark_and_has_none_doubled(corpus):
    for text in corpus["train"]["text"]:
        assert re.search(r" [.!?]$", text)
        assert not re.search(r"[.,!?] [.,!?]", text)


def test_sentences_have_6_to_30_tokens_of_many_lengths(corpus):
    lengths = Counter(len(text.split(" ")) for text in corpus["train"]["text"])
    assert min(lengths) == 6
    assert max(lengths) == 30
    assert all(lengths[length] > 20 for length in range(6, 30))


def test_no_sentence_that_the_grammar_can_make_is_shorter_or_longer():
    rules = parse(demo.GRAMMAR)

    @cache
    def bounds(item: str) -> tuple[int, int]:
        if item not in rules:
            return 1, 1
        sums = [[sum(b) for b in zip((0, 0), *map(bounds, choice.phrase), strict=True)] for choice in rules[item]]
        return min(low for low, _ in sums), max(high for _, high in sums)

    shortest, longest = bounds("REVIEW")
    assert shortest >= 6
    assert longest <= 30


def test_the_vocabulary_is_a_few_hundred_words_all_of_which_training_shows_often(tokens):
    assert 200 <= len(tokens) <= 500
    assert sorted(tokens) == demo.review_grammar().vocabulary
    assert min(tokens.values()) >= 20


def test_every_sentence_has_a_probability(corpus):
    for split in ("validation", "test"):
        nll = demo.true_nll(corpus[split]["text"][:1_000])
        assert nll.shape == (1_000,)
        assert nll.dtype == np.float64
        assert np.isfinite(nll).all()
        assert (nll > 0).all()


def test_no_texts_have_no_nll():
    assert demo.true_nll([]).shape == (0,)


def test_impossible_reviews_have_probability_zero(corpus):
    text = corpus["test"]["text"][0]
    words = text.split(" ")
    impossible = [text + " .", text.upper(), " ".join(words[:-1]), " ".join(words[::-1]), "i like trains .", ""]
    assert demo.true_nll(impossible).tolist() == [math.inf] * len(impossible)


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("what a grim hotel , never again .", True),
        ("what a grim hotel , i loved it .", False),  # two opinions
        ("the soup at this restaurant was very bland .", True),
        ("the soup at this museum was very bland .", False),  # two topics
        ("we stayed at this lovely inn , and the rooms were clean . i would gladly return .", False),  # two persons
        ("i stayed at this lovely inn , and the rooms were clean . i would gladly return .", True),
        ("i stay at this lovely inn , and the rooms were clean . i would gladly return .", False),  # two tenses
        ("ugh , the film at this cinema was so dull !", True),
        ("ugh , the film at this cinema was decidedly dull !", False),  # two tones
    ],
)
def test_attributes_hold_from_the_first_word_to_the_last(text, possible):
    assert (demo.true_nll([text])[0] < math.inf) == possible


def test_labels_are_among_those_under_which_the_sentence_is_possible(corpus):
    grammar = demo.review_grammar()
    for review in corpus["test"].select(range(500)):
        joint = grammar.joint(review["text"])
        assert any(
            p > 0 and int(a["stars"]) == review["stars"] and a["topic"] == review["topic"]
            for p, a in zip(joint, grammar.assignments, strict=True)
        )


def test_labels_agree_with_telling_words(corpus):
    stars = ("one star", "two stars", "three stars", "four stars", "five stars")
    found = 0
    for review in corpus["train"]:
        for number, words in enumerate(stars, start=1):
            if f"{words} from" in review["text"]:
                assert review["stars"] == number
                found += 1
        for topic in ("restaurant", "cafe", "hotel", "museum", "cinema", "bookshop"):
            assert f"this {topic} " not in review["text"] or review["topic"] == topic
    assert found > 500


@pytest.mark.parametrize("label", ["stars", "topic"])
def test_label_frequencies_match_the_prior(corpus, label):
    grammar = demo.review_grammar()
    labels = [str(value) for split in corpus.values() for value in split[label]]
    for value in {a[label] for a in grammar.assignments}:
        p = sum(p for a, p in zip(grammar.assignments, grammar.prior, strict=True) if a[label] == value)
        assert labels.count(value) / len(labels) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / len(labels)))


def test_the_words_tell_most_of_the_attributes_and_not_all(corpus):
    """I(attributes; sentence) is what a latent variable can hold, here five to eight nats of some twenty."""
    grammar = demo.review_grammar()
    joints = [grammar.joint(text) for text in corpus["validation"]["text"][:300]]
    prior, left = entropy(grammar.prior), np.mean([entropy(joint / joint.sum()) for joint in joints])
    assert 5 < prior - left < 8
    assert left > 0.5
    assert 20 < -np.log([joint.sum() for joint in joints]).mean() < 35


def test_sample_depends_on_the_generator_alone():
    assert [demo.sample(random.Random(7)) for _ in range(3)] == [demo.sample(random.Random(7))] * 3
    assert demo.sample(random.Random(7)) != demo.sample(random.Random(8))


def entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
