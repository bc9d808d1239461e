"""What must be true of a checkpoint before it is loaded for strings, told in a sentence where it is not."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .configuration_seqvae import SeqVAEConfig
from .modeling_seqvae import SeqVAEForTextModeling
from .sharing import is_broken_connection
from .tokenization import vocabulary_hash

RECIPE = "recipe.yaml"
"""What a run's directory holds, beside its checkpoints."""


def best_of(source: str) -> str:
    """RUN/best where `source` is the directory of a run; any other folder, or name on the hub, is itself.

    A folder with a config.json is a checkpoint, whatever stands beside it. Raises FileNotFoundError for a run that has
    no checkpoint yet.
    """
    folder = Path(source)
    if (folder / "config.json").is_file():
        return source
    if (folder / "best").is_dir():
        return str(folder / "best")
    stage = folder / "pretraining"
    if (folder / RECIPE).is_file() or (stage / RECIPE).is_file():
        instead = f"; its pretraining has one: {stage}" if (stage / "best").is_dir() else ""
        raise FileNotFoundError(
            f"{source} is a run without a checkpoint yet: train it with --resume to the end of an epoch{instead}"
        )
    return source


def require_no_run(folder: Path) -> None:
    """Refuse to put a checkpoint beside that of a run: `best_of` would then read it in place of the run's own."""
    if (folder / RECIPE).is_file() and (folder / "best").is_dir():
        raise ValueError(
            f"{folder} is a run, whose model is {folder / 'best'}: save to another folder, or to that one if this "
            "model is to take its place"
        )


def require_match(config: SeqVAEConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that is not the model's: too many words, other tokens around a sentence, or other words.

    Words are compared where the configuration has a `vocabulary_hash`, as it has after training.
    """
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens but the model's vocab_size is {config.vocab_size}: "
            "they do not belong together"
        )
    eos = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    around = tokenizer("")["input_ids"]
    if around not in [[config.bos_token_id, id_] for id_ in eos]:
        raise ValueError(
            f"the tokenizer must put <s> and </s> around a sentence, which in this model are {config.bos_token_id} and "
            f"{config.eos_token_id}, but it puts {around}: use the tokenizer that train_tokenizer made for the model"
        )
    if config.vocabulary_hash is not None and config.vocabulary_hash != vocabulary_hash(tokenizer):
        raise ValueError(
            "the tokenizer's words, or their ids, are not those that the model was trained with: use the tokenizer "
            "saved beside it; where words were changed on purpose, set vocabulary_hash to null in its config.json"
        )


def load_model(source: str, **kwargs: Any) -> SeqVAEForTextModeling:
    """The model of a checkpoint, weights from safetensors only; arguments are those of transformers.

    Raises ValueError for a config.json with a field of the wrong type, for weights that are damaged, and where tensors
    that config.json speaks of are missing or of another shape: they would be random.
    """
    options = {**kwargs, "use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with explaining_damage(source):
        model, found = SeqVAEForTextModeling.from_pretrained(source, **options)
    advice = "save it again with save_pretrained of SeqVAE or SeqVAEForTextModeling, and leave config.json as it was"
    if found["mismatched_keys"]:
        name, there, wanted = min(found["mismatched_keys"])
        raise ValueError(
            f"{source}: {name} is {tuple(there)} in the weights, but by config.json {tuple(wanted)}: {advice}"
        )
    if found["missing_keys"]:
        raise ValueError(f"{source}: the weights lack {_some(found['missing_keys'])}: {advice}")
    return model


@contextmanager
def explaining_damage(source: str) -> Iterator[None]:
    """Weights that are cut and fields of the wrong type as a ValueError, which the libraries' own errors are not."""
    try:
        yield
    except SafetensorError as error:
        raise ValueError(
            f"{source}: its .safetensors file is damaged or was cut short ({error}): copy or download it again"
        ) from error
    except StrictDataclassError as error:
        raise ValueError(f"{source}: config.json is not one of a SeqVAE: {wrong_field(error)}") from error


def wrong_field(error: StrictDataclassError) -> str:
    """What huggingface_hub found wrong with a field of a configuration, without what it lists behind that."""
    return str(error.__cause__ or error).partition(". Errors: ")[0]


@contextmanager
def explaining_broken_connection(source: str) -> Iterator[None]:
    """A connection that breaks in the middle of a file as what it is, where the libraries suspect a missing file."""
    try:
        yield
    except OSError as error:
        if not is_broken_connection(error):
            raise
        raise ConnectionError(f"the hub hung up while {source} was on its way here: load it again") from error


def require_checkpoint(source: str, hub_arguments: dict[str, Any]) -> None:
    """Refuse what is not a SeqVAE checkpoint before transformers makes something else of it."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, **hub_arguments)
    except OSError as error:
        raise FileNotFoundError(
            f"no SeqVAE checkpoint at {source!r}: it is not a folder with a config.json, and as a model on the hub it "
            f"could not be read: {error}"
        ) from error
    except (AttributeError, TypeError):  # transformers takes what it holds for an object
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{source}: config.json holds something else than an object of fields")
    if not config:
        inside = sorted(path.parent for path in Path(source).glob("*/config.json"))
        hint = f" (there is one in {inside[0]})" if inside else ""
        raise FileNotFoundError(f"no SeqVAE checkpoint at {source!r}: it holds no config.json{hint}")
    if config.get("model_type") != SeqVAEConfig.model_type:
        raise ValueError(
            f"{source} holds a model of type {config.get('model_type')!r}; SeqVAE reads {SeqVAEConfig.model_type!r}"
        )


def _some(names: Iterable[str]) -> str:
    """The first of some names, and how many there are beside them."""
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} others" if len(listed) > 3 else "")
