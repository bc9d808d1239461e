"""Laws of the word-level tokenizers: what round-trips, what the ids are, and that a saved one is the same."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modeling_seqvae.tokenization import (
    NORMALISATIONS,
    decode_sentences,
    pieces_of,
    train_tokenizer,
    word_splitter,
)

TOKENISED = ["the food was n't good , _UNK said", "the _UNK was good ...", "food ( N _num_ ) !"]
RAW = ["The food wasn't GOOD, they said!", "It's 3.50$ (really)... wasn't it?", "the check-in; the food"]


def ordered(tokenizer):
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_ids_are_the_specials_then_words_by_frequency_then_alphabet():
    tokenizer = train_tokenizer(["b a c", "c d", "é d"], unknown_mark="_UNK")
    assert ordered(tokenizer) == ["<pad>", "<s>", "</s>", "_UNK", "c", "d", "a", "b", "é"]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert len(tokenizer) == tokenizer.vocab_size == 9


def test_size_and_frequency_limit_the_words_but_not_the_specials():
    texts = ["a a a b b c c d <unk> <unk> <unk> <unk>"]
    assert ordered(train_tokenizer(texts, vocabulary_size=2))[4:] == ["a", "b"]
    assert ordered(train_tokenizer(texts, min_frequency=2))[4:] == ["a", "b", "c"]


def test_order_of_the_documents_does_not_matter():
    texts = [f"w{i % 50} v{i}" for i in range(400)]
    assert ordered(train_tokenizer(texts, vocabulary_size=100)) == ordered(
        train_tokenizer(texts[::-1], vocabulary_size=100)
    )


@pytest.mark.parametrize("mark", ["_UNK", "<unk>", "UNK"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_corpus_mark_is_the_unknown_token(normalisation, mark):
    tokenizer = train_tokenizer([f"the {mark} was good"], unknown_mark=mark, normalisation=normalisation)
    assert tokenizer(f"the {mark} good").input_ids == tokenizer("the sushi good").input_ids
    assert tokenizer(f"the {mark} good").input_ids[2] == 3


def test_whitespace_round_trip_is_exact():
    tokenizer = train_tokenizer(TOKENISED, unknown_mark="_UNK")
    ids = tokenizer(TOKENISED).input_ids
    assert all(sentence[0] == 1 and sentence[-1] == 2 for sentence in ids)
    assert decode_sentences(tokenizer, ids) == TOKENISED
    assert tokenizer.decode(ids[2], skip_special_tokens=True) == TOKENISED[2]
    assert tokenizer.decode(ids[0]) == f"<s> {TOKENISED[0]} </s>"


def test_whitespace_of_any_kind_separates():
    tokenizer = train_tokenizer(["a b"])
    assert tokenizer("  a\u00a0b\t\n a").input_ids == tokenizer("a b a").input_ids


def test_words_fold_case_apostrophes_and_accents_and_part_punctuation():
    split = word_splitter("words")
    expected = "it 's great ! ! did n't you ( really ) pay 3.50 $ ..."
    assert split("It’s GREAT!! Didn't you (really) pay 3.50$...") == expected.split()
    assert split("cafe\u0301 check-in _num_ <unk> 10:30am") == ["café", "check-in", "_num_", "<unk>", "10:30am"]


def test_words_decode_to_readable_text():
    tokenizer = train_tokenizer(RAW, normalisation="words")
    assert decode_sentences(tokenizer, tokenizer(RAW).input_ids) == [
        "the food wasn't good, they said!",
        "it's 3.50 $ (really)... wasn't it?",
        "the check-in; the food",
    ]


PIECES = st.sampled_from(
    [*"abnstİΣǄé'’.,:-_ 0129!()<>/#", "\u0301", "\u00a0", "\t", "\x1c", "n't", "'s", "_UNK", "<unk>"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join), st.sampled_from(sorted(NORMALISATIONS)))
def test_splitting_the_joined_words_again_changes_nothing(text, normalisation):
    split = word_splitter(normalisation, "_UNK")
    assert split(" ".join(split(text))) == split(text)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_text_cannot_write_control_tokens(normalisation):
    tokenizer = train_tokenizer(["a <s> </s> <pad> b"], normalisation=normalisation)
    inner = tokenizer("a </s> b <pad><s> <s>").input_ids[1:-1]
    assert not {0, 1, 2} & set(inner)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path, normalisation):
    tokenizer = train_tokenizer(TOKENISED + RAW, unknown_mark="_UNK", normalisation=normalisation)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TOKENISED, *RAW, "", "nothing known", "a </s> b"]
    assert reloaded(texts).data == tokenizer(texts).data
    ids = tokenizer(texts).input_ids
    for skip in (False, True):
        assert reloaded.batch_decode(ids, skip_special_tokens=skip) == tokenizer.batch_decode(
            ids, skip_special_tokens=skip
        )
    assert reloaded.get_vocab() == tokenizer.get_vocab()
    assert reloaded.padding_side == "right" and reloaded.model_max_length == tokenizer.model_max_length
    assert reloaded.model_input_names == ["input_ids", "attention_mask"]


def test_reloads_without_this_package_and_without_network(tmp_path):
    tokenizer = train_tokenizer(RAW, normalisation="words")
    tokenizer.save_pretrained(tmp_path)
    load = f"AutoTokenizer.from_pretrained({str(tmp_path)!r})"
    code = f"from transformers import AutoTokenizer; print({load}({RAW[0]!r}).input_ids)"
    environment = {"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert output.stdout.strip() == str(tokenizer(RAW[0]).input_ids)


def test_batches_are_padded_on_the_right():
    batch = train_tokenizer(["a b"])(["a", "a b"], padding=True, return_tensors="pt")
    assert batch.input_ids.tolist() == [[1, 4, 2, 0], [1, 4, 5, 2]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_decoded_sentences_end_at_the_first_end_and_show_unknown_words():
    tokenizer = train_tokenizer(["a b"], unknown_mark="_UNK")
    assert decode_sentences(tokenizer, [[1, 4, 3, 2, 5, 2, 0], [4, 5], []]) == ["a _UNK", "a b", ""]


@pytest.mark.parametrize("call", [{"padding": True}, {"truncation": True, "max_length": 3}])
def test_what_the_last_call_left_on_changes_no_figure(call):
    texts = ["a x", "b y a b a b a b", ""]
    fresh, used = (train_tokenizer(["a b"]) for _ in range(2))
    used(texts, **call)
    assert pieces_of(used) == pieces_of(fresh)


@pytest.mark.parametrize(
    ("texts", "settings_", "message"),
    [
        ("one string", {}, "one string"),
        ([], {}, "No word"),
        (["a b"], {"min_frequency": 2}, "No word occurs 2 times"),
        (["a"], {"vocabulary_size": 0}, "vocabulary_size"),
        (["a"], {"normalisation": "lower"}, "whitespace, words"),
        (["a"], {"unknown_mark": "<s>"}, "unknown_mark"),
        (["a"], {"unknown_mark": "two words"}, "unknown_mark"),
        (["a"], {"unknown_mark": ""}, "unknown_mark"),
    ],
)
def test_settings_that_make_no_tokenizer_are_refused(texts, settings_, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(texts, **settings_)
