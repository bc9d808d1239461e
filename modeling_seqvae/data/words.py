"""Words of many texts at once, as numbers: every piece of text between two spaces is cut into words once.

No normalisation reads across a space, so that a text's words are those of its pieces, and a corpus has few different
pieces. Arrow cuts texts into pieces and finds the different ones; only these are looked at one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import Dataset
from numpy.typing import NDArray

from ..tokenization import word_splitter
from .caching import ROWS_AT_ONCE, made_before, made_once

PIECES = 1 << 18
"""So many pieces of text are remembered together with their words, and then forgotten."""
_LONGEST = 64  # characters of a piece that is worth remembering
_END = "\0"  # a word of its own in every normalisation

Words = tuple[NDArray[np.int64], NDArray[np.int32]]
"""How many words each text has, (N,), and the numbers of all of them, one text after the other."""


class _Numbers(dict[str, int]):
    """The number of a word; a new one gets the next."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self.words)
        self.words.append(word)
        return number


class WordReader:
    """Cuts texts into words and numbers the different ones as it meets them; memory grows with how many they are."""

    def __init__(self, normalisation: str, unknown_mark: str):
        self.split = word_splitter(normalisation, unknown_mark)
        self._numbers = _Numbers()
        self._numbers[_END]  # which is number 0, whether or not a text has it
        self.words = self._numbers.words  # those that have a number, in its order
        self._forget()

    def _forget(self) -> None:
        """Forget all pieces; words keep their numbers."""
        self._places: dict[str, int] = {}  # of a piece in the two arrays that follow
        self._starts = self._counts = np.zeros(0, np.int64)  # of its words in the next one
        self._flat = np.zeros(0, np.int32)  # numbers of words

    def read(self, texts: Sequence[str] | pa.Array) -> Words:
        """The words of texts. Raises ValueError for one that is missing."""
        large = pa.large_string()  # of any number of bytes
        array = texts.cast(large) if isinstance(texts, pa.Array) else pa.array(texts, large)
        if array.null_count:
            raise ValueError(f"{array.null_count} of the texts are missing: null, where a string must be.")
        pieces = pc.split_pattern(array, " ")
        encoded = pieces.flatten().dictionary_encode()
        places = self._places_of(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
        counts = self._counts[places]  # words of each piece of each text
        ends = counts.cumsum()
        first = self._starts[places] - (ends - counts)
        numbers = self._flat[np.repeat(first, counts) + np.arange(counts.sum())]
        pieces_until = np.append(0, pieces.value_lengths().to_numpy().cumsum())
        return np.diff(np.append(0, ends)[pieces_until]), numbers

    def _places_of(self, pieces: list[str]) -> NDArray[np.int64]:
        """Where different pieces stand in our arrays, at the end of which new ones are put."""
        if len(self._counts) > PIECES:
            self._forget()
        places = np.fromiter(map(self._places.get, pieces, repeat(-1)), np.int64, len(pieces))
        new = np.flatnonzero(places < 0).tolist()
        # those that `words_of_ascii` reads, many at a time, apart from the others
        plain = [place for place in new if pieces[place].isascii() and _END not in pieces[place]]
        contracted = [place for place in plain if "'" in pieces[place]]
        for group in (sorted(set(plain) - set(contracted)), contracted):
            words = self._numbered(self.split(f" {_END} ".join([*(pieces[place] for place in group), ""])))
            ends = np.flatnonzero(words == 0)
            self._put(group, np.diff(np.append(-1, ends)) - 1, words[words != 0], places)
        others = sorted(set(new) - set(plain))
        words_of_others = [self.split(pieces[place]) for place in others]
        counts = np.fromiter(map(len, words_of_others), np.int64, len(others))
        self._put(others, counts, self._numbered(list(chain.from_iterable(words_of_others))), places)
        self._places.update((pieces[place], int(places[place])) for place in new if len(pieces[place]) <= _LONGEST)
        return places

    def _numbered(self, words: list[str]) -> NDArray[np.int32]:
        return np.fromiter(map(self._numbers.__getitem__, words), np.int32, len(words))

    def _put(self, group: list[int], counts: NDArray, words: NDArray, places: NDArray) -> None:
        places[group] = len(self._counts) + np.arange(len(group))
        self._starts = np.append(self._starts, len(self._flat) + counts.cumsum() - counts)
        self._counts = np.append(self._counts, counts)
        self._flat = np.append(self._flat, words)


@dataclass(frozen=True)
class NumberedWords:
    """The words of a dataset's texts, as they were numbered when they were read from their file."""

    rows: Dataset  # with the column `numbers`, in the order of the texts
    new_words: Dataset  # with that column: the words in the order of their numbers, some in each row
    normalisation: str
    unknown_mark: str

    def words(self) -> list[str]:
        """The word of each number; of training, validation and test sets from one file, all that it holds."""
        return made_once(self.new_words, "words", lambda: _flattened(self.new_words))


def remember_words(texts: Dataset, words: NumberedWords) -> None:
    """Let `words_of` know the words of these texts, for as long as these are in use."""
    made_once(texts, "numbered words", lambda: words)


def words_of(
    rows: Dataset, normalisation: str, unknown_mark: str
) -> tuple[Callable[[pa.Table, Sequence[int]], Words], list[str]]:
    """A function from some of the rows, as a table and their indices, to their words; and the list of the words.

    The list grows with what is read, unless the words were numbered with the file. Rows are to be read in order.
    """
    numbered: NumberedWords | None = made_before(rows, "numbered words")
    if numbered is None or (numbered.normalisation, numbered.unknown_mark) != (normalisation, unknown_mark):
        reader = WordReader(normalisation, unknown_mark)
        return lambda table, _: reader.read(table.column("text").combine_chunks()), reader.words
    arrow = numbered.rows.with_format("arrow")

    def known(table: pa.Table, indices: Sequence[int]) -> Words:
        column = arrow[indices[0] : indices[-1] + 1].column("numbers").combine_chunks()
        return column.value_lengths().to_numpy().astype(np.int64), column.flatten().to_numpy()

    return known, numbered.words()


def word_counts(rows: Dataset, normalisation: str, unknown_mark: str) -> tuple[list[str], NDArray[np.int64]]:
    """The different words of the `text` of all rows, some of which may not occur, and how often each occurs."""
    read, words = words_of(rows, normalisation, unknown_mark)
    counts = np.zeros(len(words), np.int64)
    texts = rows.select_columns(["text"]).with_format("arrow")
    for start in range(0, len(rows), ROWS_AT_ONCE):
        indices = range(start, min(start + ROWS_AT_ONCE, len(rows)))
        _, numbers = read(texts[start : indices[-1] + 1], indices)
        found = np.bincount(numbers, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return words, counts


def _flattened(new_words: Dataset) -> list[str]:
    words: list[str] = []
    for table in new_words.with_format("arrow").iter(1 << 16):
        words += table.column(0).combine_chunks().flatten().to_pylist()
    return words
