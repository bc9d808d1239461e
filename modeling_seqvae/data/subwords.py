"""Tokenizers of sub-words: byte-level BPE trained from texts, and fast tokenizers made elsewhere.

Both write `<s> x_1 ... x_n </s>` and pad on the right, as those of words do. What looks like a control token in a text
is read as text. The unknown token stands for dropped words (`word_dropout`); byte-level BPE never reads one from text.
"""

from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..loading import best_of
from ..tokenization import BOS, EOS, PAD, UNKNOWN, chunks, is_word_level, pieces_of, reads_unknown, wrapped

WORDS, BPE, GIVEN = "words", "bpe", "given"
"""What `corpus.tokenizer` may be beside a name or a folder: trained here, or an object that a trainer was given."""

BYTES = 256
"""Tokens of a byte-level BPE that merges nothing, beside the special ones."""


def train_bpe_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int = 20_000, min_frequency: int = 2
) -> PreTrainedTokenizerFast:
    """Byte-level BPE trained from `texts`: it reads and writes any text exactly, and has no unknown words.

    Ids 0 to 3 are `<pad>`, `<s>`, `</s>` and `<unk>`, which no text becomes; at most `vocabulary_size` tokens follow:
    the 256 bytes, then pieces of text, the most frequent first, made of two that stand side by side at least
    `min_frequency` times. The same texts give the same tokenizer, byte for byte.

    Raises ValueError for a `vocabulary_size` below 256, and where `texts` is one string.
    """
    require_bytes(vocabulary_size)
    if isinstance(texts, str):
        raise ValueError("texts is one string; give an iterable of strings, one per document.")
    special = [PAD, BOS, EOS, UNKNOWN]
    trainer = BpeTrainer(
        vocab_size=vocabulary_size + len(special),
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer = _byte_level(models.BPE())
    tokenizer.train_from_iterator(chunks(texts), trainer)
    return wrapped(tokenizer, *special)


def require_bytes(vocabulary_size: int) -> None:
    """Raise ValueError for a vocabulary that cannot hold all bytes."""
    if vocabulary_size < BYTES:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; byte-level BPE needs {BYTES}, a token for each byte.")


def _byte_level(model: models.BPE) -> Tokenizer:
    """The regular expression of GPT-2 parts letters from signs, so that no merge can spell a control token."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def kind_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """WORDS or BPE for a tokenizer like those that are trained here, GIVEN for any other."""
    if is_word_level(tokenizer):
        return WORDS
    pieces = pieces_of(tokenizer)
    own = pieces_of(wrapped(_with_special(_byte_level(models.BPE())), PAD, BOS, EOS, UNKNOWN))
    for found in (pieces, own):
        found["model"] = {name: value for name, value in found["model"].items() if name not in ("vocab", "merges")}
    return BPE if pieces == own else GIVEN


def _with_special(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([PAD, BOS, EOS, UNKNOWN])
    return tokenizer


def hub_name(tokenizer: str) -> str | None:
    """The name on the hub that `corpus.tokenizer` is; None for one that is trained here, was given, or is a folder."""
    known = tokenizer in (WORDS, BPE, GIVEN) or Path(tokenizer).is_absolute()  # as a folder in a recipe is
    return None if known or PureWindowsPath(tokenizer).is_absolute() else tokenizer


def load_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder, a run, or a model on the hub (`owner/name`, `owner/name@revision`), made ready.

    Raises FileNotFoundError where there is none, and what `prepare_tokenizer` raises, with the source before it.
    """
    place, at, revision = source.partition("@")
    if Path(source).exists() or not at:
        place, revision = best_of(source), ""
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **({"revision": revision} if revision else {}))
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"tokenizer {source!r} could not be loaded ({reason}): it must be {WORDS}, {BPE}, a folder with a "
            "tokenizer.json, or a model on the hub that has one"
        ) from error
    try:
        return prepare_tokenizer(tokenizer)
    except ValueError as error:
        raise ValueError(f"tokenizer {source}: {error}") from None


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A copy of a fast tokenizer that a sequence VAE can be trained with; the one that is given does not change.

    It has four different special tokens: padding, begin, end (also those that it calls [CLS] and [SEP]) and unknown.
    Those it lacks, or has for two purposes, are added behind its vocabulary; all other ids stay. Encoding writes begin
    and end around a text, and a control token that stands in a text is read as text.

    Raises ValueError for a tokenizer that is not a fast one, or that draws its merges at random.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer, one of the `tokenizers` library.")
    if getattr(backend.model, "dropout", None):
        raise ValueError("it drops merges at random (BPE dropout), so that a text would have other tokens every time.")
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    wanted = {  # those first that the tokenizer's own texts hold
        EOS: tokenizer.eos_token or tokenizer.sep_token,
        UNKNOWN: _unknown_of(tokenizer) or tokenizer.unk_token,
        BOS: tokenizer.bos_token or tokenizer.cls_token,
        PAD: tokenizer.pad_token,
    }
    chosen: dict[str, str] = {}
    for role, token in wanted.items():
        taken = token is None or token in chosen.values() or copy.token_to_id(token) is None
        chosen[role] = _added(copy, role) if taken else str(token)
    made = wrapped(copy, *(chosen[role] for role in (PAD, BOS, EOS, UNKNOWN)))
    hidden = [token for token in chosen.values() if token != made.unk_token or not reads_unknown(made)]
    readable = [token for token in hidden if _is_read_from_text(made, token)]
    if readable:  # its model has them as pieces like any other
        apart = [normalizers.Replace(token, f"{token[0]} {token[1:]}") for token in readable]
        copy.normalizer = normalizers.Sequence([*apart, *([copy.normalizer] if copy.normalizer else [])])
        made = wrapped(copy, *(chosen[role] for role in (PAD, BOS, EOS, UNKNOWN)))
        if any(_is_read_from_text(made, token) for token in readable):
            raise ValueError(f"it reads {' and '.join(readable)} in a text as the end or the padding of a sentence.")
    return made


def require_control_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError for a tokenizer without four different special tokens, such as `prepare_tokenizer` gives it."""
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
    if None in ids.values() or len(set(ids.values())) < len(ids):
        told = ", ".join(f"{name} {id_}" for name, id_ in ids.items())
        raise ValueError(
            f"the tokenizer must have four different special tokens, and the ids of its are {told}: give the model "
            "modeling_seqvae.prepare_tokenizer(tokenizer), which adds what is missing"
        )


def token_count(tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows that a table of embeddings needs: one for each id up to the greatest."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))


def _unknown_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What the model of a tokenizer reads where it has no piece for a text; None for one that always has."""
    model = pieces_of(tokenizer)["model"]
    if model.get("unk_id") is not None:
        return str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token")


def _added(tokenizer: Tokenizer, role: str) -> str:
    """A new special token, called as its role in our own tokenizers, or nearly so where that is taken."""
    vocabulary = tokenizer.get_vocab()
    name = role
    while name in vocabulary:
        name = f"{name[:-1]}_>"
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True)])
    if tokenizer.token_to_id(name) in vocabulary.values():
        raise ValueError(f"its ids have gaps, so that {role} cannot be added to them.")
    return name


def _is_read_from_text(tokenizer: PreTrainedTokenizerFast, token: str) -> bool:
    texts = [token, f"a {token} b", f"a{token}b"]
    id_ = tokenizer.convert_tokens_to_ids(token)
    return any(id_ in ids[1:-1] for ids in tokenizer(texts)["input_ids"])
