"""Writes docs/api.md, what Python code may import: the signatures, and the beginnings of the docstrings.

python benchmarks/api.py
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import with_region

import modeling_seqvae as package
from modeling_seqvae import contracts, decoders, encoders, own_modules, registry, sharing
from modeling_seqvae.data import batching, corpora, corpus_spec, demo
from modeling_seqvae.evaluation import classify, dimensions, encoding, evaluate, positions, scoring
from modeling_seqvae.explore import opening
from modeling_seqvae.hub import export, push
from modeling_seqvae.reproduce import targets
from modeling_seqvae.training import callbacks, checkpoint, elbo, recipe, run, schedules, update

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"

SECTIONS: dict[str, list[Any]] = {
    "Strings": [package.SeqVAE, package.SeqVAEVectorizer],
    "The model, as in transformers": [package.SeqVAEConfig, package.SeqVAEForTextModeling, package.SeqVAEModel],
    "Training": [
        recipe.resolve,
        run.train,
        run.train_on,
        package.SeqVAETrainer,
        recipe.Recipe,
        callbacks.Callback,
        callbacks.KLAnnealingCallback,
        package.train_tokenizer,
        package.train_bpe_tokenizer,
        package.prepare_tokenizer,
    ],
    "Texts": [
        corpora.load_corpus,
        corpora.read_texts,
        corpus_spec.spec_from_path,
        run.read_corpus,
        batching.tokenise,
        batching.collate,
        demo.build,
        demo.true_nll,
    ],
    "Measuring": [
        checkpoint.load_best,
        checkpoint.evaluate_checkpoint,
        evaluate.Evaluator,
        evaluate.evaluate,
        scoring.score_to_file,
        encoding.encode_to_file,
        classify.classify,
        positions.piece_costs,
        dimensions.dimensions_of,
        dimensions.disentanglement,
    ],
    "Looking and sharing": [
        opening.open_explorer,
        push.push_run,
        push.PushOnBest,
        sharing.add_code,
        export.export_onnx,
        export.EncoderGraph,
    ],
    "Parts of your own": [
        registry.Registry,
        own_modules.import_parts,
        contracts.require_contracts,
        encoders.SeqVAEEncoder,
        decoders.Decoder,
        elbo.Elbo,
        update.JointUpdate,
        schedules.Schedule,
    ],
}
"""The headings of the page, and what stands under each."""

MAPPINGS = [
    f"from {module.__name__} import {', '.join(name for name, part in vars(module).items() if part in found)}"
    for module, found in (
        (registry, [part for part in vars(registry).values() if isinstance(part, registry.Registry)]),
        (targets, [targets.TARGETS]),
    )
]
"""The imports of what parts are registered in, by kind."""

METHODS = {package.SeqVAEConfig: (), recipe.Recipe: ("save", "load", "config", "pretraining_recipe", "differences")}
"""Of classes most of whose methods are for this package alone, those that are shown."""


def reference() -> str:
    """The page's sections."""
    return "\n\n".join(f"## {title}\n\n" + "\n\n".join(map(_entry, parts)) for title, parts in SECTIONS.items())


def _entry(part: Any) -> str:
    """Where a class or function is imported from, its docstring's first paragraph, and a class's methods."""
    home = package.__name__ if hasattr(package, part.__name__) else part.__module__
    imports = MAPPINGS if part is registry.Registry else [f"from {home} import {part.__name__}"]
    told = [f"### `{part.__name__}`", *(f"`{each}`" for each in imports)]
    if not inspect.isclass(part):
        return "\n\n".join([*told, f"`{_signature(part)}`", _first_paragraph(part)])
    arguments = "\n".join(f"- `{name}`: {meaning}" for name, meaning in _arguments(part))
    methods = "\n".join(f"- `{_signature(method)}`: {_first_paragraph(method)}" for method in _methods(part))
    if not arguments and part not in (registry.Registry, recipe.Recipe):
        told.append(f"`{_signature(part)}`")
    lists = (arguments and f"Arguments:\n\n{arguments}", methods and f"Methods:\n\n{methods}")
    return "\n\n".join(filter(None, [*told, _first_paragraph(part), *lists]))


def _arguments(part: type) -> list[tuple[str, str]]:
    """The names and meanings under `Args:` in a docstring."""
    _, _, listed = (inspect.getdoc(part) or "").partition("Args:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed.partition("\n\n")[0], re.MULTILINE)
    return [(name, re.sub(r"\s+", " ", meaning)) for name, meaning in entries]


def _methods(part: type) -> Iterator[Any]:
    """The public methods that a class has from the package's own, its bases' last; not what is as in its library."""
    seen, shown = set(), METHODS.get(part)
    for base in inspect.getmro(part):
        for name, method in vars(base).items() if base.__module__.startswith(package.__name__) else ():
            method = getattr(method, "__func__", method)
            own = inspect.isfunction(method) and not name.startswith("_") and name not in seen
            as_elsewhere = own and (method.__doc__ or "As in").startswith("As in")
            if own and (not as_elsewhere if shown is None else name in shown):
                yield method
            seen.add(name)


def _signature(part: Any) -> str:
    """A call with the names of the arguments and their defaults."""
    arguments = inspect.signature(part).parameters.values()
    shown = [each.replace(annotation=each.empty) for each in arguments if each.name not in ("self", "cls")]
    return f"{part.__name__}{inspect.Signature(shown)}"


def _first_paragraph(part: Any) -> str:
    return re.sub(r"\s+", " ", (inspect.getdoc(part) or "").split("\n\n")[0]).removesuffix(":").strip()


if __name__ == "__main__":
    PAGE.write_text(with_region(PAGE.read_text("utf-8"), "reference", reference()), "utf-8")
