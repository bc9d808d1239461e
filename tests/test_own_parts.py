"""Parts of one's own: registered by a module, remembered by a run, carried by a checkpoint."""

import importlib
import json
import linecache
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.decoders import Decoder, LSTMDecoder, UnigramDecoder
from modeling_seqvae.encoders import SeqVAEEncoder
from modeling_seqvae.gaussian import GaussianPosterior
from modeling_seqvae.hub.space import own_sources
from modeling_seqvae.own_modules import code_of, import_parts
from modeling_seqvae.registry import (
    DECODERS,
    ENCODERS,
    OBJECTIVES,
    POOLINGS,
    POSTERIORS,
    SCHEDULES,
    SCHEMES,
    Registry,
)
from modeling_seqvae.sharing import add_code, own_code, own_modules, plain_card
from modeling_seqvae.training.callbacks import Callback
from modeling_seqvae.training.card import card
from modeling_seqvae.training.checkpoint import load_best, reading_of
from modeling_seqvae.training.elbo import Elbo
from modeling_seqvae.training.objectives import objective_class
from modeling_seqvae.training.recipe import Recipe, resolve
from modeling_seqvae.training.run import train_on
from modeling_seqvae.training.schedules import Schedule
from modeling_seqvae.training.schemes import JointUpdate

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_parts.py"
OWN = ["model.pooling_mode=soft_max", "model.sharpness=2", "training.objective=target_kl"]
LIMITS = ["--limit", "train=64", "--limit", "validation=16", "--limit", "test=16"]

WITHOUT_PACKAGE = """
import sys
import torch

class WithoutPackage:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("modeling_seqvae", "own_parts"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, WithoutPackage())
sys.path[:] = [place for place in sys.path if place]
from transformers import AutoModelForSeq2SeqLM

model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
ids = torch.tensor([[1, 5, 6, 7, 2]])
print(model.encode(ids, torch.ones_like(ids)).mean.tolist())
"""


# What a run shares, then the same model with its code beside it and its parts imported.
SHARED = """
import sys, torch
from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.cli import app
from modeling_seqvae.sharing import add_code

app(["push", sys.argv[1], "user/name", "--dry-run"], standalone_mode=False)
add_code(sys.argv[1] + "/best")
model = SeqVAEForTextModeling.from_pretrained(sys.argv[1] + "/best").eval()
ids = torch.tensor([[1, 5, 6, 7, 2]])
print(model.encode(ids, torch.ones_like(ids)).mean.tolist())
"""


@pytest.fixture
def registered() -> Iterator[None]:
    """The example's parts, in this process, for one test."""
    before = [(registry, dict(registry)) for registry in (POOLINGS, OBJECTIVES)]
    import_parts([str(EXAMPLE)])
    yield
    for registry, parts in before:
        registry.clear()
        registry.update(parts)
    sys.modules.pop("own_parts", None)


def python(*arguments: object, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(cwd / "modules"),
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_trains_evaluates_and_loads_without_the_package(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    seqvae = ("-m", "modeling_seqvae")
    sets = [argument for field in OWN for argument in ("--set", field)]
    (tmp_path / "own_parts.py").write_bytes(EXAMPLE.read_bytes())
    arguments = ("--corpus", "demo", "--preset", "tiny", "--method", "max_pool", "--import", "own_parts", *LIMITS)
    python(*seqvae, "train", "--output-dir", "run", *arguments, *sets, cwd=tmp_path)
    before = [argument for argument in arguments if argument not in ("--import", "own_parts")]  # of the command, too
    named = (*seqvae, "--import", "own_parts", "train")
    python(*named, "--output-dir", "run", "--resume", *before, *sets, cwd=tmp_path)
    # a module's name is found from the working folder; a file is remembered wherever the command is run
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text("utf-8"))
    assert recipe["imports"] == ["own_parts"]
    recipe["imports"] = [str(tmp_path / "own_parts.py")]
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    assert "-ELBO" in python(*seqvae, "evaluate", tmp_path / "run", "--nll-samples", 2, cwd=elsewhere)
    with_it = python("-c", SHARED, tmp_path / "run", cwd=elsewhere)
    assert "own_parts.py" in with_it
    assert "\nfrom .registry import" in (tmp_path / "run" / "best" / "own_parts.py").read_text("utf-8")
    alone = python("-c", WITHOUT_PACKAGE, tmp_path / "run" / "best", cwd=elsewhere)
    assert alone == with_it.splitlines(keepends=True)[-1]


def shared(folder: Path) -> Path:
    """A checkpoint with a part of the example, and its code."""
    from modeling_seqvae import SeqVAEForTextModeling, train_tokenizer

    tokenizer = train_tokenizer(["a b c d"] * 3)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer), embedding_size=4, hidden_size=6, latent_size=2, pooling_mode="soft_max"
    )
    SeqVAE(SeqVAEForTextModeling(config).eval(), tokenizer).save_pretrained(folder)
    add_code(folder)
    return folder


# Where the package is imported and the module of the parts is not: nothing of a checkpoint runs unless it is trusted.
RECEIVED = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, pipeline
from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling, SeqVAEVectorizer
from modeling_seqvae.registry import POOLINGS
from modeling_seqvae.sharing import add_code

place, ways = sys.argv[1], {
    "SeqVAE": SeqVAE.from_pretrained,
    "model": SeqVAEForTextModeling.from_pretrained,
    "AutoModel": AutoModel.from_pretrained,
    "AutoModelForSeq2SeqLM": AutoModelForSeq2SeqLM.from_pretrained,
    "pipeline": lambda place, **trust: pipeline("seqvae-features", model=place, **trust),
    "vectorizer": lambda place, **trust: SeqVAEVectorizer(place, **trust).transform(["a b"]),
}
for trust in ({}, {"trust_remote_code": False}):
    AutoConfig.from_pretrained(place, **trust), SeqVAEConfig.from_pretrained(place, **trust)
    for name, load in ways.items():
        try:
            load(place, **trust)
        except ValueError as error:
            assert "pooling_mode='soft_max' is not one of last, avg" in str(error), error
            assert "trust_remote_code=True" in str(error) and "--import" in str(error), error
        else:
            raise AssertionError(name)
assert "soft_max" not in POOLINGS
chosen = sys.argv[2:] or list(ways)
for name in chosen:
    ways[name](place, trust_remote_code=True)
    SeqVAE.from_pretrained(place)  # its parts are known from now on
AutoConfig.from_pretrained(place, trust_remote_code=True)
vae = SeqVAE.from_pretrained(place)
assert type(vae.model) is SeqVAEForTextModeling
vae.save_pretrained("again")
assert "own_parts.py" in add_code("again")
for name in ("own_parts.py", "imported_parts.py", "config.json"):
    assert open(f"again/{name}").read() == open(f"{place}/{name}").read(), name
print(vae.encode(["a b", "c"]).tolist())
"""


@pytest.mark.usefixtures("registered")
def test_a_shared_checkpoint_brings_its_parts_along_once_it_is_trusted(tmp_path: Path) -> None:
    place = shared(tmp_path / "shared")
    expected = f"{SeqVAE.from_pretrained(place).encode(['a b', 'c']).tolist()}\n"
    assert python("-c", RECEIVED, place, cwd=tmp_path) == expected
    for way in ("AutoModelForSeq2SeqLM", "pipeline", "vectorizer"):
        assert python("-c", RECEIVED, place, way, cwd=tmp_path) == expected
    assert not list(place.glob("__pycache__"))


@pytest.mark.usefixtures("registered")
def test_the_copy_of_a_module_is_imported_by_the_command_line(tmp_path: Path) -> None:
    place = shared(tmp_path / "shared")
    seqvae = ("-m", "modeling_seqvae", "--import", place / "own_parts.py")
    assert python(*seqvae, "sample", place, "--count", 2, cwd=tmp_path).count("\n") == 2
    sets = [argument for field in OWN for argument in ("--set", field)]
    arguments = ("--corpus", "demo", "--preset", "tiny", "--method", "max_pool", "--output-dir", "run", *LIMITS, *sets)
    python(*seqvae, "train", *arguments, cwd=tmp_path)
    python("-m", "modeling_seqvae", "evaluate", "run", "--nll-samples", 2, cwd=tmp_path)


@pytest.mark.usefixtures("registered")
def test_a_trusted_module_that_is_here_already_is_not_imported_again(tmp_path: Path) -> None:
    place, here = shared(tmp_path / "shared"), POOLINGS["soft_max"]
    SeqVAE.from_pretrained(place, trust_remote_code=True)
    assert POOLINGS["soft_max"] is here
    copy = place / "own_parts.py"
    copy.write_text(copy.read_text("utf-8") + "# another\n", "utf-8")
    with pytest.raises(ValueError, match=r"own_parts\.py cannot be imported .*'soft_max' is the name of own_parts"):
        SeqVAE.from_pretrained(place, trust_remote_code=True)
    assert POOLINGS["soft_max"] is here


@pytest.mark.usefixtures("registered")
def test_cards_say_how_parts_of_ones_own_are_imported(tmp_path: Path) -> None:
    own, plain = (SeqVAEConfig(pooling_mode=name) for name in ("soft_max", "max"))
    recipe = resolve("max_pool", "demo", overrides=OWN)
    record = {"epoch": 1, "encoder_updates": 2, "decoder_updates": 2, "pretraining_updates": 0}
    record |= {"seconds": 1.0, "kl_weight": 0.1, "lr": 0.5, "bound": 9.0, "rec": 8.0, "kl": 1.0, "mi": 0.5, "au": 2}
    for code, said in ((True, "which this repository carries"), (False, "first import the module")):
        for config in (own, plain):
            of_run = card(recipe, record, config=config, source="user/name", code=code)
            for text in (plain_card("user/name", config, code), str(of_run)):
                assert (said in text and "not of the package, is `soft_max`: " in text) == (config is own)
                trusted = 'SeqVAE.from_pretrained("user/name", trust_remote_code=True)' in text
                assert trusted == (config is own and code)
                assert ('SeqVAE.from_pretrained("user/name")' in text) == (not trusted)
                assert code or "trust_remote_code" not in text


COPY = "from .registry import POOLINGS\n\n@POOLINGS.register({!r})\ndef pool(states, mask):\n    return states[:, 0]\n"


def test_copies_of_modules_are_known_by_their_text(tmp_path: Path, registered: None) -> None:
    one, same, other = (tmp_path / folder / "copied_parts.py" for folder in ("one", "same", "other"))
    for path, name in ((one, "of_a_copy"), (same, "of_a_copy"), (other, "of_another")):
        path.parent.mkdir()
        path.write_text(COPY.format(name), "utf-8")
    try:
        import_parts([str(one), str(one), str(same)])
        assert [module.__file__ for module in own_modules(SeqVAEConfig(pooling_mode="of_a_copy"))] == [str(one)]
        with pytest.raises(ValueError, match=r"other/copied_parts\.py cannot be imported: there is another module"):
            import_parts([str(other)])
        for name, text in (("data", COPY.format("of_data")), ("broken", "from .registry import POOLINGS\n1 / 0\n")):
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
            with pytest.raises(ValueError, match=rf"{name}\.py cannot be imported"):
                import_parts([str(tmp_path / f"{name}.py")])
    finally:
        sys.modules.pop("modeling_seqvae.copied_parts", None)


@pytest.mark.usefixtures("registered")
def test_an_objectives_options_are_those_of_its_function() -> None:
    recipe = resolve("max_pool", "demo", overrides=[*OWN, "training.objective_options={nats: 2.0}"])
    assert recipe.training.objective_options == {"nats": 2.0}
    for options, told in (("{bits: 2.0}", "target_kl has no option 'bits', only nats"), ("{nats: two}", "nats: ")):
        with pytest.raises(ValueError, match=told):
            resolve("max_pool", "demo", overrides=[*OWN, f"training.objective_options={options}"])


OF_TRAINING = """
from modeling_seqvae.registry import OBJECTIVES, SCHEDULES
from modeling_seqvae.training.schedules import Schedule

SCHEDULES.register("half")(Schedule(lambda progress, start, stop: stop / 2))

@OBJECTIVES.register("only_rec")
def only_rec(output, kl_weight):
    return output.reconstruction_loss.mean()
"""


@pytest.mark.usefixtures("registered")
def test_a_space_carries_the_modules_without_which_its_recipe_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "parts_of_training.py").write_text(OF_TRAINING, "utf-8")
    import_parts([str(tmp_path / "parts_of_training.py")])
    try:
        for field in ("training.objective=only_rec", "training.kl_schedule=half"):
            for stage in ("", "pretraining."):
                overrides = ["model.pooling_mode=soft_max", stage + field]
                recipe = resolve("unigram_pretraining_elbo", "demo", overrides=overrides)
                assert list(own_sources(recipe)) == ["own_parts", "parts_of_training"]
        (tmp_path / "app.py").write_text(OF_TRAINING.replace("only_rec", "of_app").replace("half", "of_app"), "utf-8")
        import_parts([str(tmp_path / "app.py")])
        with pytest.raises(ValueError, match="a module called app cannot stand in a Space"):
            own_sources(resolve("max_pool", "demo", overrides=["training.objective=of_app"]))
    finally:
        for name in ("half", "of_app"):
            SCHEDULES.pop(name, None)
        sys.modules.pop("app", None)


OF_ALL_KINDS = """
from __future__ import annotations
from typing import Annotated
from pydantic import Field
from modeling_seqvae.registry import OBJECTIVES

@OBJECTIVES.register("of_all_kinds")
def of_all_kinds(output, kl_weight, *, floor: Annotated[float, Field(ge=0)], scale=1.0, pair: tuple[int, int] = (1, 2)):
    return output.loss
"""


@pytest.mark.usefixtures("registered")
def test_annotations_of_options_may_be_strings_or_missing_and_options_required(tmp_path: Path) -> None:
    (tmp_path / "options_of_all_kinds.py").write_text(OF_ALL_KINDS, "utf-8")
    import_parts([str(tmp_path / "options_of_all_kinds.py")])

    def options(*given: str) -> dict:
        overrides = ["training.objective=of_all_kinds", *(f"training.objective_options={{{one}}}" for one in given)]
        return resolve("max_pool", "demo", overrides=overrides).training.objective_options

    assert options("floor: 1, scale: 2") == {"floor": 1, "scale": 2}
    assert options("floor: 1, pair: [3, 4]") == {"floor": 1, "pair": (3, 4)}
    given = {"training.objective": "of_all_kinds", "training.objective_options": {"floor": 1.0, "pair": (3, 4)}}
    recipe = resolve("max_pool", "demo", overrides=given)
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    with pytest.raises(ValueError, match="an option that no recipe can hold"):
        resolve("max_pool", "demo", overrides=given | {"training.objective_options": {"floor": 1, "scale": object()}})
    with pytest.raises(ValueError, match=r"floor: .*greater than or equal to 0, not -1"):
        options("floor: -1")
    for missing in ((), ("scale: 2",)):
        with pytest.raises(ValueError, match=r"training\.objective_options: of_all_kinds needs the option 'floor'"):
            options(*missing)


@pytest.mark.usefixtures("registered")
def test_a_function_of_the_output_is_the_loss() -> None:
    output = SimpleNamespace(reconstruction_loss=torch.tensor([4.0, 6.0]), kl=torch.tensor([1.0, 3.0]))
    assert OBJECTIVES["target_kl"](output, 0.5, nats=3.0) == 5.0 + 0.5 * 1.0


@pytest.mark.parametrize(
    ("loss", "told"), [(torch.ones(2), r"one of shape \(2,\)"), (3.0, "and returned 3.0"), (None, "and returned None")]
)
def test_a_function_that_returns_no_single_loss_is_told(loss: object, told: str, registered: None) -> None:
    OBJECTIVES["of_no_loss"] = lambda output, kl_weight: loss
    objective = objective_class("of_no_loss")(None, None, 0)
    with pytest.raises(ValueError, match=rf"training\.objective of_no_loss must return .*{told}"):
        objective.output(lambda **batch: SimpleNamespace(), {}, 1.0)


def test_a_schedules_period_is_a_length() -> None:
    SCHEDULES["of_no_length"] = Schedule(lambda progress, start, stop: stop, period="anneal")
    try:
        with pytest.raises(ValueError, match="the period of of_no_length: 'anneal' is not one of epochs"):
            resolve("max_pool", overrides=["training.kl_schedule=of_no_length"])
    finally:
        del SCHEDULES["of_no_length"]


def test_a_part_that_nobody_imported_says_how() -> None:
    with pytest.raises(ValueError, match=r"'soft_max' is not one of last, avg, .*must be imported first"):
        SeqVAEConfig(pooling_mode="soft_max")


def test_a_method_names_modules_from_its_own_folder(tmp_path: Path, registered: None) -> None:
    (tmp_path / "own_parts.py").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "mine.yaml").write_text("imports: [own_parts.py]\nbase: max_pool\n", "utf-8")
    with pytest.raises(ValueError, match=r"own_parts\.py cannot be imported: there is another module own_parts"):
        resolve(str(tmp_path / "mine.yaml"), "demo")
    sys.modules.pop("own_parts")
    sys.path[:] = [place for place in sys.path if place != str(EXAMPLE.parent)]
    recipe = resolve(str(tmp_path / "mine.yaml"), "demo")
    assert recipe.imports == [str(tmp_path / "own_parts.py")]
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    sys.path.remove(str(tmp_path))


@pytest.mark.usefixtures("registered")
def test_a_module_may_move_after_a_run_has_begun(tmp_path: Path) -> None:
    before, now, run = tmp_path / "moving_parts.py", tmp_path / "lib" / "moving_parts.py", tmp_path / "run"
    before.write_text(OF_TRAINING.replace("only_rec", "moving").replace("half", "moving"), "utf-8")
    rows = Dataset.from_dict({"text": ["the food was good .", "never again !"] * 4})
    fields = {"training.objective": "moving", "training.epochs": 1}

    def train(where: Path, resume: bool) -> None:
        recipe = resolve("max_pool", preset="tiny", overrides=fields, imports=[str(where)])
        train_on(recipe, run, rows, rows, resume=resume, progress=False)

    try:
        train(before, resume=False)
        now.parent.mkdir()
        before.rename(now)
        del sys.modules["moving_parts"]
        with pytest.raises(ValueError, match=r"no .*moving_parts\.py .* has moved is named before the command"):
            Recipe.load(run / "recipe.yaml")
        import_parts([str(now)])
        assert reading_of(str(run)).tokenizer == "words" and load_best(str(run))
        train(now, resume=True)
        assert Recipe.load(run / "recipe.yaml").imports == [str(now)]
    finally:
        SCHEDULES.pop("moving", None)
        sys.modules.pop("moving_parts", None)


@pytest.mark.usefixtures("registered")
def test_a_run_that_goes_on_with_other_code_is_told(tmp_path: Path) -> None:
    file, rows = (
        tmp_path / "changing_parts.py",
        Dataset.from_dict({"text": ["the food was good .", "never again !"] * 4}),
    )
    code = OF_TRAINING.replace("only_rec", "changing").replace("half", "changing")

    def train(code: str, epochs: int, resume: bool) -> None:
        file.write_text(code, "utf-8")
        sys.modules.pop("changing_parts", None)
        OBJECTIVES.pop("changing", None)
        SCHEDULES.pop("changing", None)
        fields = {"training.objective": "changing", "training.epochs": epochs}
        recipe = resolve("max_pool", preset="tiny", overrides=fields, imports=[str(file)])
        train_on(recipe, tmp_path / "run", rows, rows, resume=resume, progress=False)

    try:
        train(code, 1, resume=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*has changed")
            train(code, 1, resume=True)
            load_best(str(tmp_path / "run"))
        with pytest.warns(UserWarning, match="changing_parts has changed since this run was saved"):
            train(code.replace(".mean()", ".sum()"), 1, resume=True)
        with pytest.warns(UserWarning, match="changing_parts has changed .* is made by the new code"):
            load_best(str(tmp_path / "run"))
    finally:
        SCHEDULES.pop("changing", None)
        sys.modules.pop("changing_parts", None)


@pytest.mark.parametrize(
    ("imports", "told"),
    [
        (["nowhere.py"], r"imports: there is no nowhere\.py"),
        (["no_such_module"], "no_such_module cannot be imported .ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_imported_is_told(imports: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        resolve("max_pool", "demo", imports=imports)


def test_a_taken_name_is_refused_and_the_same_part_is_not() -> None:
    registry = Registry()

    def part() -> None: ...

    assert registry.register("one")(part) is part
    registry.register("one")(part)
    with pytest.raises(ValueError, match=r"'one' is the name of .* already"):
        registry.register("one")(lambda: None)
    assert registry == {"one": part}


def test_a_class_that_lacks_a_method_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match=r"Half.* lacks forward, which a subclass of Decoder must have"):
        DECODERS.register("half")(type("Half", (Decoder,), {}))
    assert "half" not in DECODERS


def test_a_part_that_is_an_object_may_be_registered_again() -> None:
    registry = Registry()
    registry.fits = SCHEDULES.fits

    def schedule(weight: float) -> Schedule:
        return Schedule(lambda progress, start, stop: weight * stop)

    for part in (schedule(0.5), schedule(0.2)):  # as when a module or a cell of a notebook is run again
        registry.register("mine")(part)
        assert registry["mine"] is part
    with pytest.raises(ValueError, match=r"'mine' is the name of .*Schedule\(.*\) already"):
        registry.register("mine")(Schedule(lambda progress, start, stop: stop))


def first_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[:, 0]


def half_kl(output: SimpleNamespace, kl_weight: float, *, share: float = 0.5) -> torch.Tensor:
    return output.reconstruction_loss.mean() + share * kl_weight * output.kl.mean()


def test_a_part_may_be_given_in_place_of_its_name(tmp_path: Path, registered: None) -> None:
    from modeling_seqvae.pooling import max_pool

    assert SeqVAEConfig(pooling_mode=max_pool).pooling_mode == "max"
    config = SeqVAEConfig(
        vocab_size=9, embedding_size=3, hidden_size=4, latent_size=2, pooling_mode=first_pool, initializer_range=1.0
    )
    assert config.pooling_mode == "first_pool"
    model = SeqVAEForTextModeling(config).eval()
    ids = torch.tensor([[1, 5, 6, 2]])
    states = model.model.encoder(ids, torch.ones_like(ids), output_hidden_states=True)
    assert states.pooled.equal(states.last_hidden_state[:, 0])
    model.save_pretrained(tmp_path)
    assert SeqVAEConfig.from_pretrained(tmp_path).pooling_mode == "first_pool"
    with pytest.raises(ValueError, match="'first_pool' is known in this process alone: let a module register it"):
        add_code(tmp_path)
    POOLINGS.register("first_pool")(first_pool)
    assert [module.__name__ for module in own_modules(config)] == [first_pool.__module__]


def test_a_recipe_takes_parts_too(registered: None) -> None:
    recipe = resolve(
        "max_pool",
        overrides={
            "model.pooling_mode": first_pool,
            "training.objective": half_kl,
            "training.objective_options": {"share": 0.25},
            "training.scheme": JointUpdate,
            "training.epochs": 3,
        },
    )
    assert (recipe.model["pooling_mode"], recipe.training.objective) == ("first_pool", "half_kl")
    assert (recipe.training.scheme, recipe.training.epochs, recipe.training.updates) == ("joint", 3, None)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    output = SimpleNamespace(reconstruction_loss=torch.tensor([4.0, 6.0]), kl=torch.tensor([1.0, 3.0]))
    assert OBJECTIVES["half_kl"](output, 0.5, share=1.0) == 6.0


def pool_of(position: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return states[:, position]

    return pool


class Places:
    def second(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return states[:, 1]


def test_a_name_stands_for_one_part(registered: None) -> None:
    first, places = pool_of(0), Places()
    for part in (first, places.second):
        assert SeqVAEConfig(pooling_mode=part).pooling_mode == SeqVAEConfig(pooling_mode=part).pooling_mode
    for other in (pool_of(1), Places().second):
        with pytest.raises(ValueError, match=r"pooling_mode: '.*' is the name of another .* already"):
            SeqVAEConfig(pooling_mode=other)
    assert POOLINGS["pool"] is first


def test_a_part_defined_anew_takes_the_place_of_the_earlier_one_and_says_so(registered: None) -> None:
    earlier, later = (FunctionType(first_pool.__code__, {"__name__": "cells"}) for _ in range(2))
    for part in (earlier, later):
        part.__name__ = part.__qualname__ = "cell"
    SeqVAEConfig(pooling_mode=earlier)
    with pytest.warns(UserWarning, match=r"'cell' is another .*cell now"):
        SeqVAEConfig(pooling_mode=later)
    assert POOLINGS["cell"] is later


def test_a_part_may_be_given_to_a_configuration_that_there_is(tmp_path: Path, registered: None) -> None:
    from modeling_seqvae import SeqVAEForTextModeling

    config = SeqVAEConfig(vocab_size=9, embedding_size=3, hidden_size=4, latent_size=2)
    config.save_pretrained(tmp_path)
    changed = SeqVAEConfig.from_pretrained(tmp_path, pooling_mode=first_pool)
    config.pooling_mode = first_pool
    assert config.to_json_string() == changed.to_json_string()
    assert '"pooling_mode": "first_pool"' in config.to_json_string()
    config.decoder = "nothing"
    with pytest.raises(ValueError, match="'nothing' is not one of lstm, unigram"):
        SeqVAEForTextModeling(config)


def test_a_pretraining_takes_parts_too(tmp_path: Path, registered: None) -> None:
    parts = {"pretraining.model.decoder": UnigramDecoder, "pretraining.training.objective": half_kl}
    recipe = resolve("unigram_pretraining", overrides=parts)
    recipe.save(tmp_path / "recipe.yaml")
    stage = Recipe.load(tmp_path / "recipe.yaml").pretraining
    assert stage and (stage.model["decoder"], stage.training["objective"]) == ("unigram", "half_kl")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"model.decoder": first_pool}, "model: decoder: .* is not a subclass of Decoder"),
        ({"model.encoder": Places}, "model: encoder: .* is not a subclass of SeqVAEEncoder"),
        ({"model.pooling_mode": Places}, "model: pooling_mode: .* is not a function, or a class of modules"),
        ({"pretraining.model.decoder": Places}, "pretraining.model: .* is not a subclass of Decoder"),
        ({"training.objective": Places}, "is not a function of the model's output, or a subclass of Elbo"),
        ({"training.scheme": half_kl}, "training.scheme: .* is not a subclass of JointUpdate"),
        ({"training.kl_schedule": half_kl}, "training.kl_schedule: .* is not a Schedule"),
        ({"training.objective": lambda output, weight: output.loss}, "not one of elbo, .*a part with a name"),
        ({"training.kl_schedule": Schedule(lambda *_: 1.0)}, "overrides: training.kl_schedule: .*not one of linear"),
        ({"training.scheme": lambda: None}, "as in @SCHEMES.register"),
        ({"model.pooling_mode": 3}, "3 is not one of last, avg"),
        ({"training.objectives": "elbo"}, "training.objectives is not a field"),
        ({"epochs": 3}, "'epochs' is not of the form section.field"),
    ],
)
def test_what_is_no_part_is_told(overrides: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        resolve("max_pool", overrides=overrides)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("mine", "from modeling_seqvae.training.elbo import Elbo\n", "mine imports modeling_seqvae.training.elbo"),
        ("mine", "import modeling_seqvae\n", "mine imports modeling_seqvae, which does not travel"),
        ("mine", "from modeling_seqvae.nothing import x\n", "mine imports nothing, which does not travel"),
        ("mine", "def f():\n    from helper import x\n", "mine imports helper, which does not travel"),
        ("mine", "import helpers.one\n", "mine imports helpers.one, which does not travel"),
        ("pooling", "", "a module called pooling cannot stand beside"),
    ],
)
def test_a_module_that_cannot_travel_is_told(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / f"{name}.py").write_text(f"{text}# end\n", "utf-8")
    (tmp_path / "helpers").mkdir()
    for beside in ("helper.py", "json.py", "torch.py", "helpers/__init__.py"):  # the middle two are others' names
        (tmp_path / beside).touch()
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, tmp_path / f"{name}.py")
    assert spec
    with pytest.raises(ValueError, match=told):
        own_code(module_from_spec(spec), {"pooling.py": "", "registry.py": ""})
    (tmp_path / f"{name}.py").write_text(
        "import json\nimport torch.nn\nfrom modeling_seqvae.registry import POOLINGS\n"
    )
    spec = spec_from_file_location("fit", tmp_path / f"{name}.py")
    linecache.clearcache()
    name, text = own_code(module_from_spec(spec), {"registry.py": ""})
    assert name == "fit" and "from .registry import" in text


@pytest.mark.usefixtures("registered")
def test_a_model_with_parts_of_ones_own_is_a_model_like_any_other(tmp_path: Path) -> None:
    from modeling_seqvae import SeqVAEForTextModeling, train_tokenizer

    tokenizer = train_tokenizer(["a b c d"] * 3)
    config = SeqVAEConfig(
        vocab_size=len(tokenizer), embedding_size=4, hidden_size=6, latent_size=2, pooling_mode="soft_max"
    )
    vae = SeqVAE(SeqVAEForTextModeling(config).eval(), tokenizer)
    vae.save_pretrained(tmp_path)
    assert SeqVAE.from_pretrained(tmp_path).encode(["a b", "c"]).tolist() == vae.encode(["a b", "c"]).tolist()


class ScaledPool(torch.nn.Module):
    """Has what no checkpoint holds: a buffer that is not persistent, and a plain tensor."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(hidden_size).cumsum(0), persistent=False)
        self.shift = torch.ones(hidden_size)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (states * mask[:, :, None]).sum(1) * self.scale + self.shift


def test_what_no_checkpoint_holds_of_a_part_is_made_anew_when_it_is_loaded(tmp_path: Path, registered: None) -> None:
    from modeling_seqvae import SeqVAEForTextModeling, SeqVAEModel

    torch.manual_seed(0)
    config = SeqVAEConfig(
        vocab_size=9, embedding_size=3, hidden_size=4, latent_size=2, pooling_mode=ScaledPool, initializer_range=1.0
    )
    model, ids = SeqVAEForTextModeling(config).eval(), torch.tensor([[1, 5, 6, 2]])
    model.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    for loaded in (SeqVAEForTextModeling.from_pretrained(tmp_path), SeqVAEModel.from_pretrained(tmp_path)):
        assert loaded.encode(ids).mean.equal(model.encode(ids).mean)
    half = SeqVAEForTextModeling.from_pretrained(tmp_path, dtype=torch.bfloat16)
    pooling = half.model.encoder.pooling
    assert pooling.scale.dtype == pooling.shift.dtype == torch.bfloat16
    torch.testing.assert_close(half.encode(ids).mean, model.encode(ids).mean, atol=0.1, rtol=0.1)
    assert torch.random.get_rng_state().equal(state)


def test_a_file_is_read_for_a_model_whose_parts_are_not_imported_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run's are not, when a command reads its file first: transformers would warn of a model of no type."""
    from transformers import configuration_utils

    shutil.copytree(ROOT / "tests" / "fixtures" / "checkpoint-v1", tmp_path / "checkpoint")
    config = tmp_path / "checkpoint" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"pooling_mode": "of_a_module"}), "utf-8")
    monkeypatch.setattr(configuration_utils.logger, "warning", pytest.fail)
    assert reading_of(str(tmp_path / "checkpoint")).tokenizer == "words"


OF_A_LIBRARY = """
from functools import partial
from torch.nn.functional import glu
from modeling_seqvae.registry import POOLINGS

def power_pool(states, mask, power):
    return (states * mask[:, :, None]).sum(1) ** power

POOLINGS.register("squares")(partial(power_pool, power=2))
POOLINGS.register("glu")(glu)
"""


def test_the_module_that_registers_a_part_travels_wherever_that_is_defined(tmp_path: Path, registered: None) -> None:
    (tmp_path / "of_a_library.py").write_text(OF_A_LIBRARY, "utf-8")
    import_parts([str(tmp_path / "of_a_library.py")])
    for name in ("squares", "glu"):
        assert [module.__name__ for module in own_modules(SeqVAEConfig(pooling_mode=name))] == ["of_a_library"]
    assert not own_modules(SeqVAEConfig(pooling_mode="attention", posterior="planar_flow", decoder="hybrid"))


def test_a_part_of_the_program_that_runs_cannot_travel(registered: None) -> None:
    exec(
        "POOLINGS.register('of_main')(lambda states, mask: states[:, 0])",
        {"POOLINGS": POOLINGS, "__name__": "__main__"},
    )
    with pytest.raises(ValueError, match="'of_main' is known in this process alone: let a module register it"):
        own_modules(SeqVAEConfig(pooling_mode="of_main"))


class LiftedDecoder(LSTMDecoder):
    """Changes z before the sentence is read."""

    def forward(self, latents: torch.Tensor, *words: Any, **options: Any) -> Any:
        return super().forward(5.0 + latents, *words, **options)


class ScaledDecoder(LSTMDecoder):
    """Changes what every step reads."""

    def _inputs(self, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        embeds, inputs = super()._inputs(*given)
        return embeds, 3.0 * inputs


def small_model(**parts: Any) -> SeqVAEForTextModeling:
    sizes = {"vocab_size": 9, "embedding_size": 3, "hidden_size": 4, "latent_size": 2, "initializer_range": 1.0}
    torch.manual_seed(0)
    return SeqVAEForTextModeling(SeqVAEConfig(**sizes, **parts)).eval()


@pytest.mark.parametrize("decoder", [LiftedDecoder, ScaledDecoder])
def test_likelihoods_are_of_what_a_decoder_of_ones_own_computes(decoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS, "changed", decoder)
    model, ids = small_model(decoder="changed"), torch.tensor([[1, 5, 6, 7, 2]])
    latents = torch.randn(3, 1, 2)
    with torch.no_grad():
        found = model.nll_given(latents, ids, torch.ones_like(ids))
        logits = [model.lm_head(model.model.decoder(z, ids)[0][-1])[:, :-1].log_softmax(-1) for z in latents]
    expected = [-each.gather(-1, ids[:, 1:, None]).sum((1, 2)) for each in logits]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("method", ["forward", "output"])
def test_an_encoder_that_features_would_not_call_is_refused(method: str) -> None:
    part = type("Reversed", (SeqVAEEncoder,), {method: lambda self, *given, **options: None})
    with pytest.raises(ValueError, match="not a subclass of SeqVAEEncoder that overrides make_layers, run or read"):
        ENCODERS.register("reversed")(part)


class OpenGate(torch.nn.Module):
    def __init__(self, hidden_size: int):
        super().__init__()
        self.gate = torch.nn.Linear(hidden_size, hidden_size)

    def reset_parameters(self) -> None:
        torch.nn.init.eye_(self.gate.weight)
        torch.nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.gate(states).sigmoid() * mask[:, :, None] * states).sum(1)


def test_a_part_has_the_last_word_on_its_initial_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POOLINGS, "open_gate", OpenGate)
    model = small_model(pooling_mode="open_gate")
    gate = model.model.encoder.pooling.gate
    assert gate.weight.equal(torch.eye(4)) and gate.bias.equal(torch.full((4,), 2.0))
    torch.nn.init.constant_(gate.bias, 7.0)
    model.save_pretrained(tmp_path)
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path).model.encoder.pooling.gate
    assert loaded.weight.equal(gate.weight) and loaded.bias.equal(gate.bias)


def test_what_a_part_lacks_is_told_before_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    half = SimpleNamespace(mean=None, centre=None, base=None, proposal=None, rsample=None, kl=None, at_centre=None)
    head = torch.nn.Identity()
    monkeypatch.setattr(head, "forward", lambda pooled: half)
    monkeypatch.setitem(POSTERIORS, "of_half", lambda hidden_size, config: head)
    with pytest.raises(ValueError, match=r"model.posterior of_half: its posteriors lack variance, draw, which"):
        resolve("max_pool", "demo", overrides=["model.posterior=of_half"])
    monkeypatch.setitem(OBJECTIVES, "by_mi", type("ByMi", (Elbo,), {"selects_by": "negative_mi"}))
    with pytest.raises(ValueError, match="chooses by 'negative_mi': the best epoch has the lowest bound or rec or kl"):
        resolve("max_pool", "demo", overrides=["training.objective=by_mi"])
    model = small_model(pooling_mode=first_state)
    with pytest.raises(ValueError, match=r"'first_state' must give one vector a text, .* and gave \(1, 1, 4\)"):
        model.encode(torch.tensor([[1, 5, 2]]))


def first_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[:, :1]


def test_a_head_is_looked_at_with_as_many_features_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    kept = GaussianPosterior(12, 32)
    monkeypatch.setitem(POSTERIORS, "in_groups", lambda width, config: widths.append(width) or kept)
    resolve("max_pool", "demo", "tiny", ["model.posterior=in_groups", "model.encoder_hidden_size=12"])
    assert set(widths) == {12}


def test_a_scheme_that_could_not_be_saved_and_a_callback_that_is_none_are_told(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["the food was good .", "never again !"] * 4})
    SCHEMES["of_tensors"] = type("OfTensors", (JointUpdate,), {"state_dict": lambda self: {"seen": torch.ones(1)}})
    try:
        recipe = resolve("max_pool", preset="tiny", overrides=["training.scheme=of_tensors"])
        with pytest.raises(ValueError, match=r"training.scheme of_tensors: its state_dict is written as JSON"):
            train_on(recipe, tmp_path / "run", rows, rows, progress=False)
    finally:
        del SCHEMES["of_tensors"]
    with pytest.raises(TypeError, match=r"callbacks are instances of training.callbacks.Callback, got <class"):
        train_on(resolve("max_pool", preset="tiny"), tmp_path / "two", rows, rows, progress=False, callbacks=[Callback])
    for wrong in (["a text"], rows.to_iterable_dataset()):
        with pytest.raises(TypeError, match=r"the rows must be a datasets.Dataset"):
            train_on(resolve("max_pool", preset="tiny"), tmp_path / "three", wrong, rows, progress=False)


POOL_OF_SHARDS = """from modeling_seqvae.registry import POOLINGS

@POOLINGS.register("of_shards")
def first_pool(states, mask):
    return states[:, 0]
"""


def test_features_that_were_half_written_by_other_code_are_not_continued(tmp_path: Path) -> None:
    from modeling_seqvae import train_tokenizer
    from modeling_seqvae.evaluation.encoding import encode_to_file

    module = tmp_path / "pool_of_shards.py"
    module.write_text(POOL_OF_SHARDS, "utf-8")
    import_parts([str(module)])
    tokenizer, rows = train_tokenizer(["a b c d"] * 3), Dataset.from_dict({"text": ["a b", "c", "d a"]})
    config = SeqVAEConfig(
        vocab_size=len(tokenizer), embedding_size=4, hidden_size=6, latent_size=2, pooling_mode="of_shards"
    )
    vae = SeqVAE(SeqVAEForTextModeling(config).eval(), tokenizer)
    encode, calls = vae.encode, 0

    def dies(texts: list[str], *arguments: Any) -> Any:
        nonlocal calls
        calls += bool(len(texts))
        if len(texts) and calls == 2:
            raise KeyboardInterrupt
        return encode(texts, *arguments)

    try:
        vae.encode = dies  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=1)
        module.write_text(POOL_OF_SHARDS.replace("states[:, 0]", "states[:, 1]"), "utf-8")
        importlib.reload(sys.modules["pool_of_shards"])
        with pytest.raises(ValueError, match="unfinished job with other model"):
            encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=1)
        module.write_text(POOL_OF_SHARDS, "utf-8")
        importlib.reload(sys.modules["pool_of_shards"])
        module.write_text("changed, and not imported again", "utf-8")
        encode_to_file(vae, rows, tmp_path / "a.npy", shard_rows=1)
    finally:
        POOLINGS.pop("of_shards")
        sys.modules.pop("pool_of_shards")


def test_the_code_of_a_module_is_known_before_it_is_imported_by_path_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_yet_imported.py").write_text("", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    by_name, by_path = code_of(["not_yet_imported"]), code_of([str(tmp_path / "not_yet_imported.py")])
    assert by_name == by_path != {} and code_of(["nowhere", "nowhere.py"]) == {}
