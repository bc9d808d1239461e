"""Laws of the tokenizers of sub-words: byte-level BPE writes back any text; any fast tokenizer can be made ready."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modeling_seqvae.data.subwords import hub_name, kind_of, load_tokenizer, prepare_tokenizer, train_bpe_tokenizer
from modeling_seqvae.tokenization import content_hash, decode_sentences, train_tokenizer

TEXTS = [
    "The food was GOOD, they said!",
    "  two  spaces\tand a tab ",
    "她点了一杯咖啡。坐在窗边。",
    "a </s> b <unk> <pad>",
    "naïve 😀👩‍👩‍👧",
]


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_bpe_tokenizer(TEXTS * 3, vocabulary_size=400)


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ODD = st.lists(
    st.sampled_from(["</s>", "<s>", "<pad>", "<unk>", " ", "\n", "\0", "é", "e\u0301", "漢", "😀", "n't", "Ġ", "a"])
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(ANY, ODD.map("".join)))
def test_bpe_writes_back_any_text_and_knows_all_of_it(bpe, text):
    (ids,) = bpe([text]).input_ids
    assert (ids[0], ids[-1]) == (1, 2) and not {0, 1, 2, 3} & set(ids[1:-1])
    assert decode_sentences(bpe, [ids]) == [text]


def test_bpe_ids_are_the_specials_the_bytes_and_what_is_merged_up_to_the_size(bpe):
    vocabulary = bpe.get_vocab()
    assert [bpe.convert_ids_to_tokens(number) for number in range(4)] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert all(len(bpe.convert_ids_to_tokens(number)) == 1 for number in range(4, 260))
    assert sorted(vocabulary.values()) == list(range(len(bpe))) and 260 < len(bpe) <= 404
    assert len(train_bpe_tokenizer(TEXTS, vocabulary_size=256)) == 260
    assert len(train_bpe_tokenizer(["abcd " * 9], vocabulary_size=258)) == 262


def test_texts_that_are_full_of_control_tokens_teach_no_way_to_write_one():
    tokenizer = train_bpe_tokenizer(["</s><s> </s> <pad><unk>"] * 50, vocabulary_size=400)
    assert not {0, 1, 2, 3} & set(tokenizer("</s> <s><pad> <unk></s>").input_ids[1:-1])


def test_two_trainings_of_the_same_texts_are_the_same_bytes_in_every_process(tmp_path):
    code = (
        "import sys; from modeling_seqvae.data.subwords import train_bpe_tokenizer as train;"
        f"train({TEXTS!r} * 3, vocabulary_size=400).save_pretrained(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True, cwd=Path(__file__).parents[2])
    train_bpe_tokenizer(TEXTS * 3, vocabulary_size=400).save_pretrained(tmp_path / "b")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_saved_bpe_is_the_same_tokenizer(bpe, tmp_path):
    bpe.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        assert loaded(TEXTS).data == bpe(TEXTS).data
        assert content_hash(loaded) == content_hash(bpe)
        assert kind_of(loaded) == "bpe"
        assert decode_sentences(loaded, loaded(TEXTS).input_ids) == TEXTS


def test_no_texts_make_a_bpe_of_bytes():
    tokenizer = train_bpe_tokenizer([])
    assert len(tokenizer) == 260 and decode_sentences(tokenizer, tokenizer(TEXTS).input_ids) == TEXTS


@pytest.mark.parametrize(("texts", "size", "message"), [("one string", 300, "one string"), (["a"], 255, "needs 256")])
def test_what_makes_no_bpe_is_refused(texts, size, message):
    with pytest.raises(ValueError, match=message):
        train_bpe_tokenizer(texts, vocabulary_size=size)


def test_a_half_of_a_character_is_written_as_such_and_an_unknown_token_not_at_all(bpe):
    start = bpe("😀").input_ids[1:2]
    assert decode_sentences(bpe, [[1, *start, 2]]) == ["�"]
    assert decode_sentences(bpe, [[1, 3, *bpe("a").input_ids[1:-1], 3, 2]]) == ["a"]


# tokenizers made elsewhere


def like_gpt2(**special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a single special token, which begins, ends and stands for what is unknown."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary | {"<|endoftext|>": 256}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **(special or dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")),
    )


def like_bert() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "food", "the", "##s", "a", "b"]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer.add_special_tokens(words[:4])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def like_t5() -> PreTrainedTokenizerFast:
    """Pieces with scores, among them the end of a sentence, which the model finds in a text."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abdfgo<>/s"]
    tokenizer = Tokenizer(models.Unigram([(piece, 0.0 if piece[0] == "<" else -2.0) for piece in pieces], unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def test_a_tokenizer_with_one_token_for_all_purposes_is_given_three(bpe):
    before = like_gpt2()
    tokenizer = prepare_tokenizer(before)
    ids = [getattr(tokenizer, f"{name}_token_id") for name in ("eos", "unk", "bos", "pad")]
    assert ids == [256, 257, 258, 259] and len(tokenizer) == 260 and len(before) == 257
    assert tokenizer("").input_ids == [258, 256]
    texts = [*TEXTS, "a<|endoftext|>b"]
    assert decode_sentences(tokenizer, tokenizer(texts).input_ids) == texts
    assert not set(ids) & set(tokenizer(texts[-1]).input_ids[1:-1])


def test_begin_and_end_may_be_called_cls_and_sep_and_nothing_grows():
    tokenizer = prepare_tokenizer(like_bert())
    assert len(tokenizer) == 10
    assert tokenizer("The foods, good").input_ids == [2, 6, 5, 7, 1, 4, 3]
    assert decode_sentences(tokenizer, [[2, 6, 5, 7, 1, 4, 3, 0]]) == ["the foods [UNK] good"]
    assert not {0, 2, 3} & set(tokenizer("a [SEP] [PAD][CLS]").input_ids[1:-1])


def test_an_end_that_its_model_reads_from_text_is_read_no_longer():
    tokenizer = prepare_tokenizer(like_t5())
    assert tokenizer("").input_ids == [tokenizer.bos_token_id, 1]
    for text in ("good</s>a", "</s>", "a <pad> b"):
        assert not {0, 1, tokenizer.bos_token_id} & set(tokenizer(text).input_ids[1:-1]), text
    assert decode_sentences(tokenizer, tokenizer(["good food"]).input_ids) == ["good food"]


@pytest.mark.parametrize("make", [like_gpt2, like_bert, like_t5])
def test_a_tokenizer_made_ready_stays_it_through_saving_and_being_made_ready_again(make, tmp_path):
    tokenizer = prepare_tokenizer(make())
    tokenizer.save_pretrained(tmp_path)
    texts = ["good food", "", "a</s>b", "the foods ☃"]
    for loaded in (
        load_tokenizer(str(tmp_path)),
        AutoTokenizer.from_pretrained(tmp_path),
        prepare_tokenizer(tokenizer),
    ):
        assert loaded(texts).data == tokenizer(texts).data
        assert len(loaded) == len(tokenizer) and content_hash(loaded) == content_hash(tokenizer)
        assert kind_of(loaded) == "given"


def test_what_a_call_has_left_on_and_where_it_lies_do_not_change_a_tokenizer_s_hash(tmp_path):
    used = prepare_tokenizer(like_bert())
    used(["a b a b", "a"], padding=True, truncation=True, max_length=3)
    assert content_hash(used) == content_hash(prepare_tokenizer(like_bert()))
    assert content_hash(used) != content_hash(prepare_tokenizer(like_gpt2()))


def test_a_name_that_is_taken_is_not_taken_twice():
    tokenizer = like_gpt2(eos_token="<|endoftext|>")
    tokenizer.add_tokens(["<s>"])
    ready = prepare_tokenizer(tokenizer)
    assert ready.bos_token == "<s_>" and ready.bos_token_id != ready.convert_tokens_to_ids("<s>")


def test_words_of_a_folder_are_those_of_the_run_that_made_them(tmp_path):
    words = train_tokenizer(["a b c", "b c"])
    words.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert kind_of(loaded) == "words" and content_hash(loaded) == content_hash(words)


@pytest.mark.parametrize(
    ("source", "place", "options"),
    [("owner/name@v2", "owner/name", {"revision": "v2"}), ("owner/name", "owner/name", {})],
)
def test_a_revision_stands_behind_the_name(source, place, options, monkeypatch):
    asked = {}

    def load(name: str, **given: str) -> PreTrainedTokenizerFast:
        asked[name] = given
        return like_bert()

    monkeypatch.setattr("modeling_seqvae.data.subwords.AutoTokenizer.from_pretrained", load)
    assert len(load_tokenizer(source)) == 10 and asked == {place: options}


def test_what_is_no_fast_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a fast tokenizer"):
        prepare_tokenizer(object())
    with pytest.raises(FileNotFoundError, match="words, bpe, a folder"):
        load_tokenizer("bep")
    with pytest.raises(FileNotFoundError, match="could not be loaded"):
        load_tokenizer(str(tmp_path))
    dropping = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [], dropout=0.1)))
    with pytest.raises(ValueError, match="at random"):
        prepare_tokenizer(dropping)


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        *[("gpt2", "gpt2"), ("owner/name@main", "owner/name@main")],
        *[(local, None) for local in ("words", "bpe", "given", "/a/folder", "C:\\a\\folder")],
    ],
)
def test_names_on_the_hub_may_be_told_and_folders_may_not(tokenizer, name):
    assert hub_name(tokenizer) == name
