"""Runs with byte-level BPE, and with tokenizers made elsewhere: trained, resumed, measured, shared and used."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE, SeqVAEForTextModeling, SeqVAETrainer, SeqVAEVectorizer
from modeling_seqvae.cli import app
from modeling_seqvae.data.batching import bytes_of, cut_share_of, tokenise
from modeling_seqvae.data.corpora import load_corpus
from modeling_seqvae.data.corpus_spec import CorpusSpec, spec_from_path
from modeling_seqvae.data.subwords import load_tokenizer, train_bpe_tokenizer
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.evaluation.metrics import bits_per_byte
from modeling_seqvae.evaluation.positions import piece_costs
from modeling_seqvae.evaluation.table import caption, cells
from modeling_seqvae.hub.push import contents
from modeling_seqvae.reproduce.demonstration import run_demo
from modeling_seqvae.tokenization import content_hash, decode_sentences, train_tokenizer
from modeling_seqvae.training import run as runs
from modeling_seqvae.training.checkpoint import evaluate_checkpoint, reading_of
from modeling_seqvae.training.evaluations import keep_evaluation
from modeling_seqvae.training.recipe import Recipe, resolve
from tests.data.test_subwords import like_bert, like_gpt2

TEXTS = [
    "The food was GOOD, they said!",
    "她点了一杯咖啡。坐在窗边。",
    "nous n'avons rien mangé 😀",
    "so-so…",
    "a </s> b <unk>",
]
BPE = ["corpus.tokenizer=bpe", "corpus.vocabulary_size=300"]
SHORT = [*BPE, "training.epochs=1"]
STAGES = [*SHORT, "pretraining.training.epochs=1"]


@pytest.fixture(scope="module")
def preset(tiny: Path) -> str:
    return str(tiny / "preset.yaml")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> CorpusSpec:
    """A folder of files with raw texts of several scripts."""
    folder = tmp_path_factory.mktemp("reviews")
    for split, count in {"train": 8, "validation": 2, "test": 2}.items():
        (folder / f"{split}.txt").write_text("\n".join(TEXTS * count) + "\n", "utf-8")
    return spec_from_path(folder)


@pytest.fixture(scope="module")
def bpe_run(corpus, preset, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("bpe") / "run"
    runs.train(resolve("unigram_pretraining", corpus, preset, STAGES), run, progress=False)
    return run


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """The folder of a tokenizer that has one special token."""
    folder = tmp_path_factory.mktemp("elsewhere") / "tokenizer"
    like_gpt2().save_pretrained(folder)
    return folder


# a run of byte-level BPE


def test_everything_is_done_on_the_texts_as_they_are(bpe_run):
    vae = SeqVAE.from_pretrained(bpe_run)
    assert vae.encode(TEXTS).shape == (5, 6) and np.isfinite(vae.nll(TEXTS, num_samples=2)).all()
    assert np.array_equal(SeqVAEVectorizer(bpe_run).transform(TEXTS), vae.encode(TEXTS))
    for text in (*vae.sample(3, seed=0, max_new_tokens=9), *vae.reconstruct(TEXTS, max_new_tokens=9)):
        assert isinstance(text, str) and not any(mark in text for mark in ("<pad>", "Ġ"))
    assert len(vae.sample(2, seed=0, stop_strings=["a"], max_new_tokens=5)) == 2
    assert vae.encode(["GOOD"]).tolist() != vae.encode(["good"]).tolist()
    assert vae.model.config.vocab_size == len(vae.tokenizer) <= 304
    recipe = Recipe.load(bpe_run / "recipe.yaml")
    assert (recipe.corpus.tokenizer, recipe.corpus.tokenizer_sha256) == ("bpe", None)


def test_white_space_at_the_ends_of_a_text_is_read_nowhere(bpe_run):
    """Files are read without it, and so are texts in Python, such as the lines of a file with their ends."""
    vae, padded = SeqVAE.from_pretrained(bpe_run), [f" {text}\t\n" for text in TEXTS]
    for read in (
        vae.encode,
        SeqVAEVectorizer(bpe_run).transform,
        lambda texts: vae.nll(texts, num_samples=2),
        vae.elbo,
    ):
        np.testing.assert_array_equal(read(padded), read(TEXTS))
    assert piece_costs(vae, padded[1]) == piece_costs(vae, TEXTS[1])
    assert vae.reconstruct(padded, max_new_tokens=9) == vae.reconstruct(TEXTS, max_new_tokens=9)
    plain, same = (tokenise(Dataset.from_dict({"text": texts}), vae.tokenizer) for texts in (TEXTS, padded))
    assert plain.to_dict() == same.to_dict() and plain["bytes"][:] == [len(text.encode()) for text in TEXTS]


def test_sentence_transformers_reads_the_same_features(bpe_run, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from modeling_seqvae.hub.sentence_transformers import export

    folder = shutil.copytree(bpe_run / "best", tmp_path / "best")
    export(folder)
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(model.encode([f" {text}\n" for text in TEXTS]), model.encode(TEXTS))
    np.testing.assert_allclose(model.encode(TEXTS), SeqVAE.from_pretrained(bpe_run).encode(TEXTS, "mean"), atol=1e-5)


def test_the_command_line_takes_a_tokenizer(corpus, preset, tmp_path):
    options = ["--corpus", str(Path(corpus.files.train).parent), "--preset", preset, "--method", "max_pool"]
    changes = ["--set", "training.epochs=1", "--set", "corpus.vocabulary_size=280", "--tokenizer", "bpe"]
    found = CliRunner().invoke(app, ["train", *options, *changes, "--output-dir", str(tmp_path / "run")])
    assert found.exit_code == 0, found.output
    kept = Recipe.load(tmp_path / "run" / "recipe.yaml").corpus
    assert (kept.tokenizer, kept.vocabulary_size) == ("bpe", 280)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS), "utf-8")
    for command in (["score", "--nll-samples", "2"], ["encode"]):
        arguments = [
            command[0],
            str(tmp_path / "run"),
            str(file),
            "-o",
            str(tmp_path / f"{command[0]}.csv"),
            *command[1:],
        ]
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 0, found.output
        assert len((tmp_path / f"{command[0]}.csv").read_text("utf-8").splitlines()) == 1 + len(TEXTS)


def test_the_card_says_what_the_tokens_are(bpe_run):
    card = (bpe_run / "best" / "README.md").read_text("utf-8")
    assert "byte-level BPE trained from these texts; documents end after 200" in card and "lower-cased" not in card
    assert "generates what such texts say" in card and "knows the words" not in card


def test_evaluation_tells_bits_per_byte_and_tables_show_them(bpe_run):
    report = evaluate_checkpoint(str(bpe_run), nll_samples=2, device="cpu")
    count = sum(len(text.encode()) for text in TEXTS * 2)
    assert report["bytes"] == count and report["tokenizer"] == "bpe" and report["unknown_share"] == 0
    assert report["bits_per_byte"] == bits_per_byte(report["nll"] * report["sentences"], count)
    words = report | {"tokenizer": "words"}
    assert "bits/\nbyte" in cells([report])[0] and "bits/\nbyte" in cells([words, report])[0]
    assert "bits/\nbyte" not in cells([words])[0] and "bits/\nbyte" not in cells([{"title": "old", "nll": 1.0}])[0]
    assert "unknown tokens" in caption(report) and "unknown words" in caption(words)
    keep_evaluation(bpe_run, report)
    assert "| bits per byte |" in contents(bpe_run, "user/name", samples=0).files["README.md"].decode()


def test_other_files_are_read_whole_by_the_model_of_bpe_and_by_words_for_words(bpe_run, corpus, preset, tmp_path):
    file = tmp_path / "other.txt"
    file.write_text("Ça va? " * 300 + "\n" + TEXTS[0] + "\n", "utf-8")
    spec = spec_from_path(file, reading=reading_of(str(bpe_run)), evaluated=True)
    report = evaluate_checkpoint(str(bpe_run), spec, nll_samples=2, device="cpu")
    vae = SeqVAE.from_pretrained(bpe_run)
    (first,) = vae.tokenizer(["Ça va? " * 300]).input_ids
    kept = decode_sentences(vae.tokenizer, [first[:201]])[0]
    assert report["cut_share"] == 0.5 and ", 50.0% cut" in caption(report)
    assert report["bytes"] == len(kept.encode()) + len(TEXTS[0].encode())
    named = tmp_path / "named.yaml"
    named.write_text(f"data: {{name: named, files: {{train: {file}, validation: {file}, test: {file}}}}}", "utf-8")
    assert evaluate_checkpoint(str(bpe_run), str(named), nll_samples=2, device="cpu")["bytes"] == report["bytes"]


def test_killed_and_resumed_the_run_is_the_one_that_was_not(make_trainer, tmp_path, assert_same_run):
    whole, run, often = tmp_path / "whole", tmp_path / "run", [*BPE, "training.save_minutes=0.0000001"]
    make_trainer(whole, *often).train()
    trainer = make_trainer(run, *often)
    output, updates = trainer.objective.output, iter(range(11))

    def dying(*arguments: object) -> object:
        if next(updates, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return output(*arguments)

    trainer.objective.output = dying
    child = os.fork()
    if not child:
        trainer.train()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    make_trainer(run, *often).train(resume=True)
    assert_same_run(run, whole)


@pytest.mark.parametrize("change", ["corpus.tokenizer=words", "corpus.vocabulary_size=280"])
def test_a_run_of_another_tokenizer_is_not_resumed(bpe_run, corpus, preset, change):
    recipe = resolve("unigram_pretraining", corpus, preset, [*STAGES, change])
    with pytest.raises(ValueError, match=change.partition("=")[0]):
        runs.train(recipe, bpe_run, resume=True, progress=False)


def test_an_encoder_fits_where_the_vocabulary_is_its_own_and_nowhere_else(bpe_run, corpus, preset, tmp_path):
    same = resolve("max_pool", corpus, preset, SHORT, encoder_from=str(bpe_run))
    runs.train(same, tmp_path / "same", progress=False)
    other = resolve("max_pool", corpus, preset, ["training.epochs=1"], encoder_from=str(bpe_run))
    with pytest.raises(ValueError, match=f"vocab_size .* train with its tokenizer: --tokenizer {bpe_run}"):
        runs.train(other, tmp_path / "other", progress=False)
    taken = resolve(
        "max_pool", corpus, preset, ["training.epochs=1", f"corpus.tokenizer={bpe_run}"], encoder_from=str(bpe_run)
    )
    runs.train(taken, tmp_path / "taken", progress=False)
    kept = [content_hash(SeqVAE.from_pretrained(run).tokenizer) for run in (bpe_run, tmp_path / "taken")]
    assert kept[0] == kept[1]


# lengths


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["good ", "漢字", "é", "😀", "a"]), max_size=12).map("".join), st.integers(1, 9))
def test_a_text_is_cut_at_max_words_tokens_and_its_bytes_are_those_that_are_read(text, most):
    tokenizer = train_bpe_tokenizer(["good good"], vocabulary_size=270)
    tokenizer.model_max_length = most + 2
    (whole,) = tokenizer([text.strip()], verbose=False).input_ids
    tokenised = tokenise(Dataset.from_dict({"text": [text]}), tokenizer)
    (ids,) = tokenised["input_ids"]
    assert len(ids) == tokenised["length"][0] == min(len(whole), most + 2)
    assert ids == [*whole[: len(ids) - 1], 2]
    assert tokenised["cut"][0] == (len(whole) > most + 2)
    read = tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(ids[1:-1]))
    assert bytes_of(tokenised) == len(text.strip().encode()) or tokenised["cut"][0]
    assert bytes_of(tokenised) == len(read.encode()) or "�" in read


def test_words_are_cut_alike(tmp_path, preset):
    rows = Dataset.from_dict({"text": ["good food , bad staff", "good", ""]})
    tokenizer = train_tokenizer(rows["text"])
    tokenizer.model_max_length = 4
    tokenised = tokenise(rows, tokenizer)
    assert tokenised["input_ids"][0] == [1, *tokenizer("good food").input_ids[1:-1], 2]
    assert tokenised["cut"][:] == [True, False, False] and tokenised["bytes"][:] == [9, 4, 0]
    recipe = resolve("max_pool", None, preset, ["training.epochs=1", "corpus.max_words=2", "corpus.vocabulary_size=1"])
    trainer = runs.train_on(recipe, tmp_path, rows, rows, progress=False)
    assert len(trainer.tokenizer) == 5 and max(trainer.train_set["length"]) == 4
    assert trainer.recipe.corpus.vocabulary_size == 1


def test_documents_are_read_whole_and_cut_by_tokens(corpus, preset, tmp_path):
    spec = corpus.model_copy(update={"tokenizer": "bpe", "max_words": 3, "vocabulary_size": 256})
    loaded = load_corpus(spec)
    assert sorted(set(loaded.splits["train"]["text"])) == sorted(TEXTS)
    tokenizer = corpus_tokenizer(loaded.spec, loaded.splits["train"])
    tokenised = tokenise(loaded.splits["train"], tokenizer)
    assert set(tokenised["length"]) == {5} and cut_share_of(tokenised) == 1.0
    data = (loaded.splits["train"], loaded.splits["validation"])
    with pytest.warns(UserWarning, match="more than 3 tokens and are cut there"):
        runs.train_on(resolve("max_pool", spec, preset, ["training.epochs=1"]), tmp_path / "run", *data)


def test_the_cache_of_tokenised_texts_knows_the_tokenizer_and_its_limit(corpus):
    rows = load_corpus(corpus).splits["train"]
    one, other = (train_bpe_tokenizer(TEXTS, vocabulary_size=size) for size in (256, 300))
    lengths = {}
    for name, tokenizer, limit in (
        ("one", one, 99),
        ("other", other, 99),
        ("short", one, 9),
        ("words", train_tokenizer(TEXTS), 99),
    ):
        tokenizer.model_max_length = limit
        lengths[name] = tokenise(rows, tokenizer)["length"][:]
    assert len({tuple(found) for found in lengths.values()}) == 4


def test_a_trained_bpe_is_kept_beside_its_texts_and_is_the_same(corpus, monkeypatch):
    spec = corpus.model_copy(update={"tokenizer": "bpe", "vocabulary_size": 290})
    rows = load_corpus(spec).splits["train"]
    first = corpus_tokenizer(spec, rows)
    monkeypatch.setattr("modeling_seqvae.data.vocabulary.train_bpe_tokenizer", None)
    assert content_hash(corpus_tokenizer(spec, rows)) == content_hash(first)


# in memory


def test_data_in_memory_are_trained_on_with_bpe(preset, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS * 8})
    recipe = resolve("unigram_pretraining", None, preset, STAGES)
    runs.train_on(recipe, tmp_path / "run", rows, rows, progress=False)
    vae = SeqVAE.from_pretrained(tmp_path / "run")
    assert len(vae.tokenizer) == vae.model.config.vocab_size <= 304
    found = Recipe.load(tmp_path / "run" / "recipe.yaml").corpus
    assert found.in_memory and (found.tokenizer, found.vocabulary_size) == ("bpe", 300)
    assert "byte-level BPE" in (tmp_path / "run" / "best" / "README.md").read_text("utf-8")
    runs.train_on(recipe, tmp_path / "run", rows, rows, resume=True, progress=False)


def test_a_tokenizer_that_was_given_is_made_ready_and_told(preset, tmp_path):
    rows = Dataset.from_dict({"text": ["the good foods", "a good b"] * 20})
    recipe = resolve("max_pool", None, preset, ["training.epochs=1"])
    with pytest.raises(ValueError, match="prepare_tokenizer"):
        recipe.config(like_gpt2())
    trainer = runs.train_on(recipe, tmp_path / "run", rows, rows, like_gpt2(), progress=False)
    assert trainer.recipe.corpus.tokenizer == "given" and trainer.recipe.corpus.tokenizer_sha256
    vae = SeqVAE.from_pretrained(tmp_path / "run")
    assert vae.model.config.vocab_size == 260 and vae.model.config.bos_token_id == 258
    assert all("<" not in text for text in vae.sample(5, seed=1, max_new_tokens=20))
    with pytest.raises(ValueError, match="processing_class"):
        runs.train_on(trainer.recipe, tmp_path / "other", rows, rows, progress=False)
    runs.train_on(recipe, tmp_path / "run", rows, rows, like_gpt2(), resume=True, progress=False)
    with pytest.raises(ValueError, match="another tokenizer"):
        runs.train_on(recipe, tmp_path / "run", rows, rows, like_bert(), resume=True, progress=False)


# tokenizers made elsewhere


def test_a_run_with_a_tokenizer_from_elsewhere_remembers_what_it_was(corpus, preset, elsewhere, tmp_path):
    folder = Path(shutil.copytree(elsewhere, tmp_path / "tokenizer"))
    recipe = resolve("word_drop", corpus, preset, ["training.epochs=1", f"corpus.tokenizer={folder}"])
    runs.train(recipe, tmp_path / "run", progress=False)
    kept = Recipe.load(tmp_path / "run" / "recipe.yaml").corpus
    assert kept.tokenizer == str(folder) and kept.tokenizer_sha256 == content_hash(load_tokenizer(str(folder)))
    vae = SeqVAE.from_pretrained(tmp_path / "run")
    assert vae.model.config.unk_token_id == 257 and vae.encode(TEXTS).shape == (5, 6)
    shared = contents(tmp_path / "run", "user/name", samples=0).files
    assert str(tmp_path) not in shared["recipe.yaml"].decode() + shared["README.md"].decode()
    runs.train(recipe, tmp_path / "run", resume=True, progress=False)
    changed = json.loads((folder / "tokenizer.json").read_text())
    changed["model"]["vocab"]["zz"] = 300
    (folder / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="tokenizer_sha256"):
        runs.train(recipe, tmp_path / "run", resume=True, progress=False)
    with pytest.raises(ValueError, match="not the one that the recipe knows"):
        runs.train(Recipe.load(tmp_path / "run" / "recipe.yaml"), tmp_path / "again", progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [("corpus.vocabulary_size=255", "needs 256"), ("corpus.tokenizer=''", "must be words, bpe")],
)
def test_what_is_no_tokenizer_is_refused_with_the_recipe(corpus, preset, change, message):
    with pytest.raises(ValueError, match=message):
        resolve("max_pool", corpus, preset, ["corpus.tokenizer=bpe", change])


def test_the_demonstration_s_truth_is_one_of_words(tmp_path):
    with pytest.raises(ValueError, match="of words"):
        run_demo(tmp_path, overrides=["corpus.tokenizer=bpe"])


def test_a_trainer_takes_a_tokenizer_that_is_ready_and_says_which(preset, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS * 4})
    recipe = resolve("max_pool", None, preset, SHORT)
    tokenizer = train_bpe_tokenizer(TEXTS, vocabulary_size=300)
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    trainer = SeqVAETrainer(model, tokenizer, recipe, rows, rows, tmp_path, progress=False)
    trainer.train()
    assert trainer.recipe.corpus.tokenizer == "bpe"


# text without spaces


@pytest.mark.parametrize(
    ("texts", "warns"),
    [
        (["她点了一杯咖啡。坐在窗边慢慢地喝着。"] * 9, True),
        (["彼女はコーヒーを注文しました。窓のそばに座りました。"] * 9, True),
        (["ฉันชอบอาหารที่ร้านนี้มาก"] * 9, True),
        (["她 点 了 一 杯 咖啡 。 坐 在 窗边 慢慢 地 喝着 。"] * 9, False),
        (["we met 中华人民共和国 people", "the food was good and cheap"] * 9, False),
        (["그녀는 커피를 주문했습니다. 창가에 앉았습니다."] * 9, False),
    ],
)
def test_words_warn_of_texts_that_are_not_parted_and_name_bpe(texts, warns, recwarn):
    rows = Dataset.from_dict({"text": texts})
    corpus_tokenizer(CorpusSpec(name="own", in_memory=True, normalisation="words"), rows)
    told = [str(warning.message) for warning in recwarn if "--tokenizer bpe" in str(warning.message)]
    assert len(told) == warns
    corpus_tokenizer(CorpusSpec(name="own", in_memory=True, tokenizer="bpe"), rows)
    assert len([warning for warning in recwarn if "--tokenizer bpe" in str(warning.message)]) == warns
