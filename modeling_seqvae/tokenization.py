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
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"  # ids 0, 1, 2, 3; the corpus's own mark may replace the last
MODEL_MAX_LENGTH = 1024  # where `truncation=True` cuts; a recurrent model has no limit of its own
_CHUNK = 1000  # texts that cross into the Rust tokenizer at once


class Normalisation(NamedTuple):
    """What a normalisation does to text on its way in and to words on their way out."""

    normalizer: normalizers.Normalizer
    pre_tokenizer: pre_tokenizers.PreTokenizer
    decoder: decoders.Decoder | None  # None joins words by single spaces


def _whitespace(unknown_mark: str) -> Normalisation:
    control_word = Regex(rf"(?<!\S)(?:{PAD}|{BOS}|{EOS})(?!\S)")
    return Normalisation(
        normalizers.Replace(control_word, unknown_mark), pre_tokenizers.WhitespaceSplit(), decoder=None
    )


_CONTRACTION = r"n't\b|'(?:s|m|d|ll|re|ve)\b"
_WORD = "|".join(
    [
        r"\w+(?=n't\b)",  # did|n't
        _CONTRACTION,
        r"(?:\d+[.,:])+\d+\w*",  # 3.50  1,000  10:30am
        r"\w+(?:-\w+)*",  # good  _num_  check-in
        r"\.{2,}",  # ...
        r"[^\w\s]",  # every other sign on its own
    ]
)


def _words(unknown_mark: str) -> Normalisation:
    mark_end = r"(?:(?!\w)|(?=n't\b))" if re.match(r"\w", unknown_mark[-1]) else ""
    steps = [normalizers.NFC(), normalizers.Replace("’", "'"), normalizers.Lowercase(), normalizers.NFC()]
    if unknown_mark != unknown_mark.lower():  # the mark is spelt as the corpus spells it
        steps.append(normalizers.Replace(Regex(rf"(?<!\w){re.escape(unknown_mark.lower())}{mark_end}"), unknown_mark))
    pattern = Regex(f"{re.escape(unknown_mark)}{mark_end}|{_WORD}")
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
        normalizers.Sequence(steps), pre_tokenizers.Split(pattern, behavior="removed", invert=True), decoder
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
    Raises ValueError for an unknown normalisation, a mark that is not one word, or texts without a single such word.
    """
    words = frequent_words(
        texts,
        vocabulary_size=vocabulary_size,
        min_frequency=min_frequency,
        unknown_mark=unknown_mark,
        normalisation=normalisation,
    )
    return word_tokenizer(words, unknown_mark=unknown_mark, normalisation=normalisation)


def frequent_words(
    texts: Iterable[str], *, vocabulary_size: int, min_frequency: int, unknown_mark: str, normalisation: str
) -> list[str]:
    """The words that `train_tokenizer` gives ids to, in the order of these, without the four special tokens.

    Texts are read one after the other; memory grows with the number of different words. Raises what `train_tokenizer`
    raises.
    """
    if vocabulary_size < 1:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; it must be at least 1 word.")
    if isinstance(texts, str):
        raise ValueError("texts is one string; give an iterable of strings, one per document.")
    specials = [PAD, BOS, EOS, unknown_mark]
    pieces = normalisation_of(normalisation, unknown_mark)
    counted = _words_by_frequency(texts, pieces, vocabulary_size + len(specials), min_frequency)
    words = [word for word in counted if word not in specials][:vocabulary_size]
    if not words:
        raise ValueError(f"No word occurs {min_frequency} times or more in the training texts: no vocabulary to build.")
    return words


def word_tokenizer(words: Sequence[str], *, unknown_mark: str, normalisation: str) -> PreTrainedTokenizerFast:
    """The tokenizer whose ids are the four special tokens and then `words`, in their order."""
    vocabulary = {word: id_ for id_, word in enumerate([PAD, BOS, EOS, unknown_mark, *words])}
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
    pieces = pieces_of(tokenizer)
    for name in NORMALISATIONS:
        own = pieces_of(word_tokenizer([], unknown_mark=tokenizer.unk_token or UNKNOWN, normalisation=name))
        if all(pieces[part] == own[part] for part in ("normalizer", "pre_tokenizer")):
            return name
    return None


def word_splitter(normalisation: str, unknown_mark: str = UNKNOWN) -> Callable[[str], list[str]]:
    """Function from a text to its words, the same that a tokenizer with this normalisation sees.

    Joining them by single spaces and splitting again gives the same words.
    """
    pieces = normalisation_of(normalisation, unknown_mark)

    def split(text: str) -> list[str]:
        normalised = pieces.normalizer.normalize_str(text)
        return [word for word, _ in pieces.pre_tokenizer.pre_tokenize_str(normalised)]

    return split


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Sixteen hexadecimal digits that stand for the words of a tokenizer, added ones included, and their ids."""
    ranked = sorted(tokenizer.get_vocab().items(), key=lambda word_and_id: word_and_id[::-1])
    return hashlib.sha256(json.dumps(ranked).encode()).hexdigest()[:16]


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a tokenizer is made of, without the padding and truncation that its last call left on."""
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: piece for name, piece in pieces.items() if name not in ("padding", "truncation")}


def unknown_share(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> float:
    """Share of the words of `texts`, in [0, 1], that the tokenizer does not know; 0 if there are no words."""
    words = unknown = 0
    for chunk in _chunks(texts):
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            words += len(ids)
            unknown += ids.count(tokenizer.unk_token_id)
    return unknown / words if words else 0.0


def decode_sentences(tokenizer: PreTrainedTokenizerFast, sentences: Iterable[Sequence[int]]) -> list[str]:
    """Texts of id sequences: cut at the first `</s>`, without `<s>` and pad, with unknown words visible as the mark.

    (`batch_decode(skip_special_tokens=True)` leaves the unknown words out, as if they had not been there.)
    """
    hidden = {tokenizer.pad_token_id, tokenizer.bos_token_id}
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
    counter.train_from_iterator(_chunks(texts), trainer)
    ranks = counter.get_vocab(with_added_tokens=False)
    return sorted(ranks, key=ranks.__getitem__)


def _wrap(model: WordLevel, pieces: Normalisation) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = pieces.normalizer, pieces.pre_tokenizer
    if pieces.decoder is not None:
        tokenizer.decoder = pieces.decoder
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", pair=f"{BOS} $A {EOS} $B:1 {EOS}:1", special_tokens=[(BOS, 1), (EOS, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=model.unk_token,
        padding_side="right",
        truncation_side="right",
        model_max_length=MODEL_MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,  # it would alter text whose tokens are separated by spaces
        split_special_tokens=True,  # `</s>` written in a text does not end the sentence
    )


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
