"""From a corpus to a word-level fast tokenizer, and from its ids back to text.

A tokenizer carries its corpus's *normalisation*, so that text is always cut the way the training text was:

    whitespace   text that is tokenised already: split at white space and nothing else; decoding joins by single spaces
    words        raw text: NFC, typographic apostrophes made plain, lower case; words, numbers and punctuation apart,
                 contractions cut as in the Penn Treebank (did|n't, it|'s); decoding puts punctuation back in its place

Control tokens are never read from text: what looks like `</s>` there is an unknown word (whitespace) or punctuation and
a letter (words). The unknown mark is read from text, because corpora write it there.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

Item = TypeVar("Item")

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"  # ids 0, 1, 2, 3; the corpus's own mark may replace the last
MODEL_MAX_LENGTH = 1024  # where `truncation=True` cuts; a recurrent model has no limit of its own
_CHUNK = 1000  # texts that cross into the Rust tokenizer at once

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What separates words, and what a text without words is made of, in every normalisation."""


class Normalisation(NamedTuple):
    """What a normalisation does to text on its way in and to words on their way out."""

    normalizer: normalizers.Normalizer
    pre_tokenizer: pre_tokenizers.PreTokenizer
    decoder: decoders.Decoder | None  # None joins words by single spaces
    words_of_ascii: Callable[[str], list[str]]  # the same words of a text of ASCII characters, by Python's `re`


def _whitespace(unknown_mark: str) -> Normalisation:
    control_word = Regex(rf"(?<!\S)(?:{PAD}|{BOS}|{EOS})(?!\S)")
    find = re.compile(r"\S+", re.ASCII).findall

    def words_of_ascii(text: str) -> list[str]:
        return [unknown_mark if word in (PAD, BOS, EOS) else word for word in find(text)]

    return Normalisation(
        normalizers.Replace(control_word, unknown_mark), pre_tokenizers.WhitespaceSplit(), None, words_of_ascii
    )


_CONTRACTION = r"n't\b|'(?:s|m|d|ll|re|ve)\b"
_CONTRACTED = rf"\w+(?=n't\b)|{_CONTRACTION}"  # did|n't
_WORD = "|".join(
    [
        r"(?:\d+[.,:])+\d+\w*",  # 3.50  1,000  10:30am
        r"\w+(?:-\w+)*",  # good  _num_  check-in
        r"\.{2,}",  # ...
        r"[^\w\s]",  # every other sign on its own
    ]
)


def _words(unknown_mark: str) -> Normalisation:
    mark_end = r"(?:(?!\w)|(?=n't\b))" if re.match(r"\w", unknown_mark[-1]) else ""
    steps = [normalizers.NFC(), normalizers.Replace("’", "'"), normalizers.Lowercase(), normalizers.NFC()]
    lower_mark = rf"(?<!\w){re.escape(unknown_mark.lower())}{mark_end}"
    is_lower = unknown_mark == unknown_mark.lower()
    if not is_lower:  # the mark is spelt as the corpus spells it
        steps.append(normalizers.Replace(Regex(lower_mark), unknown_mark))
    mark = f"{re.escape(unknown_mark)}{mark_end}"
    pattern = f"{mark}|{_CONTRACTED}|{_WORD}"
    find, find_uncontracted = (re.compile(of, re.ASCII).findall for of in (pattern, f"{mark}|{_WORD}"))
    replace = re.compile(lower_mark, re.ASCII).sub

    def words_of_ascii(text: str) -> list[str]:
        text = text.lower() if is_lower else replace(lambda _: unknown_mark, text.lower())
        return find(text) if "'" in text else find_uncontracted(text)

    decoder = decoders.Sequence(
        [
            # a space before every word but the first; the prefix it would glue is never the start of a longer word here
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(rf" (?=\.{{2,}}|[.,!?;:%)\]}}…]|{_CONTRACTION})"), ""),
            decoders.Replace(Regex(r"(?<=[(\[{]) |(?<=[$#]) (?=\d)"), ""),
        ]
    )
    return Normalisation(
        normalizers.Sequence(steps),
        pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
        decoder,
        words_of_ascii,
    )


NORMALISATIONS: dict[str, Callable[[str], Normalisation]] = {"whitespace": _whitespace, "words": _words}


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary_size: int = 20_000,
    min_frequency: int = 1,
    unknown_mark: str = UNKNOWN,
    normalisation: str = "whitespace",
) -> PreTrainedTokenizerFast:
    """Word-level tokenizer with the most frequent words of `texts`, ties in alphabetical order.

    Ids 0-3 are pad, `<s>`, `</s>` and the unknown word, spelt `unknown_mark`; at most `vocabulary_size` words follow,
    each seen at least `min_frequency` times. Encoding writes `<s> x_1 ... x_n </s>`. The same texts give the same ids.
    Texts are read one after the other; memory grows with the number of different words.
    Raises ValueError for an unknown normalisation, a mark that is not one word, or texts without a single such word.
    """
    if vocabulary_size < 1:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; it must be at least 1 word.")
    if isinstance(texts, str):
        raise ValueError("texts is one string; give an iterable of strings, one per document.")
    pieces = normalisation_of(normalisation, unknown_mark)
    most = vocabulary_size + len(control_words(unknown_mark))
    counted = _words_by_frequency(texts, pieces, most, min_frequency)
    words = chosen_words(counted, vocabulary_size, min_frequency, unknown_mark)
    return word_tokenizer(words, unknown_mark=unknown_mark, normalisation=normalisation)


def control_words(unknown_mark: str) -> list[str]:
    """The words of ids 0 to 3."""
    return [PAD, BOS, EOS, unknown_mark]


def chosen_words(counted: Iterable[str], vocabulary_size: int, min_frequency: int, unknown_mark: str) -> list[str]:
    """Of the words that occur often enough, most frequent first, those that get ids. Raises ValueError for none."""
    controls = control_words(unknown_mark)
    words = [word for word in counted if word not in controls][:vocabulary_size]
    if not words:
        raise ValueError(f"No word occurs {min_frequency} times or more in the training texts: no vocabulary to build.")
    return words


def word_tokenizer(words: Sequence[str], *, unknown_mark: str, normalisation: str) -> PreTrainedTokenizerFast:
    """The tokenizer whose ids are the four special tokens and then `words`, in their order."""
    vocabulary = {word: id_ for id_, word in enumerate([*control_words(unknown_mark), *words])}
    return _wrap(WordLevel(vocabulary, unk_token=unknown_mark), normalisation_of(normalisation, unknown_mark))


def normalisation_of(name: str, unknown_mark: str = UNKNOWN) -> Normalisation:
    """The normalisation of that name for a corpus with this mark. Raises ValueError for either if it is not valid."""
    if name not in NORMALISATIONS:
        raise ValueError(f"Unknown normalisation {name!r}; choose one of {', '.join(NORMALISATIONS)}.")
    if unknown_mark in (PAD, BOS, EOS) or len(unknown_mark.split()) != 1 or unknown_mark != unknown_mark.strip():
        raise ValueError(f"unknown_mark is {unknown_mark!r}; it must be one word, other than {PAD}, {BOS} and {EOS}.")
    return NORMALISATIONS[name](unknown_mark)


def normalisation_name(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The name of the normalisation that a tokenizer reads text with; None for one that was not made here."""
    if not is_word_level(tokenizer):
        return None
    pieces = pieces_of(tokenizer)
    for name in NORMALISATIONS:
        own = pieces_of(word_tokenizer([], unknown_mark=tokenizer.unk_token or UNKNOWN, normalisation=name))
        if all(pieces[part] == own[part] for part in ("normalizer", "pre_tokenizer")):
            return name
    return None


def is_word_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer's tokens are whole words, as those of `train_tokenizer` are."""
    return isinstance(tokenizer.backend_tokenizer.model, WordLevel)


def word_splitter(normalisation: str, unknown_mark: str = UNKNOWN) -> Callable[[str], list[str]]:
    """Function from a text to its words, the same that a tokenizer with this normalisation sees.

    Joining them by single spaces and splitting again gives the same words, where the mark of an unknown word is no
    part of others, as `N` would be of `n't`.
    """
    pieces = normalisation_of(normalisation, unknown_mark)

    def split(text: str) -> list[str]:
        if text.isascii():
            return pieces.words_of_ascii(text)
        normalised = pieces.normalizer.normalize_str(text)
        return [word for word, _ in pieces.pre_tokenizer.pre_tokenize_str(normalised)]

    return split


def words_known_to(tokenizer: PreTrainedTokenizerBase) -> tuple[str, dict[str, int]] | None:
    """The name of a tokenizer's normalisation and the ids of its words; None for one unlike those made here."""
    if not is_word_level(tokenizer):
        return None
    pieces = pieces_of(tokenizer)
    vocabulary = pieces["model"].pop("vocab", None)
    for name in NORMALISATIONS if getattr(tokenizer, "split_special_tokens", False) else ():
        own = pieces_of(word_tokenizer([], unknown_mark=tokenizer.unk_token or UNKNOWN, normalisation=name))
        own["model"].pop("vocab")
        if pieces == own:
            return name, vocabulary
    return None


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Sixteen hexadecimal digits that stand for the words of a tokenizer, added ones included, and their ids."""
    ranked = sorted(tokenizer.get_vocab().items(), key=lambda word_and_id: word_and_id[::-1])
    return hashlib.sha256(json.dumps(ranked).encode()).hexdigest()[:16]


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a tokenizer is made of, without the padding and truncation that its last call left on."""
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: piece for name, piece in pieces.items() if name not in ("padding", "truncation")}


def content_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """The SHA-256 of all that decides which ids a tokenizer gives a text of any length, and which of them are special.

    It is the same for one that was saved and loaded, wherever it lies.
    """
    special = [getattr(tokenizer, f"{name}_token") for name in ("pad", "bos", "eos", "unk")]
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    return hashlib.sha256(json.dumps([pieces_of(tokenizer), special, split]).encode()).hexdigest()


def reads_unknown(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether text can become the unknown token; byte-level BPE has a token for every byte instead."""
    return getattr(tokenizer.backend_tokenizer.model, "unk_token", UNKNOWN) is not None


def decode_sentences(tokenizer: PreTrainedTokenizerFast, sentences: Iterable[Sequence[int]]) -> list[str]:
    """Texts of id sequences: cut at the first `</s>`, without `<s>` and pad, with unknown words visible as the mark.

    (`batch_decode(skip_special_tokens=True)` leaves the unknown words out, as if they had not been there.) An unknown
    token that no text can become, which is there for word dropout alone, is hidden as well.
    """
    hidden = {tokenizer.pad_token_id, tokenizer.bos_token_id}
    if not reads_unknown(tokenizer):
        hidden.add(tokenizer.unk_token_id)
    kept = []
    for ids in sentences:
        ids = [int(id_) for id_ in ids]
        if tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(tokenizer.eos_token_id)]
        kept.append([id_ for id_ in ids if id_ not in hidden])
    return tokenizer.batch_decode(kept)


def _words_by_frequency(texts: Iterable[str], pieces: Normalisation, most: int, min_frequency: int) -> list[str]:
    """The `most` frequent words, most frequent first, equal ones in code-point order (the trainer sorts by both)."""
    counter = Tokenizer(WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    counter.normalizer, counter.pre_tokenizer = pieces.normalizer, pieces.pre_tokenizer
    trainer = WordLevelTrainer(vocab_size=most, min_frequency=min_frequency, show_progress=False, special_tokens=[])
    counter.train_from_iterator(chunks(texts), trainer)
    ranks = counter.get_vocab(with_added_tokens=False)
    return sorted(ranks, key=ranks.__getitem__)


def _wrap(model: WordLevel, pieces: Normalisation) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = pieces.normalizer, pieces.pre_tokenizer
    if pieces.decoder is not None:
        tokenizer.decoder = pieces.decoder
    return wrapped(tokenizer, PAD, BOS, EOS, model.unk_token)


def wrapped(tokenizer: Tokenizer, pad: str, bos: str, eos: str, unknown: str) -> PreTrainedTokenizerFast:
    """A tokenizer of `tokenizers` as transformers loads it: `bos x_1 ... x_n eos`, padded and cut on the right.

    These tokens are in its vocabulary. Where one of them stands in a text, it is read as any other text.
    """
    ids = [(token, tokenizer.token_to_id(token)) for token in (bos, eos)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", pair=f"{bos} $A {eos} $B:1 {eos}:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unknown,
        padding_side="right",
        truncation_side="right",
        model_max_length=MODEL_MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,  # it would alter text whose tokens are separated by spaces
        split_special_tokens=True,  # `</s>` written in a text does not end the sentence
    )


def chunks(items: Iterable[Item], size: int = _CHUNK) -> Iterator[list[Item]]:
    """The texts, or other items, in lists of so many, the last one shorter."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
