"""Laws of grammars: one text, and the sentences drawn from it have exactly the probabilities it computes."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from modeling_seqvae.data.grammar import Choice, Grammar, parse

# Small, but with all that is difficult: an attribute that depends on another and one that the words hide, empty phrases
# (one of them a whole sentence's), words with several derivations, and choices that compete under some attributes only.
SMALL = """
topic                 -> cafe (2) | hotel
mood                  -> good | bad
mood [topic=cafe]     -> good (2)
mood [topic=hotel]    -> bad (3)
secret                -> yes | no (2)

REVIEW                -> OPENING the THING was VERY VERY QUALITY . (5) | VERY VERY   # a comment
REVIEW [mood=good]    -> THING THING VERY !
    | hooray (2)
OPENING [topic=cafe]  -> _ (3) | today | today OPENING_TWO
OPENING [topic=hotel] -> OPENING_TWO
OPENING_TWO           -> today | today today | _
THING                 -> place (2)
THING [topic=cafe]    -> tea | tea room
THING [topic=hotel]   -> room (4)
VERY                  -> _ | very | very very
QUALITY [mood=good]   -> nice (2) | fine
QUALITY [mood=bad]    -> fine | poor (3)
"""


def derivations(rules: Mapping[str, Sequence[Choice]], attributes: Mapping[str, str], symbol: str) -> Iterator:
    """All ways to rewrite a symbol: (words, probability), the same words as often as they have derivations."""
    possible = [choice for choice in rules[symbol] if all(attributes[n] in v for n, v in choice.condition.items())]
    for choice in possible:
        share = Fraction(choice.weight, sum(rival.weight for rival in possible))
        parts = [
            list(derivations(rules, attributes, p)) if p in rules else [((p,), Fraction(1))] for p in choice.phrase
        ]
        for combination in product(*parts):
            words = tuple(word for words, _ in combination for word in words)
            yield words, share * math.prod((probability for _, probability in combination), start=Fraction(1))


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar(SMALL)


@pytest.fixture(scope="module")
def enumerated() -> dict[tuple[str, str, str], dict[str, Fraction]]:
    """p(text, a) for each (topic, mood, secret), by brute force in exact arithmetic."""
    moods = {
        "cafe": {"good": Fraction(3, 4), "bad": Fraction(1, 4)},
        "hotel": {"good": Fraction(1, 5), "bad": Fraction(4, 5)},
    }
    joint: dict[tuple[str, str, str], dict[str, Fraction]] = {}
    for topic, mood, secret in product(("cafe", "hotel"), ("good", "bad"), ("yes", "no")):
        prior = Fraction(2 if topic == "cafe" else 1, 3) * moods[topic][mood] * Fraction(1 if secret == "yes" else 2, 3)
        texts: dict[str, Fraction] = defaultdict(Fraction)
        for words, probability in derivations(parse(SMALL), {"topic": topic, "mood": mood, "secret": secret}, "REVIEW"):
            texts[" ".join(words)] += prior * probability
        joint[topic, mood, secret] = dict(texts)
    return joint


@pytest.fixture(scope="module")
def marginal(enumerated) -> dict[str, Fraction]:
    """p(text) by brute force."""
    total: dict[str, Fraction] = defaultdict(Fraction)
    for texts in enumerated.values():
        for text, probability in texts.items():
            total[text] += probability
    return dict(total)


def test_the_probabilities_of_all_sentences_sum_to_one(grammar, marginal):
    assert sum(marginal.values()) == 1
    assert len(marginal) > 100
    assert sum(math.exp(grammar.log_probability(text)) for text in marginal) == pytest.approx(1, abs=1e-12)


def test_each_probability_is_the_sum_over_all_derivations(grammar, marginal):
    for text, probability in marginal.items():
        assert grammar.log_probability(text) == pytest.approx(math.log(probability), abs=1e-12)


def test_with_unknown_words_it_is_of_all_texts_that_look_alike(grammar, marginal):
    """As a model of a vocabulary sees a text: any word that it does not know is one and the same."""
    known = {"the", "was", ".", "very", "tea", "room"}
    alike: dict[str, Fraction] = defaultdict(Fraction)
    for text, probability in marginal.items():
        alike[" ".join(word if word in known else "?" for word in text.split())] += probability
    assert len(alike) < len(marginal) / 2
    for text in marginal:
        seen = " ".join(word if word in known else "?" for word in text.split())
        assert grammar.log_probability(text, known) == pytest.approx(math.log(alike[seen]), abs=1e-12)
        every_word = {word for words in marginal for word in words.split()}
        assert grammar.log_probability(text, every_word) == grammar.log_probability(text)


def test_joint_gives_each_assignment_its_share(grammar, enumerated, marginal):
    assert len(grammar.assignments) == len(enumerated)
    for text in marginal:
        for assignment, probability in zip(grammar.assignments, grammar.joint(text), strict=True):
            expected = enumerated[tuple(assignment.values())].get(text, 0)
            assert probability == pytest.approx(float(expected), rel=1e-12)


def test_an_attribute_that_no_word_depends_on_keeps_its_prior(grammar, marginal):
    secret = np.array([assignment["secret"] == "yes" for assignment in grammar.assignments])
    for text in marginal:
        joint = grammar.joint(text)
        assert joint[secret].sum() / joint.sum() == pytest.approx(1 / 3)


def test_sampled_frequencies_match_the_probabilities(grammar, marginal):
    rng, draws = random.Random(1), 40_000
    counts = Counter(grammar.sample(rng).text for _ in range(draws))
    assert counts.keys() <= marginal.keys()
    for text, probability in marginal.items():
        p = float(probability)
        if draws * p > 20:  # often enough for five standard errors to mean what they say
            assert counts[text] / draws == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / draws)), text


def test_sampled_attributes_match_the_prior_and_the_words(grammar, enumerated):
    rng, draws = random.Random(2), 20_000
    counts: Counter = Counter()
    for _ in range(draws):
        sentence = grammar.sample(rng)
        values = tuple(sentence.attributes.values())
        assert sentence.text in enumerated[values]
        counts[values] += 1
    for assignment, p in zip(grammar.assignments, grammar.prior, strict=True):
        frequency = counts[tuple(assignment.values())] / draws
        assert frequency == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / draws))


def test_the_mean_of_minus_log_p_is_the_entropy(grammar, marginal):
    entropy = -sum(float(p) * math.log(p) for p in marginal.values())
    rng = random.Random(3)
    nll = np.array([-grammar.log_probability(grammar.sample(rng).text) for _ in range(4_000)])
    assert nll.mean() == pytest.approx(entropy, abs=4 * nll.std() / math.sqrt(len(nll)))


@pytest.mark.parametrize(
    "text",
    [
        "the tea was poor",
        "the tea was awful .",
        "the  tea was poor .",
        "The tea was poor .",
        "the tea was poor . .",
        "today today the tea poor .",
        "today the tea room was very very very very very nice .",
        "tea room room !",  # the words of two topics
        "_",
        "REVIEW",
    ],
)
def test_impossible_sentences_have_probability_zero(grammar, marginal, text):
    assert text not in marginal
    assert grammar.log_probability(text) == -math.inf


def test_the_sentence_of_no_words_is_a_sentence(grammar, marginal):
    assert marginal[""] > 0  # "REVIEW -> VERY VERY", both empty
    assert grammar.log_probability("") == pytest.approx(math.log(marginal[""]))


def test_the_same_generator_state_gives_the_same_sentences(grammar):
    first, second = random.Random(5), random.Random(5)
    assert [grammar.sample(first) for _ in range(50)] == [Grammar(SMALL).sample(second) for _ in range(50)]


def test_vocabulary_lists_the_words_of_all_sentences(grammar, marginal):
    assert grammar.vocabulary == sorted({word for text in marginal for word in text.split()})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("S = a", "Line 1 is not of the form"),
        ("S -> a (0)", r"Line 1: 'a \(0\)' is not a phrase"),
        ("# note\n\nS -> a |", "Line 3: '' is not a phrase"),
        ("Mixed -> a", "Line 1: 'Mixed' is neither"),
        ("topic -> a", "no symbol"),
        ("topic -> a b\nS -> a", "Line 1.*single word"),
        ("S [topic] -> a", "Line 1: 'topic' is not a condition"),
        ("S [topic=a] -> a", "Line 1.*'topic' is not among the attributes"),
        ("one [two=a] -> a\ntwo -> a\nS -> a", "Line 1.*'two' is not among the attributes"),
        ("topic -> a | b\nS [topic=a,c] -> x", r"Line 2.*topic is never \['c'\], but one of \['a', 'b'\]"),
        ("S -> a THING", "Line 1.*no rule says what THING becomes"),
        ("S -> a\nTHING -> b", "THING is defined, but no sentence"),
        ("S -> A\nA -> a | B\nB -> b A", "may not contain themselves"),
        ("topic -> a | b\nS -> x THING\nTHING [topic=a] -> y", "THING has no choice for .*'topic': 'b'"),
        ("one -> a | b\ntwo [one=a] -> c\nS -> x", "two has no choice for .*'one': 'b'"),
    ],
)
def test_what_is_wrong_with_a_grammar_is_said(source, message):
    with pytest.raises(ValueError, match=message):
        Grammar(source)


def test_a_symbol_needs_choices_only_where_it_is_used():
    grammar = Grammar("topic -> a | b\nS [topic=a] -> THING\nS [topic=b] -> y\nTHING [topic=a] -> x")
    assert grammar.log_probability("x") == grammar.log_probability("y") == pytest.approx(math.log(1 / 2))
