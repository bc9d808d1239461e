"""Probabilistic grammars with global attributes: one text that both draws sentences and gives their exact probability.

A grammar is written as rules, one a line (indented lines continue the rule above, `#` starts a comment):

    topic                 -> cafe (2) | hotel
    REVIEW                -> the THING was VERY nice .
    THING  [topic=cafe]   -> coffee (3) | cake
    THING  [topic=hotel]  -> room
    VERY                  -> _ | really

- A lower-case head is an *attribute*: drawn once a sentence, in order of appearance, and known everywhere afterwards.
- An upper-case head is a *symbol*: rewritten anew wherever it stands. The first one is where a sentence starts.
- `|` separates the choices, `(3)` is a choice's integer weight (1 if left out), `_` is the phrase of no words.
- `[name=value,value name=value]` says for which attributes a rule holds. Rules of the same head add up: the choices
  that hold for the sentence at hand compete in proportion to their weights.

Symbols may not contain themselves, so a sentence has finitely many derivations, and its probability is a finite sum:
over the attributes a, and over the derivations of the words given a.
"""

import math
import random
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Attributes = Mapping[str, str]
Vector = NDArray[np.float64]  # (A,), one entry for each assignment of values to all attributes

EMPTY = "_"
_RULE = re.compile(r"(?P<head>\w+)\s*(?:\[(?P<condition>[^\]]*)\])?\s*->(?P<choices>.*)", re.DOTALL)
_CHOICE = re.compile(r"(?P<phrase>[^()]*?)\s*(?:\((?P<weight>[1-9]\d*)\))?")


@dataclass(frozen=True)
class Choice:
    """One way to rewrite a head: `weight` against its rivals, where `condition` holds."""

    phrase: tuple[str, ...]
    weight: int
    condition: Mapping[str, frozenset[str]]
    line: int

    def holds(self, attributes: Attributes) -> bool:
        return all(attributes[name] in values for name, values in self.condition.items())


@dataclass(frozen=True)
class Sentence:
    """A sentence drawn from a grammar, words separated by single spaces, and the attributes that shaped it."""

    text: str
    attributes: Attributes


class Grammar:
    """A probability distribution over sentences, read from rules in the notation of this module.

    Raises ValueError, naming the line, for a rule that cannot be read, and, naming the symbol, for one that is not
    defined, never used, contains itself, or has no choice for some attributes under which it is needed.
    """

    def __init__(self, source: str) -> None:
        choices = parse(source)
        self.attributes = [head for head in choices if not head.isupper()]
        self.symbols = [head for head in choices if head.isupper()]
        self._choices = choices
        _check_names(choices, self.attributes)
        pairs = list(self._enumerate(0, {}, 1.0))
        self.assignments: list[Attributes] = [assignment for assignment, _ in pairs]  # A of them
        self.prior: Vector = np.array([probability for _, probability in pairs])  # (A,)
        self._index = {tuple(assignment.values()): index for index, assignment in enumerate(self.assignments)}
        columns = {name: np.array([a[name] for a in self.assignments]) for name in self.attributes}
        self._rules = {symbol: _Rule(choices[symbol], columns, len(self.prior)) for symbol in self.symbols}
        self._check_every_symbol_has_a_choice()

    @property
    def vocabulary(self) -> list[str]:
        """All words that a sentence may contain, in alphabetical order."""
        return sorted({word for s in self.symbols for c in self._choices[s] for word in c.phrase if not word.isupper()})

    def sample(self, rng: random.Random) -> Sentence:
        """Draw a sentence. The same `rng` state gives the same sentence on every platform and version of Python."""
        attributes: dict[str, str] = {}
        for name in self.attributes:
            possible = self._possible(name, attributes)
            attributes[name] = possible[_draw(list(accumulate(c.weight for c in possible)), rng)].phrase[0]
        words: list[str] = []
        self._expand(self.symbols[0], self._index[tuple(attributes.values())], rng, words)
        return Sentence(" ".join(words), attributes)

    def log_probability(self, text: str, known: Container[str] | None = None) -> float:
        """log p(text) in nats, exact, the end of the sentence included; -inf for a text the grammar cannot produce.

        With the words of a vocabulary, `known`, it is that of the text as a model of the vocabulary sees it: of all
        texts together that differ from it in unknown words for unknown words.
        """
        probability = float(self.joint(text, known).sum())
        return math.log(probability) if probability > 0 else -math.inf

    def joint(self, text: str, known: Container[str] | None = None) -> Vector:
        """p(text, a) for each a of `assignments`, (A,): a sum over all derivations of the words given a."""
        words = text.split(" ") if text else []
        chart = _Chart(self._rules, words, known)
        return self.prior * chart.spans(self.symbols[0], 0).get(len(words), 0.0)

    def _possible(self, head: str, attributes: Attributes) -> list[Choice]:
        possible = [choice for choice in self._choices[head] if choice.holds(attributes)]
        if not possible:
            raise ValueError(f"{head} has no choice for {dict(attributes)}; add a rule that holds there.")
        return possible

    def _enumerate(self, depth: int, known: Attributes, probability: float) -> Iterator[tuple[Attributes, float]]:
        """All assignments that agree with the attributes known so far, and their prior probabilities."""
        if depth == len(self.attributes):
            yield known, probability
            return
        name = self.attributes[depth]
        weights: Counter[str] = Counter()
        for choice in self._possible(name, known):
            weights[choice.phrase[0]] += choice.weight
        for value, weight in weights.items():
            yield from self._enumerate(depth + 1, {**known, name: value}, probability * weight / weights.total())

    def _expand(self, item: str, index: int, rng: random.Random, words: list[str]) -> None:
        """Append to `words` what `item` (a word or a symbol) becomes under the assignment number `index`."""
        rule = self._rules.get(item)
        if rule is None:
            words.append(item)
            return
        for part in rule.phrases[_draw(rule.cumulative(index), rng)]:
            self._expand(part, index, rng, words)

    def _check_every_symbol_has_a_choice(self) -> None:
        parts = {s: {part for c in self._choices[s] for part in c.phrase if part.isupper()} for s in self.symbols}
        try:
            order = list(TopologicalSorter(parts).static_order())  # parts before what contains them
        except CycleError as error:
            raise ValueError(f"Symbols may not contain themselves: {' <- '.join(error.args[1])}.") from None
        reached = {s: np.zeros(len(self.prior), dtype=bool) for s in self.symbols}
        reached[self.symbols[0]][:] = True
        for symbol in reversed(order):
            rule, needed = self._rules[symbol], reached[symbol]
            if not needed.any():
                raise ValueError(f"{symbol} is defined, but no sentence ever uses it.")
            stuck = needed & ~rule.probabilities.any(axis=0)
            if stuck.any():
                attributes = dict(self.assignments[int(stuck.argmax())])
                raise ValueError(f"{symbol} has no choice for {attributes}; add a rule that holds there.")
            for phrase, probability in zip(rule.phrases, rule.probabilities, strict=True):
                for part in filter(str.isupper, phrase):
                    reached[part] |= needed & (probability > 0)


class _Rule:
    """The choices of a symbol, under all A assignments at once: integer weights to draw with, and probabilities."""

    def __init__(self, choices: Sequence[Choice], columns: Mapping[str, NDArray[np.str_]], count: int) -> None:
        self.phrases = [choice.phrase for choice in choices]
        weights = np.zeros((len(choices), count), dtype=np.int64)  # (choices, A)
        for row, choice in zip(weights, choices, strict=True):
            row[:] = choice.weight
            for name, values in choice.condition.items():
                row[~np.isin(columns[name], list(values))] = 0
        self.probabilities: Vector = weights / np.maximum(weights.sum(axis=0), 1)  # (choices, A)
        named = sorted({name for choice in choices for name in choice.condition})
        seen = list(zip(*(columns[name].tolist() for name in named), strict=True)) if named else [()] * count
        first = dict(zip(reversed(seen), reversed(range(count)), strict=True))  # few values, and where they stand
        sums = {values: list(accumulate(weights[:, index].tolist())) for values, index in first.items()}
        self._cumulative = [sums[values] for values in seen]

    def cumulative(self, index: int) -> list[int]:
        """Running sums of the weights under one assignment."""
        return self._cumulative[index]


class _Chart:
    """The inside probabilities of one sentence, computed where they are asked for and kept."""

    def __init__(self, rules: Mapping[str, _Rule], words: Sequence[str], known: Container[str] | None = None) -> None:
        self._rules, self._known_words = rules, known
        self._words = [self._seen(word) for word in words]
        self._known: dict[tuple[str, int], dict[int, Vector]] = {}

    def spans(self, symbol: str, start: int) -> dict[int, Vector]:
        """By `end`: p(symbol becomes words[start:end] | a), (A,), for each end where it is possible."""
        found = self._known.get((symbol, start))
        if found is None:
            found = self._known[symbol, start] = {}
            rule = self._rules[symbol]
            for phrase, probability in zip(rule.phrases, rule.probabilities, strict=True):
                _add(found, self._follow(phrase, start, probability))
        return found

    def _follow(self, phrase: Sequence[str], start: int, probability: Vector) -> dict[int, Vector]:
        """Where the words of `phrase` may end if they begin at `start`, and with what probability."""
        ends = {start: probability}
        for item in phrase:
            following: dict[int, Vector] = {}
            for end, so_far in ends.items():
                if item in self._rules:
                    spans = self.spans(item, end)
                    _add(following, {further: so_far * inside for further, inside in spans.items()})
                elif end < len(self._words) and self._words[end] == self._seen(item):
                    following[end + 1] = so_far
            ends = following
        return ends

    def _seen(self, word: str) -> str | None:
        """A word, or None for any that is unknown."""
        return word if self._known_words is None or word in self._known_words else None


def parse(source: str) -> dict[str, list[Choice]]:
    """The choices of each head, heads in the order of appearance. Raises ValueError, naming the line."""
    choices: dict[str, list[Choice]] = {}
    for line, text in _logical_lines(source):
        rule = _RULE.fullmatch(text)
        if rule is None:
            raise ValueError(
                f"Line {line} is not of the form 'HEAD [name=value] -> phrase (weight) | phrase': {text!r}"
            )
        if not (rule["head"].isupper() or rule["head"].islower()):
            raise ValueError(f"Line {line}: {rule['head']!r} is neither an attribute (lower case) nor a SYMBOL.")
        condition = _parse_condition(rule["condition"] or "", line)
        for part in rule["choices"].split("|"):
            choice = _CHOICE.fullmatch(part.strip())
            if choice is None or not choice["phrase"]:
                raise ValueError(
                    f"Line {line}: {part.strip()!r} is not a phrase with an optional (weight); '_' is empty."
                )
            phrase = tuple(word for word in choice["phrase"].split() if word != EMPTY)
            choices.setdefault(rule["head"], []).append(Choice(phrase, int(choice["weight"] or 1), condition, line))
    return choices


def _logical_lines(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each rule, comments removed and continuation lines joined."""
    rule, first = "", 0
    for number, raw in enumerate(source.splitlines(), start=1):
        text = raw.split("#")[0].rstrip()
        if text[:1].isspace():
            rule += " " + text.strip()
        elif text:
            if rule:
                yield first, rule
            rule, first = text, number
    if rule:
        yield first, rule


def _parse_condition(text: str, line: int) -> dict[str, frozenset[str]]:
    condition = {}
    for part in text.split():
        name, equals, values = part.partition("=")
        if not (name and equals and values):
            raise ValueError(f"Line {line}: {part!r} is not a condition of the form name=value,value.")
        condition[name] = frozenset(values.split(","))
    return condition


def _check_names(choices: Mapping[str, Sequence[Choice]], attributes: Sequence[str]) -> None:
    """Conditions name known values of attributes drawn earlier; phrases name known symbols."""
    if len(attributes) == len(choices):
        raise ValueError("The grammar has no symbol (an upper-case head), so it has no sentences.")
    drawn: dict[str, set[str]] = {}
    for head in [*attributes, *(head for head in choices if head.isupper())]:
        for choice in choices[head]:
            where = f"Line {choice.line} ({head})"
            for name, values in choice.condition.items():
                if name not in drawn:
                    raise ValueError(f"{where}: {name!r} is not among the attributes drawn before: {list(drawn)}.")
                if unknown := values - drawn[name]:
                    raise ValueError(f"{where}: {name} is never {sorted(unknown)}, but one of {sorted(drawn[name])}.")
            if head in attributes and len(choice.phrase) != 1:
                raise ValueError(f"{where}: the value of an attribute is a single word, not {choice.phrase}.")
            if missing := [part for part in choice.phrase if part.isupper() and part not in choices]:
                raise ValueError(f"{where}: no rule says what {missing[0]} becomes.")
        if head in attributes:
            drawn[head] = {choice.phrase[0] for choice in choices[head]}


def _draw(cumulative: Sequence[int], rng: random.Random) -> int:
    """A choice by its weight. Of a generator's methods, only `random()` is promised never to change its numbers."""
    return bisect_right(cumulative, int(rng.random() * cumulative[-1]))


def _add(to: dict[int, Vector], more: Mapping[int, Vector]) -> None:
    for end, probability in more.items():
        to[end] = to[end] + probability if end in to else probability
