"""A run knows its texts by what they are: not by a name, nor by where they lie."""

import json
import random
import shutil
from pathlib import Path

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.data.corpus_spec import CorpusFiles, CorpusSpec, Reading, spec_from_path
from modeling_seqvae.data.vocabulary import corpus_tokenizer
from modeling_seqvae.evaluation.table import caption
from modeling_seqvae.hub.push import contents
from modeling_seqvae.tokenization import train_tokenizer
from modeling_seqvae.training import run as runs
from modeling_seqvae.training.checkpoint import evaluate_checkpoint, own_texts, run_of
from modeling_seqvae.training.evaluations import keep_evaluation
from modeling_seqvae.training.recipe import Recipe, resolve
from modeling_seqvae.training.trainer import SeqVAETrainer

SHORT = ["training.epochs=1"]


def sentences(count: int, seed: int) -> str:
    """One a line, of 3 to 9 words."""
    source, words = random.Random(seed), ["the", "a", "food", "staff", "was", "is", "good", "bad", "warm", "and", "."]
    return "".join(" ".join(source.choices(words, k=source.randint(3, 9))) + "\n" for _ in range(count))


@pytest.fixture
def preset(tiny: Path) -> str:
    return str(tiny / "preset.yaml")


def in_memory(recipe: Recipe, output_dir: Path, seed: int = 1) -> SeqVAETrainer:
    """A trainer on 30 and 10 sentences of one's own."""
    train, validation = (Dataset.from_dict({"text": sentences(n, seed + n).splitlines()}) for n in (30, 10))
    tokenizer = train_tokenizer(train["text"])
    model = SeqVAEForTextModeling(recipe.config(tokenizer))
    return SeqVAETrainer(model, tokenizer, recipe, train, validation, output_dir, progress=False)


def write_corpus(folder: Path, seed: int = 0, name: str = "reviews") -> Path:
    """A folder of three files."""
    (folder / name).mkdir(parents=True)
    for number, (split, count) in enumerate({"train": 40, "validation": 10, "test": 8}.items()):
        (folder / name / f"{split}.txt").write_text(sentences(count, seed + number), "utf-8")
    return folder / name


def evaluated(run: Path, *arguments: object, **options: object) -> Path | None:
    return keep_evaluation(run, evaluate_checkpoint(str(run), *arguments, nll_samples=2, device="cpu", **options))


# data in memory


def test_data_of_ones_own_are_read_as_the_recipe_says_and_else_as_files_are():
    rows = Dataset.from_dict({"text": ["Good food.", "good food !", "Good staff .", "bad staff."]})
    read = CorpusSpec(name="own", files=CorpusFiles(train="own.txt"), normalisation=Reading().normalisation)
    assert set(corpus_tokenizer(resolve("max_pool").of_data(rows, rows).corpus, rows).get_vocab()) == set(
        corpus_tokenizer(read, rows).get_vocab()
    )
    assert "good" in corpus_tokenizer(resolve("max_pool").of_data(rows, rows).corpus, rows).get_vocab()
    settings = {"vocabulary_size": 500, "max_words": 20, "min_frequency": 3, "normalisation": "whitespace"}
    overrides = {f"corpus.{name}": value for name, value in settings.items()}
    for corpus in (None, "demo"):
        found = resolve("max_pool", corpus, overrides=overrides).of_data(rows, rows).corpus
        assert found.in_memory and found.embedded is None
        assert {name: getattr(found, name) for name in settings} == settings


@pytest.mark.parametrize("corpus", ["demo", "ptb", None])
def test_a_run_on_data_of_ones_own_says_so_whatever_corpus_its_recipe_names(tmp_path, preset, corpus):
    recipe = resolve("max_pool", corpus, preset, SHORT, limits={"train": 5} if corpus else None)
    in_memory(recipe, tmp_path / "run").train()
    kept = Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert kept.corpus.in_memory and kept.corpus.name == "data in memory"
    assert kept.corpus.embedded is kept.corpus.files is kept.corpus.hub is kept.data_dir is None and not kept.limits
    assert {split: texts.documents for split, texts in kept.texts.items()} == {"train": 30, "validation": 10}
    assert len({texts.sha256 for texts in kept.texts.values()}) == 2
    assert kept.training == recipe.training and kept.model == recipe.model
    for card in (
        ModelCard.load(tmp_path / "run" / "best" / "README.md"),
        ModelCard(bytes(contents(tmp_path / "run", "user/name", samples=0).files["README.md"]).decode()),
    ):
        told = str(card)
        assert "data sets in memory" in told and "30 for train, 10 for validation" in told
        assert kept.texts["train"].sha256[:16] in told
        assert not any(word in told for word in ("demo", "ptb", "grammar", "documents end after"))
        assert {result.dataset_name for result in card.data.eval_results} == {"data in memory"}


def test_an_evaluation_of_such_a_run_asks_for_a_corpus(tmp_path, preset):
    run = tmp_path / "run"
    in_memory(resolve("max_pool", "demo", preset, SHORT), run).train()
    with pytest.raises(ValueError, match=r"run was trained on data in memory, .*name a --corpus"):
        evaluate_checkpoint(str(run), nll_samples=2)
    assert evaluated(run, spec_from_path(write_corpus(tmp_path))) == run / "evaluation-reviews.json"
    shared = contents(run, "user/name", samples=0)
    assert "evaluation.json" not in shared.files
    assert any("data were in memory" in note for note in shared.notes)


def test_it_goes_on_with_the_same_data_and_no_other(tmp_path, preset):
    recipe = resolve("max_pool", None, preset, SHORT)
    in_memory(recipe, tmp_path / "run").train()
    before = (tmp_path / "run" / "recipe.yaml").read_text("utf-8")
    in_memory(resolve("max_pool", "demo", preset, SHORT), tmp_path / "run").train(resume=True)
    assert (tmp_path / "run" / "recipe.yaml").read_text("utf-8") == before
    with pytest.raises(ValueError, match="a run on other texts"):
        in_memory(recipe, tmp_path / "run", seed=2).train(resume=True)
    (tmp_path / "begun").mkdir()
    shutil.copy(tmp_path / "run" / "recipe.yaml", tmp_path / "begun")  # before its first save
    with pytest.raises(ValueError, match="a run on other texts"):
        in_memory(recipe, tmp_path / "begun", seed=2).train(resume=True)


def test_the_recipe_of_another_run_does_not_lend_its_corpus(tmp_path, preset):
    spec = spec_from_path(write_corpus(tmp_path))
    first = runs.train(resolve("max_pool", spec, preset, SHORT), tmp_path / "first", progress=False)
    recipe = Recipe.load(tmp_path / "first" / "recipe.yaml")
    assert recipe.corpus == spec and set(recipe.texts) == {"train", "validation", "test"}
    assert recipe == first.recipe
    assert in_memory(recipe, tmp_path / "second").recipe.corpus.in_memory


def test_the_texts_of_the_corpus_are_the_corpus_in_memory_too(tmp_path, preset):
    recipe = resolve("max_pool", spec_from_path(write_corpus(tmp_path)), preset, SHORT, limits={"train": 30})
    corpus, tokenizer = runs.read_corpus(recipe, None)
    copies = [Dataset.from_dict({"text": corpus.splits[split]["text"][:]}) for split in ("train", "validation")]

    def made(recipe: Recipe, *data: Dataset) -> Recipe:
        model = SeqVAEForTextModeling(recipe.config(tokenizer))
        return SeqVAETrainer(model, tokenizer, recipe, *data, tmp_path / "run", progress=False).recipe

    known = recipe.with_texts(corpus.splits)
    assert made(known, *copies) == known
    assert made(recipe, *copies).corpus.in_memory  # nobody told what the corpus's texts are
    assert made(known, copies[0].select(range(29)), copies[1]).corpus.in_memory


def of_ones_own() -> tuple[Dataset, Dataset]:
    train, validation = (Dataset.from_dict({"text": sentences(n, n).splitlines()}) for n in (30, 10))
    return train, validation


def test_data_of_ones_own_are_pretrained_on_too(tmp_path, preset):
    overrides = ["pretraining.training.updates=null", "pretraining.training.epochs=1", *SHORT]
    recipe = resolve("unigram_pretraining", preset=preset, overrides=overrides)
    trainer = runs.train_on(recipe, tmp_path / "run", *of_ones_own(), progress=False)
    assert trainer.recipe.corpus.in_memory
    assert Recipe.load(tmp_path / "run" / "pretraining" / "recipe.yaml").corpus.in_memory
    assert trainer.history[-1]["pretraining_updates"] == 1
    resumed = runs.train_on(recipe, tmp_path / "run", *of_ones_own(), resume=True, progress=False)
    assert resumed.history == trainer.history


@pytest.mark.parametrize("method", ["unigram_pretraining", "max_pool"])
def test_a_trainer_does_not_leave_out_a_pretraining(tmp_path, preset, method):
    recipe = resolve(method, preset=preset, encoder_from=None if method == "unigram_pretraining" else "some/model")
    with pytest.raises(ValueError, match=r"begins with a pretrained encoder, which training\.run\.train_on makes"):
        in_memory(recipe, tmp_path / "run")


def test_a_trainer_refuses_a_model_that_is_not_the_recipes(tmp_path, preset):
    train, validation = of_ones_own()
    recipe, tokenizer = resolve("max_pool", preset=preset), train_tokenizer(train["text"])
    other = resolve("seqvae", preset=preset, overrides=["model.latent_size=2"])
    model = SeqVAEForTextModeling(other.config(tokenizer))
    with pytest.raises(ValueError, match=r"it has latent_size 2 for .*, pooling_mode 'last' for 'max'"):
        SeqVAETrainer(model, tokenizer, recipe, train, validation, tmp_path / "run")


def test_a_recipe_without_a_corpus_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="in memory and cannot be read again: name a corpus"):
        runs.train(resolve("max_pool"), tmp_path / "run", progress=False)
    assert resolve("max_pool") == resolve("max_pool", preset="auto")


# a corpus is its texts


@pytest.fixture
def trained(tmp_path: Path, preset: str) -> Path:
    """A run on DATA/reviews, evaluated."""
    recipe = resolve("max_pool", spec_from_path(write_corpus(tmp_path / "data")), preset, SHORT)
    runs.train(recipe, tmp_path / "run", progress=False)
    assert evaluated(tmp_path / "run") == tmp_path / "run" / "evaluation.json"
    return tmp_path / "run"


def test_other_texts_of_the_same_name_leave_the_runs_own_figures_alone(tmp_path, trained):
    own = (trained / "evaluation.json").read_bytes()
    others = [spec_from_path(write_corpus(tmp_path / f"other{seed}", seed)) for seed in (50, 60)]
    written = [evaluated(trained, spec) for spec in others for _ in range(2)]
    digest = json.loads(written[2].read_text())["texts"][:8]
    first, second = trained / "evaluation-reviews.json", trained / f"evaluation-reviews-{digest}.json"
    assert written == [first, first, second, second]
    assert (trained / "evaluation.json").read_bytes() == own
    assert [json.loads(path.read_text())["own"] for path in written] == [False] * 4
    assert contents(trained, "user/name", samples=0).files["evaluation.json"] == own


def test_equal_texts_are_the_runs_own_under_any_name(tmp_path, trained):
    own = json.loads((trained / "evaluation.json").read_text())
    elsewhere = spec_from_path(write_corpus(tmp_path / "elsewhere", name="renamed"))
    assert evaluated(trained, elsewhere) == trained / "evaluation.json"
    assert json.loads((trained / "evaluation.json").read_text())["bound"] == own["bound"]
    assert evaluated(trained, elsewhere, limits={"test": 3}) == trained / "evaluation-first3.json"


def test_texts_that_changed_in_their_place_are_not_taken_for_the_runs(tmp_path, trained):
    own = (trained / "evaluation.json").read_bytes()
    (tmp_path / "data" / "reviews" / "test.txt").write_text(sentences(9, 70), "utf-8")
    with pytest.raises(ValueError, match=r"the test texts of reviews are not those that .*run began with"):
        evaluated(trained)
    assert (trained / "evaluation.json").read_bytes() == own
    changed = spec_from_path(tmp_path / "data" / "reviews")
    assert evaluated(trained, changed) == trained / "evaluation-reviews.json"
    assert evaluated(trained, split="validation") == trained / "evaluation-validation.json"


def test_a_checkpoint_of_a_run_knows_its_run_by_either_name(trained, monkeypatch):
    reports = [
        evaluate_checkpoint(str(path), split="validation", nll_samples=2, device="cpu")
        for path in (trained, trained / "best")
    ]
    assert reports[0] == reports[1] and reports[0]["own"]
    assert own_texts(str(trained / "best"), "train")["text"] == own_texts(str(trained), "train")["text"]
    monkeypatch.chdir(trained)
    assert run_of("best") == trained and run_of(".") == Path()
    assert run_of("user/name") == Path("user/name")


def test_what_stands_in_evaluation_json_by_hand_is_not_shared_as_the_test_set(tmp_path, trained):
    other = spec_from_path(write_corpus(tmp_path / "other", 50))
    for options in ({"corpus": other}, {"split": "validation"}, {"limits": {"test": 3}}, {"shuffle_words": True}):
        report = evaluate_checkpoint(str(trained), nll_samples=2, **options)
        (trained / "evaluation.json").write_text(json.dumps(report))
        shared = contents(trained, "user/name", samples=0)
        assert "evaluation.json" not in shared.files
        assert any("not of the whole test set of the run's corpus" in note for note in shared.notes)
    report = evaluate_checkpoint(str(trained), other, nll_samples=2)
    (trained / "evaluation.json").write_text(json.dumps(report))
    assert evaluated(trained) == trained / "evaluation.json"  # and what stood there is kept
    assert json.loads((trained / f"evaluation-{report['texts'][:8]}.json").read_text()) == report


def test_words_that_were_cut_off_when_the_texts_were_read_count_as_cut(tmp_path, preset):
    spec, run = spec_from_path(write_corpus(tmp_path)), tmp_path / "run"
    runs.train(resolve("max_pool", spec, preset, [*SHORT, "corpus.max_words=5"]), run, progress=False)
    report = evaluate_checkpoint(str(run), nll_samples=2, device="cpu")
    lengths = [len(line.split()) for line in (tmp_path / "reviews" / "test.txt").read_text("utf-8").splitlines()]
    share = sum(length > 5 for length in lengths) / len(lengths)
    assert 0 < share < 1 and report["cut_share"] == share and f", {share:.1%} cut" in caption(report)


def test_a_data_folder_that_has_nothing_of_the_runs_does_not_hide_its_files(tmp_path, trained):
    assert evaluated(trained, data_dir=tmp_path) == trained / "evaluation.json"
    write_corpus(tmp_path / "copy", 50)
    with pytest.raises(ValueError, match="are not those that"):
        evaluated(trained, data_dir=tmp_path / "copy")


def test_a_run_of_an_earlier_version_knows_its_corpus_by_the_recipe(tmp_path, trained):
    Recipe.load(trained / "recipe.yaml").model_copy(update={"texts": {}}).save(trained / "recipe.yaml")
    assert evaluated(trained) == trained / "evaluation.json"
    other = spec_from_path(write_corpus(tmp_path / "other", 50))
    assert evaluated(trained, other) == trained / "evaluation-reviews.json"


# a corpus lies anywhere


def interrupted(recipe: Recipe, run: Path, **options: object) -> None:
    """A run that ended its second of three epochs."""
    first = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 2})})
    runs.train(first, run, progress=False, **options)
    kept = Recipe.load(run / "recipe.yaml")
    kept.model_copy(update={"training": recipe.training}).save(run / "recipe.yaml")


@pytest.fixture
def reference(tmp_path: Path, preset: str) -> Path:
    """A run of three epochs that nothing happened to."""
    recipe = resolve("max_pool", spec_from_path(write_corpus(tmp_path / "reference")), preset)
    runs.train(recipe, tmp_path / "reference" / "run", progress=False)
    return tmp_path / "reference" / "run"


RELATIVE = CorpusSpec(
    name="reviews",
    files=CorpusFiles(train="reviews/train.txt", validation="reviews/validation.txt", test="reviews/test.txt"),
    normalisation="words",
)


@pytest.mark.parametrize("way", ["--corpus", "renamed", "--data-dir", "--data-dir of the folder", "relative", "folder"])
def test_a_run_and_its_corpus_move_together(tmp_path, preset, reference, history_of, monkeypatch, way):
    """Then the old place is gone; what `evaluate` does before and after, and what `train --resume` does."""
    old, new = tmp_path / "old", tmp_path / "new"
    absolute = spec_from_path(write_corpus(old))
    monkeypatch.chdir(old)
    relative = way in ("relative", "folder")
    recipe = resolve("max_pool", RELATIVE if relative else absolute, preset)
    interrupted(recipe, old / "run", data_dir=old if way == "relative" else None)
    monkeypatch.chdir(tmp_path)
    old.rename(new)
    if way == "renamed":
        (new / "reviews").rename(new / "texts")
    run = new / "run"
    if way == "folder":
        monkeypatch.chdir(new)  # where relative files are looked for
    else:
        with pytest.raises(FileNotFoundError, match=r"(?s)the folder they are under as --data-dir.*old"):
            evaluated(run)
    place = {"--data-dir": new, "--data-dir of the folder": new / "reviews", "relative": new}.get(way)
    if way in ("--corpus", "renamed"):
        spec = spec_from_path(new / ("texts" if way == "renamed" else "reviews"))
        assert evaluated(run, spec) == run / "evaluation.json"
        recipe = resolve("max_pool", spec, preset)
    else:
        assert evaluated(run, data_dir=place) == run / "evaluation.json"
    runs.train(recipe, run, data_dir=place, resume=True, progress=False)
    assert history_of(run) == history_of(reference)
    monkeypatch.chdir(tmp_path)
    assert evaluated(run) == run / "evaluation.json"  # it knows the new place
    assert str(new) in (run / "recipe.yaml").read_text("utf-8")


def test_a_run_goes_on_where_only_its_texts_are(tmp_path, preset, reference, history_of):
    """In a table, with labels, at another place."""
    write_corpus(tmp_path / "old")
    spec = spec_from_path(tmp_path / "old" / "reviews")
    interrupted(resolve("max_pool", spec, preset), tmp_path / "run")
    for split in ("train", "validation", "test"):
        lines = (tmp_path / "old" / "reviews" / f"{split}.txt").read_text("utf-8").splitlines()
        (tmp_path / f"{split}.jsonl").write_text(
            "".join(json.dumps({"said": line, "stars": n % 2}) + "\n" for n, line in enumerate(lines)), "utf-8"
        )
    shutil.rmtree(tmp_path / "old")
    (tmp_path / "tables").mkdir()
    for path in tmp_path.glob("*.jsonl"):
        path.rename(tmp_path / "tables" / path.name)
    recipe = resolve("max_pool", spec_from_path(tmp_path / "tables", "said", "stars"), preset)
    runs.train(recipe, tmp_path / "run", resume=True, progress=False)
    assert history_of(tmp_path / "run") == history_of(reference)


def test_other_texts_at_the_new_place_are_refused(tmp_path, preset, files_of):
    recipe = resolve("max_pool", spec_from_path(write_corpus(tmp_path / "old")), preset)
    interrupted(recipe, tmp_path / "run")
    before = files_of(tmp_path / "run")
    other = resolve("max_pool", spec_from_path(write_corpus(tmp_path / "new", 50)), preset)
    with pytest.raises(ValueError, match=r"a run on other texts.*--corpus, --data-dir"):
        runs.train(other, tmp_path / "run", resume=True, progress=False)
    assert files_of(tmp_path / "run") == before


def test_a_run_remembers_the_folder_of_relative_files(tmp_path, preset, monkeypatch):
    """From another folder, a file of that name there is another file."""
    write_corpus(tmp_path / "data")
    write_corpus(tmp_path / "other", 50)
    monkeypatch.chdir(tmp_path / "data")
    runs.train(resolve("max_pool", RELATIVE, preset, SHORT), tmp_path / "run", progress=False)
    assert evaluated(tmp_path / "run") == tmp_path / "run" / "evaluation.json"
    own = json.loads((tmp_path / "run" / "evaluation.json").read_text())["bound"]
    monkeypatch.chdir(tmp_path / "other")
    assert evaluated(tmp_path / "run") == tmp_path / "run" / "evaluation.json"
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["bound"] == own


@pytest.mark.parametrize("preset", ["tiny", "auto"])
def test_data_sets_without_texts_are_refused_by_name(tmp_path, preset):
    some, none = (Dataset.from_dict({"text": texts}) for texts in (["one two"] * 9, []))
    for train, validation, told in ((none, some, "training"), (some, none, "validation")):
        with pytest.raises(ValueError, match=f"the {told} set has no texts"):
            runs.train_on(resolve("max_pool", preset=preset), tmp_path, train, validation, progress=False)
