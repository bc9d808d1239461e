"""From a checkpoint and maybe a file to what is shown; and the same pictures as files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from modeling_seqvae import SeqVAE
from modeling_seqvae.cli import app
from modeling_seqvae.evaluation.projection import project
from modeling_seqvae.explore.explorer import Explorer
from modeling_seqvae.explore.opening import open_explorer
from modeling_seqvae.explore.pictures import write_pictures
from modeling_seqvae.training.recipe import Recipe

CHECKPOINT = str(Path(__file__).parents[2] / "model_cards" / "demo-unigram-pretraining")
ROWS = (
    "review,stars\nthe food was good .,5\nour room was cold,1\n,3\nthe staff was warm,5\nwow,1\nwhat a dull museum,1\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text(ROWS)
    return path


def invoke(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "80"})
    assert result.exit_code == code, f"{result.stderr}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_a_file_s_texts_are_those_with_words_and_their_labels(table: Path) -> None:
    found = open_explorer(CHECKPOINT, table, "review", "stars")
    assert found.texts == [
        "the food was good .",
        "our room was cold",
        "the staff was warm",
        "wow",
        "what a dull museum",
    ]
    assert found.labels == ["5", "1", "5", "1", "1"] and found.left_out == 0
    unlabelled = open_explorer(CHECKPOINT, table, "review")
    assert unlabelled.labels is None and unlabelled.texts == found.texts
    assert unlabelled.source == found.source == "reviews.csv, 1 empty left out"
    assert found.title == "MaxPool + unigram pretraining + KL floor on demo"


def test_without_a_file_texts_are_of_the_validation_set_of_the_run() -> None:
    some = open_explorer(CHECKPOINT, points=50)
    assert (len(some.texts), some.left_out, len(some.labels or ())) == (50, 1950, 50)
    assert some.classes() == list("12345")


def test_of_many_texts_some_are_drawn_the_same_every_time(table: Path) -> None:
    some, again = (open_explorer(CHECKPOINT, table, "review", "stars", points=3) for _ in range(2))
    assert (len(some.texts), some.left_out) == (3, 2) and (some.texts, some.labels) == (again.texts, again.labels)
    pairs = [line.rsplit(",", 1) for line in ROWS.splitlines()]
    assert [*zip(some.texts, some.labels or (), strict=True)] == [(t, n) for t, n in pairs if t in some.texts]
    with pytest.raises(ValueError, match="a map has from 2 to 10,000 points, got 1"):
        open_explorer(CHECKPOINT, points=1)


def test_where_no_texts_are_known_the_model_writes_some_and_says_so(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    SeqVAE.from_pretrained(CHECKPOINT).save_pretrained(alone)
    with pytest.warns(UserWarning, match="the map shows sentences that the model wrote: name a file"):
        found = open_explorer(str(alone), points=20)
    assert len(found.texts) == 20 and found.source == "written by the model itself" and found.history == []
    assert found.title == "alone"


def test_a_run_shows_its_curves(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    SeqVAE.from_pretrained(CHECKPOINT).save_pretrained(run / "best")
    (run / "recipe.yaml").write_bytes((Path(CHECKPOINT) / "recipe.yaml").read_bytes())
    record = {"epoch": 1, "bound": 3.0, "kl": 1.0, "mi": 1.0, "au": 1, "cosine": 0.1, "seconds": 1.0, "rec": 2.0,
              "encoder_updates": 1, "decoder_updates": 1}  # fmt: skip
    (run / "history.jsonl").write_text(json.dumps(record) + "\n")
    for place in (run, run / "best"):
        assert open_explorer(str(place), table, "review").history == [record]


def test_the_best_epoch_is_that_of_the_run_s_objective(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    SeqVAE.from_pretrained(CHECKPOINT).save_pretrained(run / "best")
    recipe = Recipe.load(Path(CHECKPOINT) / "recipe.yaml")
    training = recipe.training.model_copy(update={"objective": "autoencoder", "objective_options": {}})
    recipe.model_copy(update={"training": training}).save(run / "recipe.yaml")
    cost = {"mi": 1.0, "au": 1, "cosine": 0.1, "seconds": 1.0, "encoder_updates": 1, "decoder_updates": 1}
    nats = [{"bound": 3.0, "rec": 2.0, "kl": 1.0}, {"bound": 9.0, "rec": 1.0, "kl": 8.0}]
    records = [{"epoch": epoch} | each | cost for epoch, each in enumerate(nats, start=1)]
    (run / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert open_explorer(str(run), table, "review").best == records[1]  # of the lowest reconstruction loss


def test_pictures_and_tables_are_those_of_the_explorer(explorer: Explorer, tmp_path: Path) -> None:
    written = write_pictures(explorer, tmp_path / "new", text="the food was good .")
    folder = tmp_path / "new"
    assert sorted(written) == sorted(path.name for path in folder.iterdir())
    assert {"map.png", "map.csv", "traversal.csv", "curves.png", "curves.csv", "figures.json"} <= set(written)
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5_000
    points = pd.read_csv(folder / "map.csv", dtype={"label": str})
    np.testing.assert_allclose(points[["x", "y"]], project(explorer.centres), atol=1e-6)
    assert list(points["label"]) == explorer.labels and list(points["text"]) == explorer.texts
    dimensions = pd.read_csv(folder / "dimensions.csv")
    assert list(dimensions["dimension"]) == explorer.dimensions.order
    assert list(dimensions) == ["dimension", "kl", "variance", "noise", "information", "accuracy"]
    traversal = pd.read_csv(folder / "traversal.csv")
    first = traversal[traversal["dimension"] == explorer.dimensions.order[0]]
    expected = explorer.traverse("the food was good .", explorer.dimensions.order[0], 3, 7)
    assert list(zip(first["value"], first["sentence"], strict=True)) == expected
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["kl"] == pytest.approx(sum(figures["kl_per_dimension"])) and figures["au"] == explorer.active
    assert figures["disentanglement"]["mig"] == explorer.disentanglement()["mig"]
    assert len(pd.read_csv(folder / "curves.csv")) == 3


@pytest.mark.parametrize("colour", ["length", "NLL per token"])
def test_a_map_is_drawn_without_labels_and_history(
    vae: SeqVAE, explorer: Explorer, tmp_path: Path, colour: str
) -> None:
    plain = Explorer(vae, explorer.texts[:12], title="$plain$ of one \\ model")
    written = write_pictures(plain, tmp_path, "tsne", colour)
    assert "curves.png" not in written and colour in pd.read_csv(tmp_path / "map.csv")


def test_a_lone_carriage_return_of_a_text_ends_no_row(vae: SeqVAE, explorer: Explorer, tmp_path: Path) -> None:
    odd = Explorer(vae, ["the food\rwas good .", *explorer.texts[:8]])
    write_pictures(odd, tmp_path)
    assert list(pd.read_csv(tmp_path / "map.csv")["text"]) == odd.texts


def test_prices_are_labels_and_no_formulas(vae: SeqVAE, explorer: Explorer, tmp_path: Path) -> None:
    history = [dict.fromkeys(("epoch", "bound", "rec", "kl", "mi"), 1.0)]
    priced = Explorer(vae, explorer.texts[:9], ["$", "$$", "$x_$"] * 3, title="a $$ model", history=history)
    assert {"map.png", "curves.png"} <= set(write_pictures(priced, tmp_path))


def test_the_command_draws_and_refuses_in_a_sentence(table: Path, tmp_path: Path) -> None:
    columns = ("--text-column", "review", "--label-column", "stars")
    done = invoke("plot", CHECKPOINT, table, "-o", tmp_path / "out", *columns)
    assert "5 texts: reviews.csv" in done.stderr and "figures.json" in done.stderr
    assert (tmp_path / "out" / "map.png").is_file() and done.stdout == ""
    assert "is not one of pca" in invoke("plot", CHECKPOINT, table, *columns, "--map", "lda", code=1).stderr
    assert "is not one of label" in invoke("plot", CHECKPOINT, table, *columns, "--colour", "mood", code=1).stderr
    assert "name the file after the checkpoint" in invoke("plot", CHECKPOINT, *columns, code=1).stderr
    assert "there is no folder" in invoke("plot", tmp_path / "none", code=1).stderr
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    assert "there are no texts to draw a map of" in invoke("plot", CHECKPOINT, empty, code=1).stderr
