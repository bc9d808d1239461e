"""A run's page as a Space of the Hugging Face hub: the model, what shows it, and maybe texts for its map."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import SpaceCardData

from ..data.columns import labels_of, texts_of
from ..data.files import dump_yaml, json_lines
from ..evaluation.writing import csv_quoting
from ..loading import RECIPE
from ..own_modules import modules_of, own_source
from ..training.checkpoint import load_best, texts_for
from ..training.configuration import PACKAGE, configuration_root
from ..training.recipe import Recipe
from ..training.run_directory import HISTORY, require_history
from ..training.specs import PARTS as OF_TRAINING
from .push import Contents, checkpoint_files, require_run, without_local_paths

GRADIO = "6.31.0"
"""The Gradio of a Space where none is installed here to take the version from."""

TEXTS = 2_000
"""Texts that a Space shows on its map, at most; of more, some are drawn at random."""

APP = '''"""The page of the package seqvae, on the model beside this file."""

from pathlib import Path

from modeling_seqvae.explore.opening import open_explorer
from modeling_seqvae.explore.page import launch

here = Path(__file__).resolve().parent
launch(open_explorer(str(here / "model"){texts}), host=None)
'''

CARD = """---
{metadata}
---

# {title}

A page to explore a sequence VAE on text: a map of texts by what the model holds of them, new sentences, ways between
two texts, single dimensions of its latent, and what each word of a text costs. {texts}

The same page runs on your machine, of any model of the package:

    pip install 'seqvae[explore]'
    seqvae explore RUN_OR_ID
"""


def space_contents(
    run: str | Path,
    *,
    texts: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    code: bool = True,
    licence: str | None = None,
) -> Contents:
    """All files of a Space that shows a run's best model: app.py, requirements.txt, README.md, and the model's own.

    With `code` it carries this package; without, its requirements name it, and it must be on PyPI. `texts` is a file
    whose texts everybody who sees the Space can read; without one the map shows the run's validation set where that is
    part of the package, else sentences that the model writes. Raises what `contents` of hub/push.py raises, and
    ValueError for a language model and for a file without texts.
    """
    run = Path(run)
    recipe, best = Recipe.load(require_run(run)), load_best(str(run))
    best.model.model._require_latent("be explored")
    folder = Path(best.model.name_or_path)
    own = own_sources(recipe)
    shared = without_local_paths(recipe).model_copy(update={"imports": list(own)})
    files: dict[str, bytes | Path] = {f"model/{name}": it for name, it in checkpoint_files(folder, False).items()}
    files[f"model/{RECIPE}"] = dump_yaml(shared.model_dump(mode="json")).encode()
    files[f"model/{HISTORY}"] = json_lines(require_history(run)).encode()
    files |= {f"{name}.py": text.encode() for name, text in own.items()}
    title = f"{recipe.title} on {recipe.corpus.name}"
    notes = []
    if texts is not None:
        table, left_out = _table(texts, str(run), text_column, label_column)
        files["texts.csv"] = table.to_csv(index=False, quoting=csv_quoting(table)).encode()
        some = f" of {len(table) + left_out:,}, drawn at random" if left_out else ""
        notes.append(f"texts.csv holds {len(table):,} texts{some}: everybody who sees the Space can read them")
    files["app.py"] = APP.format(texts=_arguments(texts is not None, label_column is not None)).encode()
    files["requirements.txt"] = "".join(f"{line}\n" for line in _requirements(code)).encode()
    files["README.md"] = _card(title, texts is not None, licence).encode()
    return Contents(files | (dict(_package()) if code else {}), f"the page of {title}", notes)


def own_sources(recipe: Recipe) -> dict[str, str]:
    """The text of the modules of one's own whose parts a recipe names, those of its training included, by their names.

    The Space reads the recipe, which needs all of them.
    """
    stages = [stage for stage in (recipe, recipe.pretraining_recipe()) if stage]
    parts = [
        *(part for stage in stages for part in stage.sizes.chosen_parts()),
        *((registry, getattr(stage.training, field)) for stage in stages for field, registry in OF_TRAINING.items()),
    ]
    own = dict(map(own_source, modules_of(parts)))
    for name in own:
        if not name.isidentifier() or name == "app":
            raise ValueError(f"a module called {name} cannot stand in a Space: rename it")
    return own


def _arguments(texts: bool, labels: bool) -> str:
    if not texts:
        return ""
    return ', here / "texts.csv", "text"' + (', "label"' if labels else "")


def _table(path: Path, checkpoint: str, text_column: str | None, label_column: str | None) -> tuple[pd.DataFrame, int]:
    """The texts of a file with their labels, and how many more there are."""
    rows, _ = texts_for(checkpoint, path, text_column, label_column)
    table = pd.DataFrame({"text": list(texts_of(rows))})
    labels = labels_of(rows)
    if labels is not None:
        table["label"] = labels
    table = table[table["text"].str.strip() != ""]
    if table.empty:
        raise ValueError(f"{path} holds no texts, and without any there is no map: the Space would not start")
    chosen = np.sort(np.random.default_rng(0).permutation(len(table))[:TEXTS])
    return table.iloc[chosen], len(table) - len(chosen)


def _requirements(code: bool) -> Iterator[str]:
    """What a Space installs: this package, or what it needs where it travels along."""
    yield f"gradio=={_gradio()}"
    if not code:
        yield f"seqvae=={version('seqvae')}"
        return
    try:
        needed = requires("seqvae") or []
    except PackageNotFoundError:
        raise ValueError("what a Space has to install is not known: install this package, by pip install .") from None
    yield from (line for line in needed if "extra ==" not in line)


def _gradio() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO


def _card(title: str, texts: bool, licence: str | None) -> str:
    metadata = SpaceCardData(
        title=title, emoji="🗺️", sdk="gradio", sdk_version=_gradio(), python_version="3.11", app_file="app.py",
        license=licence, tags=["seqvae"],
    )  # fmt: skip
    told = "The texts of its map are in `texts.csv`." if texts else ""
    return CARD.format(metadata=metadata.to_yaml(), title=title, texts=told)


def _package() -> Iterator[tuple[str, Path]]:
    """The files of this package, and its configuration inside it, as installed."""
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".js", ".css") and "__pycache__" not in path.parts:
            yield f"modeling_seqvae/{path.relative_to(PACKAGE).as_posix()}", path
    root = configuration_root()
    for path in sorted(root.rglob("*.yaml")):
        yield f"modeling_seqvae/configuration/{path.relative_to(root).as_posix()}", path
