"""Imports of modeling_seqvae point one way, and importing the package stays light."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "modeling_seqvae"

# Each line knows only the lines above it. The root files also know only the root files before them.
ROOT_FILES = (
    "registry",
    "own_modules",
    "carried_parts",
    "argument_checks",
    "embedding_formats",
    "kernels",
    "pooling",
    "transfers",
    "noise",
    "gaussian",
    "flows",
    "implicit",
    "vmf",
    "refinement",
    "posteriors",
    "likelihood",
    "outputs",
    "tokenization",
    "decoders",
    "convolutional_decoders",
    "encoders",
    "imported_parts",
    "configuration_seqvae",
    "generation",
    "aggregate",
    "modeling_seqvae",
    "checksums",
    "sharing",
    "loading",
    "text_batches",
    "contracts",
    "latent_space",
    "text",
    "pipelines",
)
# The trainer measures with the code that evaluates, so evaluation stands before it.
FOLDERS = ("data", "evaluation", "training", "reproduce", "hub", "explore")
ENTRIES = ("cli", "__main__")
ORDER = (*ROOT_FILES, *FOLDERS, *ENTRIES)

# The façade: gathers public names, and nothing inside the package reads from it but the version.
FACADE = "__init__"

MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


class Import(NamedTuple):
    """One imported name: `from ..data import demo` in training/trainer.py is ("data/demo", line, 2)."""

    target: str  # the module in the form of MODULES; the façade for names of the package itself
    name: str
    line: int
    level: int  # leading dots; 0 for an absolute import


def module_path(dotted: str, name: str) -> str:
    """The file that `from dotted import name` runs: the submodule `name` if there is one, else the module itself."""
    base = dotted.replace(".", "/")
    for candidate in (f"{base}/{name}", base, f"{base}/__init__"):
        if candidate.strip("/") in MODULES:
            return candidate.strip("/")
    return base.strip("/")


def imports_of(module: str) -> Iterator[Import]:
    """Every import of a module's own package, wherever it stands: at the top, in a function, for type checkers."""
    folder = module.split("/")[:-1]
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            dotted = node.module or ""
            if node.level:
                parents = folder[: len(folder) - node.level + 1]
                dotted = ".".join([*parents, *filter(None, [dotted])])
            elif dotted.split(".")[0] == PACKAGE.name:
                dotted = dotted.partition(".")[2]
            else:
                continue
            for alias in node.names:
                yield Import(module_path(dotted, alias.name) or FACADE, alias.name, node.lineno, node.level)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == PACKAGE.name:
                    yield Import(module_path(rest, "") or FACADE, "", node.lineno, 0)


def rank(module: str) -> int:
    """Position in the one-way order; all modules of a folder share the folder's."""
    return ORDER.index(module.split("/")[0])


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_place(module: str) -> None:
    assert module == FACADE or module.split("/")[0] in ORDER, f"give {module} its place in ORDER"


@pytest.mark.parametrize("module", [module for module in MODULES if module != FACADE])
def test_imports_point_one_way(module: str) -> None:
    for found in imports_of(module):
        where = f"{module}.py, line {found.line}"
        if found.target == FACADE:
            assert found.name == "__version__", f"{where}: import {found.name} from the module that defines it"
        elif "/" in module and module.split("/")[0] == found.target.split("/")[0]:
            continue  # neighbours in one folder; the next test keeps them free of cycles
        else:
            assert rank(found.target) < rank(module), f"{where}: {module} must not know {found.target}"


def test_no_import_cycles() -> None:
    graph = {module: {found.target for found in imports_of(module)} - {FACADE} for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the cycle


def test_no_two_files_share_a_basename() -> None:
    """A name says where a thing is."""
    names = Counter(Path(module).name for module in MODULES)
    assert [name for name, count in names.items() if count > 1 and name != FACADE] == []


def test_one_place_asks_which_processes_there_are() -> None:
    """A bare PartialState() before the Accelerator would make each of several processes on CPUs one alone."""
    asking = [module for module in MODULES if "PartialState(" in (PACKAGE / f"{module}.py").read_text("utf-8")]
    assert asking == ["data/launch"]


@pytest.mark.parametrize("module", [name for name in ROOT_FILES if name in MODULES])
def test_root_files_can_travel_with_a_checkpoint(module: str) -> None:
    """A checkpoint carries its code as flat files, which transformers follows only through `from .name import`."""
    for found in imports_of(module):
        where = f"{module}.py, line {found.line}"
        assert found.level == 1, f"{where}: write `from .{found.target} import ...`"
        assert found.target in ROOT_FILES and found.name != found.target, f"{where}: import names, not the module"


def test_importing_the_package_loads_no_data_set_estimator_or_plotting_library() -> None:
    """Beyond what transformers itself loads for a model and its tokenizer."""
    program = (
        "import sys; from transformers import AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel\n"
        "from transformers import PreTrainedTokenizerFast; before = set(sys.modules); import modeling_seqvae\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"datasets", "gradio", "matplotlib", "pandas", "sklearn", "tensorboard", "wandb"}
