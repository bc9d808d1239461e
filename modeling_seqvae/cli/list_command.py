"""The command `list`: what can be named in options and recipes, one table each."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from .app import app, note
from .options import TRAIN


@app.command("list", rich_help_panel=TRAIN)
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="methods, corpora, presets, targets (of reproduce), encoders, poolings, posteriors, decoders, "
            "objectives, schemes, optimizers, kl_schedules or lr_schedules.",
        ),
    ] = None,
) -> None:
    """List the available methods, corpora, presets and more.

    Without a KIND it lists the kinds. Example: seqvae list methods
    """
    tables = _tables()
    if kind is None:
        print("\n".join(tables))
        return
    if kind not in tables:
        raise ValueError(f"{kind!r} is not one of {', '.join(tables)}")
    rows = tables[kind]()
    headings = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [headings, *([row[name] for name in headings] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    note(f"{len(rows)} {kind}")


def _tables() -> dict[str, Callable[[], list[dict[str, str]]]]:
    """What makes the rows of each kind: text by heading."""
    from ..configuration_seqvae import SeqVAEConfig  # noqa: F401 - registers poolings, posteriors and decoders
    from ..registry import DECODERS, ENCODERS, POOLINGS, POSTERIORS
    from ..training.specs import CHOICES

    parts = {"encoder": ENCODERS, "pooling": POOLINGS, "posterior": POSTERIORS, "decoder": DECODERS, **CHOICES}
    found: dict[str, Callable[[], list[dict[str, str]]]] = {
        "methods": _methods,
        "corpora": _corpora,
        "presets": _presets,
        "targets": _targets,
    }
    for name, choices in parts.items():
        found[f"{name}s"] = partial(_choices, choices)
    return found


def _methods() -> list[dict[str, str]]:
    from ..configuration_seqvae import SeqVAEConfig
    from ..training.configuration import available, method_settings
    from ..training.recipe import leaves
    from ..training.specs import TrainingSpec

    rows = []
    for name in available("methods"):
        settings = method_settings(name)
        model, training = (dict(settings.get(section, {})) for section in ("model", "training"))
        config = SeqVAEConfig(**model)
        latent = config.latent_size > 0
        shown = {
            "pooling": config.pooling_mode if latent else "-",
            "posterior": config.posterior if latent else "-",
            "decoder": config.decoder,
            "objective": str(training.get("objective", TrainingSpec().objective)),
        }
        own = {key: value for key, value in model.items() if key not in ("pooling_mode", *shown)}
        own |= {key: value for key, value in training.items() if key not in shown and value != {}}
        besides = [f"{key}={value}" for key, value in leaves(own)]
        besides += ["pretraining"] if settings.get("pretraining") else []
        rows.append({"method": name, "title": str(settings["title"]), **shown, "besides": " ".join(besides)})
    return rows


def _corpora() -> list[dict[str, str]]:
    from ..training.configuration import available
    from ..training.recipe import corpus_and_preset

    rows = []
    for name in available("corpora"):
        spec, preset = corpus_and_preset(name)
        places = {"built in": spec.embedded, "files": spec.files, "hub": spec.hub}
        labels = "if its files have them" if spec.labelled == "auto" else "yes" if spec.labelled else "no"
        texts = " or ".join(place for place, there in places.items() if there)
        rows.append({"corpus": name, "texts": texts, "labels": labels, "preset": preset})
    return rows


def _presets() -> list[dict[str, str]]:
    from ..training.configuration import available, named_settings
    from ..training.specs import TrainingSpec

    sizes = {"embedding": "embedding_size", "hidden": "hidden_size", "latent": "latent_size"}
    schedule = ("optimizer", "learning_rate", "lr_schedule", "batch_size", "epochs", "updates", "precision")
    rows = []
    for name in available("training"):
        settings, _ = named_settings("training", name)
        spec = TrainingSpec(**settings["training"])
        row = {"preset": name} | {heading: str(settings["model"][field]) for heading, field in sizes.items()}
        values = {field: getattr(spec, field) for field in schedule}
        values["updates"] = "" if spec.updates is None else "{} to {}".format(*spec.updates)
        rows.append(row | {field: str(value) for field, value in values.items()})
    return rows


def _targets() -> list[dict[str, str]]:
    from ..reproduce.targets import TARGETS

    return [{"target": name, "what": target.summary} for name, target in TARGETS.items()]


def _choices(choices: Mapping[str, Any]) -> list[dict[str, str]]:
    """The names of a mapping, with the options of each, and the first line of what stands in its docstring."""
    return [
        {"name": name, "options": _options(choices, name), "what": _first_line(choice)}
        for name, choice in choices.items()
    ]


def _options(choices: Mapping[str, Any], name: str) -> str:
    """What a part can be told, with the defaults: fields of the model, or an objective's `objective_options`."""
    from ..registry import OBJECTIVES, Registry, keyword_arguments

    if choices is OBJECTIVES:
        return " ".join(str(each.replace(annotation=each.empty)) for each in keyword_arguments(choices[name]))
    of_model = choices.options_of(name) if isinstance(choices, Registry) else {}
    return " ".join(f"{option}={default!r}" for option, default in of_model.items())


def _first_line(choice: Any) -> str:
    documented = choice if inspect.isroutine(choice) or inspect.isclass(choice) else None
    for name in ("func", "weight"):  # of a partial, of a schedule
        documented = getattr(choice, name, documented)
    lines: Sequence[str] = (inspect.getdoc(documented) or "").splitlines() if documented else []
    return lines[0].strip() if lines else ""
