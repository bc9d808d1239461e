"""Options of parts of one's own: fields that a part adds to the configuration of the models that have it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling, train_tokenizer
from modeling_seqvae.decoders import LSTMDecoder
from modeling_seqvae.registry import DECODERS, OBJECTIVES, POOLINGS
from modeling_seqvae.reproduce import runner
from modeling_seqvae.reproduce.controls import controls
from modeling_seqvae.reproduce.request import Request
from modeling_seqvae.training.recipe import Recipe, resolve
from modeling_seqvae.training.run import take_over

SIZES: dict[str, Any] = {"vocab_size": 9, "embedding_size": 3, "hidden_size": 4, "latent_size": 2}
IDS = torch.tensor([[1, 5, 6, 7, 2], [1, 4, 2, 0, 0]])
MASK = (IDS != 0).long()


def power_pool(states: torch.Tensor, mask: torch.Tensor, *, exponent: float = 2.0) -> torch.Tensor:
    """The power mean of the states' magnitudes over the real tokens."""
    weights = mask.to(states.dtype)[:, :, None]
    return ((states.abs() ** exponent * weights).sum(1) / weights.sum(1)) ** (1 / exponent)


class GainedDecoder(LSTMDecoder):
    """Has an option that it reads from its configuration."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.gain = config.gain


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    POOLINGS.register("power")(power_pool)
    DECODERS.register("gained", gain=3, words="few")(GainedDecoder)
    yield
    for registry, name in ((POOLINGS, "power"), (DECODERS, "gained")):
        for known in (registry, registry.registered):
            known.pop(name, None)


def test_an_option_reaches_the_part_and_is_saved_with_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = SeqVAEConfig(**SIZES, pooling_mode="power", exponent=3, decoder="gained", initializer_range=1.0)
    model = SeqVAEForTextModeling(config).eval()
    states, found = model.get_encoder().read(IDS, MASK)
    for row, length in enumerate(MASK.sum(1)):
        torch.testing.assert_close(found[row], (states[-1][row, :length].abs() ** 3).mean(0) ** (1 / 3))
    assert model.get_decoder().gain == 3 and config.words == "few"
    model.save_pretrained(tmp_path)
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path)
    assert (loaded.config.exponent, loaded.config.gain, loaded.config.words) == (3, 3, "few")
    assert loaded.get_encoder().read(IDS, MASK)[1].equal(found)


def test_an_option_that_is_not_given_has_its_default() -> None:
    config = SeqVAEConfig(**SIZES, pooling_mode="power")
    assert config.exponent == 2.0 and config.options_of("pooling_mode", "decoder") == {"exponent": 2.0}
    plain = SeqVAEConfig(**SIZES)
    assert not hasattr(plain, "exponent") and plain.options_of("pooling_mode") == {}
    plain.pooling_mode = power_pool
    assert plain.exponent == 2.0


@pytest.mark.parametrize("value", ["two", True, None, [2.0]])
def test_an_option_is_of_the_type_of_its_default(value: Any) -> None:
    with pytest.raises(ValueError, match=r"exponent must be of the type of its default 2\.0, got"):
        SeqVAEConfig(**SIZES, pooling_mode="power", exponent=value)
    with pytest.raises(ValueError, match="overrides: model: exponent must be of the type of its default"):
        resolve("max_pool", "demo", overrides={"model.pooling_mode": "power", "model.exponent": value})
    with pytest.raises(ValueError, match=r"gain must be of the type of its default 3, got 3\.5"):
        SeqVAEConfig(**SIZES, decoder="gained", gain=3.5)


def pool_with(**defaults: Any) -> Any:
    """An aggregation with these keyword-only arguments."""
    arguments = ", ".join(f"{name}={default!r}" for name, default in defaults.items())
    space: dict[str, Any] = {"__name__": __name__}
    exec(f"def power_pool(states, mask, *, {arguments}):\n    return states[:, 0]", space)
    return space["power_pool"]


TAKEN = """temperature hidden_size pooling_mode to_dict model_type _hidden kwargs format_version auto_map self dtype
custom_pipelines rope_parameters quantization_config attn_implementation revision"""


@pytest.mark.parametrize("taken", TAKEN.split())
def test_an_option_has_a_name_of_its_own(taken: str) -> None:
    """transformers drops what `generate` takes, and some more, from what is saved: the option would be lost."""
    POOLINGS.register("power")(pool_with(**{taken: 1.0}))
    with pytest.raises(
        ValueError, match=f"pooling_mode='power' has an option '{taken}', which is the name of something"
    ):
        SeqVAEConfig(**SIZES, pooling_mode="power")


@pytest.mark.parametrize("name", ["mode", "name", "part", "default"])
def test_any_other_name_is_free(name: str, tmp_path: Path) -> None:
    POOLINGS.register("power")(pool_with(**{name: 1.0}))
    model = SeqVAEForTextModeling(SeqVAEConfig(**SIZES, pooling_mode="power", **{name: 3}))
    model.encode(IDS, MASK)
    model.save_pretrained(tmp_path)
    assert getattr(SeqVAEForTextModeling.from_pretrained(tmp_path).config, name) == 3


def test_two_parts_of_a_model_do_not_share_an_option() -> None:
    DECODERS.register("gained", exponent=1.0)(GainedDecoder)
    with pytest.raises(ValueError, match="has an option 'exponent', which is the name of something else"):
        SeqVAEConfig(**SIZES, pooling_mode="power", decoder="gained")


def test_what_is_no_plain_value_or_no_part_of_a_model_has_no_options() -> None:
    for default in ((1, 2), np.float64(2.0), None):
        with pytest.raises(ValueError, match="the default of size must be a number, a word, True or False, not "):
            DECODERS.register("sizes", size=default)  # type: ignore[arg-type]
    for registry, told in ((OBJECTIVES, "its keyword-only arguments"), (POOLINGS, "give the argument a default")):
        with pytest.raises(ValueError, match=rf"\.register\('mine'\) takes no options such as nats: .*{told}"):
            registry.register("mine", nats=1.0)


def test_an_aggregation_that_is_given_itself_has_the_same_options() -> None:
    def own_pool(states: torch.Tensor, mask: torch.Tensor, *, scale: float = 1.0, how: Any = None) -> torch.Tensor:
        return states[:, 0] * scale

    torch.manual_seed(0)
    plain, scaled = (SeqVAEConfig(**SIZES, pooling_mode=own_pool, scale=scale) for scale in (1.0, 3.0))
    assert scaled.options_of("pooling_mode") == {"scale": 3.0}
    encoder, other = (SeqVAEForTextModeling(config).get_encoder() for config in (plain, scaled))
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other.read(IDS, MASK)[1], 3 * encoder.read(IDS, MASK)[1])
    with pytest.raises(ValueError, match="'needy' has the argument width, an option, without a default"):
        POOLINGS.register("needy")(lambda states, mask, *, width: states[:, 0])


def test_another_part_begins_with_its_own_defaults() -> None:
    DECODERS.register("wide", gain=8)(type("WideDecoder", (GainedDecoder,), {"__module__": __name__}))
    try:
        config = SeqVAEConfig(**SIZES, decoder="gained")
        config.decoder = "wide"
        assert config.gain == 8 and not hasattr(config, "words")
        config.gain, config.decoder = 5, "lstm"
        assert not hasattr(config, "gain")
    finally:
        for known in (DECODERS, DECODERS.registered):
            known.pop("wide", None)


def test_a_recipe_takes_the_options_of_its_parts_and_no_others(tmp_path: Path) -> None:
    recipe = resolve("max_pool", "demo", overrides=["model.pooling_mode=power", "model.exponent=4"])
    assert recipe.sizes.exponent == 4
    recipe.save(tmp_path / "recipe.yaml")
    read = Recipe.load(tmp_path / "recipe.yaml")
    assert read == recipe
    other = resolve("max_pool", "demo", overrides=["model.pooling_mode=power", "model.exponent=5"])
    assert other.differences(read) == ["model.exponent is 4 there and 5 here"]
    with pytest.raises(ValueError, match="--set: model: 'exponent' is not one of embedding_size"):
        resolve("max_pool", "demo", overrides=["model.exponent=4"])
    with pytest.raises(ValueError, match=r"--set: model: 'exponet' is not one of .*, exponent"):
        resolve("max_pool", "demo", overrides=["model.pooling_mode=power", "model.exponet=4"])


def test_a_recipe_knows_the_options_that_nobody_gave() -> None:
    """A later version of a part may have other defaults."""
    recipe = resolve("max_pool", "demo", overrides=["model.pooling_mode=power"])
    POOLINGS.register("power")(pool_with(exponent=7.0))
    later = resolve("max_pool", "demo", overrides=["model.pooling_mode=power"])
    assert later.differences(recipe) == ["model.exponent is 2.0 there and 7.0 here"]


def test_a_part_that_takes_the_place_of_another_has_none_of_its_options(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: {pooling_mode: power, exponent: 4.0, decoder: gained, gain: 5}\n")
    (tmp_path / "derived.yaml").write_text("base: base.yaml\nmodel: {pooling_mode: max}\n")
    derived = resolve(str(tmp_path / "derived.yaml"), "demo")
    assert "exponent" not in derived.model and derived.sizes.gain == 5
    for overrides in (["model.decoder=lstm"], {"model.decoder": LSTMDecoder}):
        other = resolve(str(tmp_path / "base.yaml"), "demo", overrides=overrides)
        assert other.sizes.exponent == 4 and "gain" not in other.model
    for same in ({"model.pooling_mode": "power"}, {"model.pooling_mode": power_pool}):
        assert resolve(str(tmp_path / "base.yaml"), "demo", overrides=same).sizes.exponent == 4


def test_a_pretraining_that_names_the_same_part_keeps_its_options() -> None:
    overrides = ["model.decoder=gained", "model.gain=5", "pretraining.model.decoder=gained"]
    stage = resolve("unigram_pretraining", "demo", overrides=overrides).pretraining_recipe()
    assert stage is not None and stage.sizes.gain == 5


def test_an_untrained_control_is_of_the_encoder_with_its_options(tmp_path: Path) -> None:
    for name, exponent in (("mild", 4.0), ("sharp", 8.0)):
        text = f"title: {name}\nmodel: {{pooling_mode: power, exponent: {exponent}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    methods = [str(tmp_path / f"{name}.yaml") for name in ("mild", "sharp")]
    found = controls(Request(corpus="yelp_sentiment", preset="tiny"), methods)
    untrained = [control for control in found if control.name.startswith("untrained") and control.key == "mean"]
    assert [control.title for control in untrained] == [
        f"untrained encoder (power, exponent={exponent}): mean" for exponent in (4.0, 8.0)
    ]
    assert [control.measurements[0].settings["model"]["exponent"] for control in untrained] == [4.0, 8.0]


def test_a_pretraining_with_another_decoder_has_none_of_its_options() -> None:
    overrides = ["model.decoder=gained", "model.gain=5", "model.pooling_mode=power", "model.exponent=4"]
    recipe = resolve("unigram_pretraining", "demo", overrides=overrides)
    stage = recipe.pretraining_recipe()
    assert recipe.sizes.gain == 5 and stage is not None
    assert stage.model["decoder"] == "unigram" and "gain" not in stage.model and stage.sizes.exponent == 4


def test_an_encoder_with_another_option_is_not_taken_over(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d e"] * 3)
    config = SeqVAEConfig(**SIZES, pooling_mode="power", exponent=3.0)
    SeqVAE(SeqVAEForTextModeling(config).eval(), tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"it has exponent 3\.0 for 2\.0"):
        take_over(SeqVAEForTextModeling(SeqVAEConfig(**SIZES, pooling_mode="power")), str(tmp_path))


def test_the_modules_of_methods_are_imported_for_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of measurements too, which have no recipe."""
    (tmp_path / "parts_of_steps.py").write_text("")
    (tmp_path / "own.yaml").write_text("imports: [parts_of_steps.py]\nmodel: {pooling_mode: power}\n")
    given: list[list[str]] = []
    monkeypatch.setattr(runner, "run_steps", lambda *arguments, imports: given.append(imports) or {})
    monkeypatch.setattr(runner, "write", lambda *arguments: None)
    request = Request(methods=(str(tmp_path / "own.yaml"), "max_pool"), corpus="demo", preset="tiny")
    runner.reproduce("table1", request, tmp_path / "out")
    assert given == [[str(tmp_path / "parts_of_steps.py")]]
