"""What one call does on a GPU, on a CPU and tiny: every part leaves its results, whatever happens to the others."""

import bz2
import json
import random
import sys
import time
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import report
import results

from benchmarks.gpu import correctness, driver, keeping, packing, rates, training
from benchmarks.gpu.__main__ import _main
from benchmarks.gpu.driver import Settings

CORPUS = (
    "data: {name: toy, files: {train: toy/train.txt, validation: toy/valid.txt, test: toy/test.txt}, labelled: true}"
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with toy.yaml and the labelled texts that it names."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy").mkdir()
    (folder / "toy.yaml").write_text(CORPUS + "\n", "utf-8")
    source, words = random.Random(0), correctness.WORDS
    for split, count in (("train", 64), ("valid", 16), ("test", 16)):
        texts = [source.choices(words, k=source.randint(4, 12)) for _ in range(count)]
        lines = [f"{'good' if 'good' in text else 'bad'}\t{' '.join(text)}\n" for text in texts]
        (folder / "toy" / f"{split}.txt").write_text("".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def packed(toy, tmp_path_factory) -> Path:
    """The corpus packed, beside a library that is not installed."""
    folder = tmp_path_factory.mktemp("packed") / "pack"
    packing.pack(folder, str(toy / "toy.yaml"), toy, wheels=False)
    (folder / "wheels").mkdir()
    with zipfile.ZipFile(folder / "wheels" / "unheard_of-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("unheard_of.py", "VALUE = 1\n")
        wheel.writestr("torch.py", "raise ImportError('the machine has its own')\n")
    return folder


@pytest.fixture(scope="module")
def left(toy, packed, tmp_path_factory) -> Path:
    """What a whole run leaves."""
    folder = tmp_path_factory.mktemp("left")
    told = ["--device", "cpu", "--size", "tiny", "--preset", "tiny", "--batch-size", "16", "--sentences", "4"]
    told += ["--corpus", str(toy / "toy.yaml"), "--pack", str(packed), "--nll-sentences", "8", "--nll-samples", "4"]
    told += ["--set", "training.updates=[8, 8]", "--set", "pretraining.training.updates=[4, 4]"]
    told += ["--set", "training.precision=bf16"]  # as the preset that is trained on a GPU
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "LIMITS", {})  # a busy machine is slow
        ended = _called("run", "--output-dir", str(folder), "--minutes", "30", *told)
    logs = "\n".join(path.read_text("utf-8") for path in folder.glob("*.log"))
    assert ended == 0, logs
    return folder


def _called(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gpu", *arguments])
        return _main()


def test_every_part_came_to_its_end(left):
    told = json.loads((left / "run.json").read_text("utf-8"))
    assert [(part["part"], part["outcome"]) for part in told["parts"]] == [
        ("correctness", "done"), ("prepare", "done"), ("throughput", "done"), ("training", "done"),
    ]  # fmt: skip


def test_a_cpu_computes_what_a_cpu_does(left):
    found = json.loads((left / "correctness.json").read_text("utf-8"))
    assert "errors" not in found
    findings = [finding for check in ("parity", "forward_and_backward", "iw_nll", "generate", "resume")
                for finding in found[check]]  # fmt: skip
    assert all(finding["ok"] for finding in findings)
    assert {finding["precision"] for finding in findings} == {"float64", "float32", "bfloat16"}


def test_throughput_has_a_record_of_every_work_and_names_the_waits(left):
    found = json.loads((left / "throughput.json").read_text("utf-8"))
    assert "errors" not in found
    assert {record["work"] for record in found["records"]} >= {"train", "iw_nll", "encode", "sample"}
    assert all(record["words_per_second"] > 0 and record["peak_mb"] > 0 for record in found["records"])
    assert found["profile"].keys() == {"train", "iw_nll"}
    assert all(profile["operations"] for profile in found["profile"].values())


def test_training_leaves_history_figures_and_texts_and_no_weights(left):
    found = json.loads((left / "training.json").read_text("utf-8"))
    assert "errors" not in found and found["ended"] == "all epochs were done"
    run = left / found["kept"]
    assert {path.name for path in run.iterdir()} >= {
        "evaluation.json", "history.jsonl", "labels.json", "pretraining", "recipe.yaml", "samples.json",
    }  # fmt: skip
    evaluation = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert evaluation["own"] and evaluation["split"] == "test" and evaluation["nll_sentences"] == 8
    assert found["nll"] == evaluation["nll"]
    assert (run / "pretraining" / "history.jsonl").is_file()
    assert not [path for path in left.rglob("*") if path.suffix in (".safetensors", ".bin", ".pt", ".txt")]


def test_what_was_left_is_kept_and_shown(left, tmp_path, monkeypatch):
    measured, kept = tmp_path / "performance", tmp_path / "results"
    measured.mkdir()
    copies = list(keeping.keep(left, measured, kept))
    assert all(path.exists() for path in copies)
    assert not any("/" + left.name in path.read_text("utf-8") for path in kept.rglob("*") if path.is_file())
    monkeypatch.setattr(report, "MEASURED", measured)
    empty = "".join(f"<!-- {name} -->\n\n<!-- end -->\n" for name in report.TABLES)
    page = report.page(empty)
    assert "### Correctness on a GPU" in page and "### Speed on a GPU" in page and "**no**" not in page
    shown = results.on_a_gpu(results.results_markdown(kept), kept)
    assert "unigram" in shown and "| label, mean |" in shown


def test_documents_say_nothing_of_a_gpu_where_none_was_used(tmp_path):
    assert results.on_a_gpu("", tmp_path) == ""


def test_a_pack_is_opened_as_it_was_made(toy, packed, tmp_path):
    index = packing.unpack(packed, tmp_path / "packages", tmp_path / "data")
    assert index["files"] == ["toy/test.txt", "toy/train.txt", "toy/valid.txt"]
    for name in index["files"]:
        assert (tmp_path / "data" / name).read_bytes() == (toy / name).read_bytes()
    assert (tmp_path / "packages" / "unheard_of.py").is_file()


def test_what_is_missing_is_all_that_the_package_needs_but_the_large_libraries():
    missing = packing.missing_libraries()
    assert {"datasets", "dill", "multiprocess", "xxhash", "pydantic", "pydantic-core"} <= set(missing)
    assert not {"torch", "numpy", "transformers", "pyarrow", "huggingface-hub"} & set(missing)
    assert not any(name.startswith("nvidia") for name in missing)


def test_pip_is_asked_for_another_pythons_wheels(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(packing.subprocess, "run", lambda command, check: asked.append(command))
    packing.download({"dill": "0.4.1"}, tmp_path)
    assert asked[0][-1] == "dill==0.4.1" and "--no-deps" in asked[0]
    assert asked[0][asked[0].index("--python-version") + 1] == "3.12"


def test_a_corpus_that_is_nowhere_is_told_before_anything_is_packed(toy, tmp_path):
    with pytest.raises(FileNotFoundError, match="--data-dir"):
        packing.pack(tmp_path / "pack", str(toy / "toy.yaml"), tmp_path, wheels=False)
    with pytest.raises(ValueError, match="demo is no corpus of files"):
        packing.pack(tmp_path / "pack", "demo", tmp_path, wheels=False)
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("given", ["train", "train=", "=3", "train=many", "train=-1"])
def test_a_malformed_limit_is_told(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "run", "--output-dir", str(tmp_path / "out"), "--limit", given])
    with pytest.raises(SystemExit):
        _main()
    assert f"--limit: {given!r} is not SPLIT=COUNT, such as train=10000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wait_is_what_torch_warns_of_and_not_that_it_may_miss_some(monkeypatch):
    """Without a GPU: torch's two warnings, of which the one of the way to see them comes once."""

    def mode(name: str) -> None:
        if name == "warn":
            warnings.warn("Synchronization debug mode does not yet detect all synchronizing operations", stacklevel=1)

    def work() -> None:
        for _ in range(2):
            warnings.warn_explicit("called a synchronizing CUDA operation", UserWarning, "package/kernels.py", 7)

    monkeypatch.setattr(rates.torch.cuda, "set_sync_debug_mode", mode)
    assert rates.waits_of(work, rates.torch.device("cuda")) == {"kernels.py:7": 2}


def test_what_a_part_takes_to_begin_is_of_its_own_time(monkeypatch, tmp_path):
    """Its libraries alone take seconds, and it is ended by the clock of those who started it."""
    told = []
    slow = SimpleNamespace(main=lambda settings, output_dir, seconds: told.append(seconds))
    monkeypatch.setattr("benchmarks.gpu.__main__.import_module", lambda name: time.sleep(0.5) or slow)
    (tmp_path / "settings.json").write_text("{}", "utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(driver.subprocess, "Popen", lambda command, **options: _called(*command[3:]))
    driver.Part("training", 100.0, tmp_path, tmp_path, "cpu")
    assert 90 < told[0] <= 99.5


def test_a_part_that_fails_or_is_late_stops_no_other(monkeypatch, tmp_path):
    """Three processes: one that raises, one that never ends and ignores SIGTERM, one that writes."""
    bodies = {
        "correctness": "raise SystemExit(3)",
        "throughput": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
        "training": "print('trained')",
    }
    popen = driver.subprocess.Popen

    def scripted(command, **options):
        return popen([sys.executable, "-c", bodies.get(command[4], "")], **options)

    monkeypatch.setattr(driver.subprocess, "Popen", scripted)
    monkeypatch.setattr(driver, "LIMITS", {"throughput": 3.0})
    monkeypatch.setattr(driver, "GRACE", 0.5)
    ended = driver.run(Settings(device="cpu"), driver.PARTS, None, tmp_path / "out", tmp_path / "work", 60)
    outcomes = {part.part: (part.outcome, part.exit_code) for part in ended}
    assert outcomes == {
        "prepare": ("done", 0),
        "correctness": ("failed", 3),
        "throughput": ("out of time", -9),
        "training": ("done", 0),
    }
    assert (tmp_path / "out" / "training.log").read_text("utf-8") == "trained\n"


def test_rates_follow_the_batch_and_the_width():
    told = Settings(corpus="demo", size="paper", preset="fast", batch_size=512)
    recipe = training.recipe_of(told)
    # 16 times the batch of 32, 4 times the width of 256; of the pretraining 4 times the batch of 128.
    assert recipe.training.batch_size == 512 and recipe.sizes.hidden_size == 1024
    assert recipe.training.learning_rate == pytest.approx(0.002 * 4 / 4)
    assert recipe.training.table_options["lr"] == pytest.approx(0.04 * 4 / 4)
    stage = recipe.pretraining_recipe()
    assert stage.training.batch_size == 512
    assert stage.training.learning_rate == pytest.approx(0.008 * 2 / 4)


def test_rates_for_longer_texts_follow_the_words_in_the_batch():
    recipe = training.recipe_of(Settings(corpus="demo", batch_size=512), slower=0.5)
    assert recipe.training.rate_words == 700
    settled = recipe.training.settled(1000, words=175)  # 128 times the words of a batch
    assert settled.learning_rate == pytest.approx(0.5 * 0.002 * 128**0.5 / 4, rel=1e-3)
    assert settled.table_options["lr"] == pytest.approx(0.5 * 0.04 * 128**0.5 / 4, rel=1e-3)
    stage = recipe.pretraining_recipe().training  # whose rate is meant as it is, for batches of 128 texts
    assert stage.settled(1000, words=175).learning_rate == pytest.approx(0.5 * 0.008 * 2 / 4)


@pytest.mark.filterwarnings("ignore:.*posterior has collapsed")
def test_a_time_that_is_over_ends_the_training_and_not_its_figures(toy, tmp_path, monkeypatch):
    """SIGTERM comes after the first epoch: the best of it is measured."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings = Settings(
        "cpu", str(toy / "toy.yaml"), "max_pool", "tiny", "tiny", 16, nll_sentences=4, nll_samples=2,
        data_dir=str(toy), work_dir=str(tmp_path / "work"),
    )  # fmt: skip
    train = training.train

    class AfterTheFirst(training.Callback):
        def on_epoch_end(self, trainer, record):
            training.os.kill(training.os.getpid(), training.signal.SIGTERM)

    def interrupted(recipe, run, data_dir, progress, callbacks):
        return train(recipe, run, data_dir, progress=progress, callbacks=[*callbacks, AfterTheFirst()])

    monkeypatch.setattr(training, "train", interrupted)
    monkeypatch.setattr(training, "planned", lambda *arguments: {"overrides": ["training.updates=[40, 40]"]})
    (tmp_path / "out").mkdir()
    training.main(settings, tmp_path / "out", 300)
    found = json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))
    assert found["ended"] == "the time was over"
    run = tmp_path / "out" / found["kept"]
    assert len((run / "history.jsonl").read_text("utf-8").splitlines()) == 1
    assert (run / "evaluation.json").is_file()


def test_a_training_that_diverges_is_begun_again_at_half_the_rates(toy, tmp_path, monkeypatch):
    settings = Settings(
        "cpu", str(toy / "toy.yaml"), "max_pool", "tiny", "tiny", 32, data_dir=str(toy), work_dir=str(tmp_path / "work")
    )
    rates = []

    def diverging(recipe, run, *rest, **options):
        rates.append(recipe.training.learning_rate)
        raise training.TrainingDiverged("not a finite number")

    monkeypatch.setattr(training, "train", diverging)
    monkeypatch.setattr(training, "planned", lambda *arguments: {"overrides": []})
    (tmp_path / "out").mkdir()
    with pytest.raises(RuntimeError, match="not a finite number"):
        training.main(settings, tmp_path / "out", 300)
    assert rates == pytest.approx([0.01, 0.005, 0.0025])


def test_compressed_texts_are_a_fraction_of_their_size(tmp_path):
    (tmp_path / "text").write_text("the food was good .\n" * 1000, "utf-8")
    packing.compress(tmp_path / "text", tmp_path / "text.bz2")
    assert bz2.decompress((tmp_path / "text.bz2").read_bytes()) == (tmp_path / "text").read_bytes()
    assert packing.size_of(tmp_path) < 1.1 * (tmp_path / "text").stat().st_size
