"""`seqvae list`: a table for everything that options and recipes name."""

from typing import Any

import pytest
from typer.testing import CliRunner

from modeling_seqvae.cli import app
from modeling_seqvae.registry import DECODERS, ENCODERS, OBJECTIVES, POOLINGS, POSTERIORS, SCHEDULES, SCHEMES
from modeling_seqvae.reproduce.targets import TARGETS
from modeling_seqvae.training.configuration import available
from modeling_seqvae.training.optimizers import OPTIMIZERS
from modeling_seqvae.training.recipe import resolve
from modeling_seqvae.training.schedules import LR_SCHEDULES


def listed(kind: str) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell, cut where the headings stand."""
    result: Any = CliRunner().invoke(app, ["list", kind])
    assert result.exit_code == 0, result.stderr
    heading, *lines = result.stdout.splitlines()
    names = heading.split()
    starts = [heading.index(f" {name}") + 1 if number else 0 for number, name in enumerate(names)]
    ends = [*starts[1:], None]
    cut = [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]
    return {cells[0]: dict(zip(names, cells, strict=True)) for cells in cut}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", available("methods")),
        ("corpora", available("corpora")),
        ("presets", available("training")),
        ("targets", TARGETS),
        ("encoders", ENCODERS),
        ("poolings", POOLINGS),
        ("posteriors", POSTERIORS),
        ("decoders", DECODERS),
        ("objectives", OBJECTIVES),
        ("schemes", SCHEMES),
        ("optimizers", OPTIMIZERS),
        ("kl_schedules", SCHEDULES),
        ("lr_schedules", LR_SCHEDULES),
    ],
)
def test_every_name_is_listed(kind: str, names: Any) -> None:
    assert list(listed(kind)) == list(names)


def test_the_help_names_every_kind() -> None:
    told = CliRunner().invoke(app, ["list", "--help"]).stdout
    refusal = CliRunner().invoke(app, ["list", "nothing"]).stderr  # which lists them from the tables
    kinds = refusal.partition(" is not one of ")[2].strip().split(", ")
    assert len(kinds) > 10 and [kind for kind in kinds if kind not in told] == []


def test_a_method_s_row_says_what_its_recipe_is() -> None:
    rows = listed("methods")
    for name, row in rows.items():
        recipe = resolve(name, "demo")
        assert row["title"] == recipe.title and row["objective"] == recipe.training.objective
        assert row["decoder"] == recipe.sizes.decoder
        latent = recipe.sizes.latent_size > 0
        assert row["pooling"] == (recipe.sizes.pooling_mode if latent else "-")
        assert row["posterior"] == (recipe.sizes.posterior if latent else "-")
        assert ("pretraining" in row["besides"]) == (recipe.pretraining is not None)
    assert rows["cyclical"]["besides"] == "kl_schedule=cyclical"


def test_a_preset_s_row_says_its_sizes_and_schedule() -> None:
    row = listed("presets")["small"]
    assert (row["hidden"], row["latent"], row["optimizer"], row["epochs"]) == ("256", "32", "sgd", "30")
    auto = resolve("max_pool", "demo", preset="auto").training
    assert auto.updates is not None and listed("presets")["auto"]["updates"] == "{} to {}".format(*auto.updates)


def test_a_part_s_row_says_its_options_and_their_defaults() -> None:
    rows = listed("objectives")
    assert rows["free_bits"]["options"] == "nats=0.25 floor='dimension' hinge='batch'" and rows["elbo"]["options"] == ""
    POOLINGS.register("own")(lambda states, mask, *, sharpness=2.0, words="few": states[:, 0])
    try:
        assert listed("poolings")["own"]["options"] == "sharpness=2.0 words='few'"
    finally:
        POOLINGS.pop("own")
        POOLINGS.registered.pop("own")


def test_an_unknown_kind_names_those_there_are() -> None:
    result: Any = CliRunner().invoke(app, ["list", "models"])
    assert result.exit_code == 1 and "'models' is not one of methods, corpora, presets, targets" in result.stderr


def test_without_a_kind_it_says_which_there_are() -> None:
    result: Any = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0 and {"methods", "corpora", "lr_schedules"} <= set(result.stdout.split())
