import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from modeling_seqvae.checksums import write_checksums
from modeling_seqvae.data.corpus_spec import spec_from_path
from modeling_seqvae.hub.push import contents
from modeling_seqvae.sharing import OURS, code_files
from modeling_seqvae.training.checkpoint import load_best, reading_of
from modeling_seqvae.training.recipe import Recipe, resolve

CHECKPOINT = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
PAPERS = {"README.md", "recipe.yaml", "history.jsonl", "curves.png"}

MakeRun = Callable[..., Path]


def read(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def test_a_run_is_shared_as_its_checkpoint_its_papers_and_its_code(make_run: MakeRun) -> None:
    shared = contents(make_run(), "user/name")
    assert set(shared.files) == CHECKPOINT | PAPERS | set(code_files())
    assert shared.title == "SeqVAE + Attention on demo"
    assert shared.sizes()["model.safetensors"] == 14_024
    assert read(shared.files["curves.png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("samples", [0, 1])
def test_damaged_weights_are_not_shared(make_run: MakeRun, samples: int) -> None:
    best = make_run() / "best"
    write_checksums(best)
    assert contents(best.parent, "user/name", samples=samples).files
    intact = (best / "model.safetensors").read_bytes()
    (best / "model.safetensors").write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"best is damaged .model.safetensors is not what was written"):
        contents(best.parent, "user/name", samples=samples)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"])
def test_what_is_not_what_was_written_is_used_by_nothing(make_run: MakeRun, name: str) -> None:
    """Unless the note of what was written goes, and but for the card, which may be written anew."""
    best = make_run() / "best"
    write_checksums(best)
    (best / "README.md").write_text("mine")
    load_best(str(best.parent))
    content = (best / name).read_text("utf-8")
    (best / name).write_text(content.replace("\n", "\n\n", 1))
    with pytest.raises(ValueError, match=f"best is damaged .{name} is not what was written.*remove its checksums.json"):
        load_best(str(best.parent))
    (best / name).unlink()
    for use in (lambda: load_best(str(best)), lambda: contents(best.parent, "user/name", samples=0)):
        with pytest.raises(ValueError, match=f"best is damaged .{name} is missing"):
            use()
    (best / name).write_text(content.replace("\n", "\n\n", 1))
    (best / "checksums.json").unlink()
    load_best(str(best.parent))


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_whoever_may_read_one_file_of_a_checkpoint_may_read_all(make_run: MakeRun) -> None:
    best = make_run() / "best"
    (best / "model.safetensors").chmod(0o600)
    write_checksums(best)
    assert len({path.stat().st_mode for path in best.iterdir()}) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda recipe: recipe.pop("corpus"), "corpus: field required"),
        (lambda recipe: recipe["corpus"].update(max_words="abc"), "corpus.max_words: .*integer.*'abc'"),
        (lambda recipe: recipe.update(imports=3), "imports must be a list of modules, not 3"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named_wherever_it_is_read(make_run: MakeRun, change: Any, told: str) -> None:
    run = make_run()
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    change(recipe)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match=rf"recipe\.yaml.*{told}"):
        load_best(str(run)), reading_of(str(run))


def test_the_configuration_names_the_code_beside_it(make_run: MakeRun) -> None:
    run = make_run()
    shared = contents(run, "user/name", samples=0)
    config, before = (json.loads(read(file)) for file in (shared.files["config.json"], run / "best" / "config.json"))
    pipelines = [task["impl"] for task in config.pop("custom_pipelines").values()]
    for reference in (*config.pop("auto_map").values(), *pipelines):
        module, name = reference.split(".")
        assert f"class {name}(" in read(shared.files[f"{module}.py"]).decode()
    assert config == before


def test_without_code_nothing_points_to_it(make_run: MakeRun) -> None:
    shared = contents(make_run(), "user/name", code=False, samples=0)
    assert set(shared.files) == CHECKPOINT | PAPERS
    assert b"auto_map" not in read(shared.files["config.json"])
    assert b"trust_remote_code" not in read(shared.files["README.md"])


def test_for_sentence_transformers_three_files_are_added_which_name_our_module(make_run: MakeRun) -> None:
    """Whether it is installed or not; that it loads is tested where it is."""
    run = make_run()
    plain, shared = contents(run, "user/name"), contents(run, "user/name", sentence_features="mean", samples=0)
    added = {"modules.json", "config_sentence_transformers.json", "sentence_seqvae_config.json"}
    assert set(shared.files) - set(plain.files) == added
    assert not added & set(OURS)  # so that an update without them keeps them
    (module,) = json.loads(read(shared.files["modules.json"]))
    source = Path(__file__).resolve().parents[2].joinpath(*module["type"].split(".")[:-1]).with_suffix(".py")
    assert f"class {module['type'].split('.')[-1]}(" in source.read_text("utf-8")
    with pytest.raises(ValueError, match="features='sum'"):
        contents(run, "user/name", sentence_features="sum")


def test_the_card_tells_the_run_and_where_to_load_it(make_run: MakeRun) -> None:
    shared = contents(make_run(evaluated=True), "user/name", samples=3, licence="apache-2.0")
    card = ModelCard(read(shared.files["README.md"]).decode())
    assert 'SeqVAE.from_pretrained("user/name")' in card.text
    assert "2 of at most 12 epochs" in card.text and "| 2 | 26 / 26 |" in card.text
    assert "![Bound" in card.text and "the first 3 sentences" in card.text
    assert card.data.license == "apache-2.0"
    figures = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert figures["validation", "bound"] == 29.0 and figures["test", "nll"] == 28.75


def test_samples_are_the_models_first_ones(make_run: MakeRun) -> None:
    from modeling_seqvae import SeqVAE

    run = make_run()
    text = read(contents(run, "user/name", samples=2).files["README.md"]).decode()
    for sentence in SeqVAE.from_pretrained(run / "best").sample(2, seed=0):
        assert f"\n    {sentence}\n" in text
    assert "## Samples" not in read(contents(run, "user/name", samples=0).files["README.md"]).decode()


def test_nothing_tells_the_place_of_the_run_or_its_data(make_run: MakeRun, tmp_path: Path) -> None:
    """Folders carry names of people, customers and machines."""
    data = tmp_path / "acme & sons" / "reviews.csv"
    data.parent.mkdir()
    data.write_text("text\nthe food was great .\n", "utf-8")
    run = make_run(corpus=spec_from_path(data), data_dir=str(data.parent), evaluated=True)
    shared = contents(run, "user/name")
    for name, content in shared.files.items():
        for part in (b"acme", b"sons", str(tmp_path).encode(), os.sep.encode() + tmp_path.name.encode()):
            assert part not in read(content), name
    (tmp_path / "shared.yaml").write_bytes(read(shared.files["recipe.yaml"]))
    kept = Recipe.load(tmp_path / "shared.yaml")
    assert kept.data_dir is None and kept.corpus.files is not None and kept.corpus.files.train == "reviews.csv"
    assert kept.training == Recipe.load(run / "recipe.yaml").training


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("ptb/ptb.train.txt", "ptb/ptb.train.txt"),
        ("/home/ann/x.txt", "x.txt"),
        ("~/x.txt", "x.txt"),
        ("../../ann/x.txt", "x.txt"),
        ("a/../../ann/x.txt", "x.txt"),
        (r"C:\Users\ann\x.txt", "x.txt"),
    ],
)
def test_of_files_elsewhere_than_in_a_data_folder_the_name_is_kept(path: str, shared: str) -> None:
    from modeling_seqvae.hub.push import without_local_paths

    recipe = Recipe.model_validate(
        {"method": "m", "title": "M", "corpus": {"name": "c", "files": {"train": path}}, "data_dir": "/home/ann"}
    )
    cleaned = without_local_paths(recipe)
    assert cleaned.corpus.files is not None and cleaned.corpus.files.train == shared and cleaned.data_dir is None


def test_who_watched_a_run_and_where_its_encoder_was_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeling_seqvae.hub.push import without_local_paths

    (tmp_path / "acme" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    watched = {"training.trackers": ["wandb"], "training.tracker_options": {"wandb": {"dir": "/home/ann"}}}
    recipe = resolve("max_pool", "demo", overrides=watched, encoder_from="acme/first")
    monkeypatch.chdir("/")
    shared = without_local_paths(recipe)
    assert shared.training == recipe.training.model_copy(update={"trackers": [], "tracker_options": {}})
    assert shared.encoder_from is None
    of_stage = {f"pretraining.{field}": value for field, value in watched.items()}
    stage = without_local_paths(resolve("unigram_pretraining", "demo", overrides=of_stage)).pretraining
    assert stage is not None and "tracker_options" not in stage.training and stage.training["epochs"]
    assert without_local_paths(resolve("max_pool", "demo", encoder_from="user/name")).encoder_from == "user/name"


def test_other_files_in_the_folder_of_the_checkpoint_stay_here(make_run: MakeRun) -> None:
    run = make_run()
    for name in ("notes.txt", "training_args.bin", "data.csv"):
        (run / "best" / name).write_text("mine", "utf-8")
    assert not {"notes.txt", "training_args.bin", "data.csv"} & set(contents(run, "user/name", samples=0).files)


def test_an_evaluation_of_an_earlier_checkpoint_is_left_out(make_run: MakeRun) -> None:
    run = make_run(evaluated=True)
    assert "evaluation.json" in contents(run, "user/name", samples=0).files
    write_checksums(run / "best")  # whose weights the evaluation does not name
    shared = contents(run, "user/name", samples=0)
    assert "evaluation.json" not in shared.files and "| test |" not in read(shared.files["README.md"]).decode()
    assert any("evaluate the run again" in note for note in shared.notes)
    assert "checksums.json" not in shared.files  # of files that are written anew


def test_without_matplotlib_there_are_no_curves(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    shared = contents(make_run(), "user/name", samples=0)
    assert "curves.png" not in shared.files and b"curves.png" not in read(shared.files["README.md"])
    assert any("pip install matplotlib" in note for note in shared.notes)


def test_what_is_no_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not a run's directory: it holds no recipe\.yaml"):
        contents(tmp_path / "nowhere", "user/name")
    run = make_run()
    with pytest.raises(FileNotFoundError, match="is not a run's directory"):
        contents(run / "best", "user/name")
    (run / "best" / "recipe.yaml").write_bytes((run / "recipe.yaml").read_bytes())  # as a shared model has it
    with pytest.raises(FileNotFoundError, match=r"is not a run's directory: it holds no history\.jsonl\. \(A check"):
        contents(run / "best", "user/name")
    (run / "history.jsonl").write_text("not json\n", "utf-8")
    with pytest.raises(ValueError, match=r"history\.jsonl is not readable as JSON"):
        contents(run, "user/name")
    (run / "history.jsonl").write_text("", "utf-8")
    with pytest.raises(ValueError, match="has not ended its first epoch"):
        contents(run, "user/name")
    shutil.rmtree(run / "best")
    with pytest.raises(FileNotFoundError, match="a run without a checkpoint yet"):
        contents(run, "user/name")
