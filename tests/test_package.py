"""What is installed works: from a wheel away from the checkout, from an editable install, and from the checkout."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "modeling_seqvae",
    "configuration",
    "model_cards",
)
CONFIGURATION_FILES = sorted(
    path.relative_to(CHECKOUT / "configuration").as_posix() for path in (CHECKOUT / "configuration").rglob("*.yaml")
)


@dataclass(frozen=True)
class Installation:
    """One way to have the package: the Python that sees it, and the folders it must come from."""

    python: Path
    package: Path
    configuration: Path
    environment: dict[str, str]
    folder: Path  # where commands run: empty, outside the checkout

    def run(self, *command: str | Path) -> str:
        """The output of a command that must succeed."""
        return run(*command, cwd=self.folder, environment=self.environment)

    def evaluate(self, statement: str) -> str:
        return self.run(self.python, "-c", statement).strip()


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def outside_environment(home: Path) -> dict[str, str]:
    """This process's environment without a way to the checkout, to caches or to the network's hub."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    return environment | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        # a plain, wide page of help
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }


def fresh_environment(folder: Path) -> Path:
    """The Python of a new virtual environment that holds nothing, and behind it the libraries of this one.

    Folders named in a .pth file come after the environment's own, and the .pth files in them (a checkout installed
    for development is one) are not followed.
    """
    venv.create(folder, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / ("python.exe" if os.name == "nt" else "python")
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    libraries = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
    (own / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return python


def pip_install(python: Path, *what: str | Path) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=python.parent)


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the distribution is built from, so that building leaves nothing in the checkout."""
    tree = tmp_path_factory.mktemp("source") / "seqvae"
    tree.mkdir()
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    return tree


@pytest.fixture(scope="module")
def distributions(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source archive and the wheel built from that archive."""
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source_tree, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel_installation(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    root = tmp_path_factory.mktemp("wheel")
    python = fresh_environment(root / "environment")
    pip_install(python, next(distributions.glob("*.whl")))
    library = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=root).strip())
    return installation(root, python, library / "modeling_seqvae", library / "modeling_seqvae" / "configuration")


@pytest.fixture(scope="module")
def editable_installation(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    root = tmp_path_factory.mktemp("editable")
    python = fresh_environment(root / "environment")
    pip_install(python, "--editable", source_tree)
    return installation(root, python, source_tree / "modeling_seqvae", source_tree / "configuration")


@pytest.fixture(scope="module")
def checkout_installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    root = tmp_path_factory.mktemp("checkout")
    python = fresh_environment(root / "environment")
    plain = installation(root, python, CHECKOUT / "modeling_seqvae", CHECKOUT / "configuration")
    plain.environment["PYTHONPATH"] = str(CHECKOUT)
    return plain


def installation(root: Path, python: Path, package: Path, configuration: Path) -> Installation:
    folder = root / "elsewhere"
    folder.mkdir()
    return Installation(python, package, configuration, outside_environment(root / "home"), folder)


@pytest.mark.parametrize("way", ["wheel", "editable", "checkout"])
def test_configuration_and_template_travel_with_the_package(way: str, request: pytest.FixtureRequest) -> None:
    installed: Installation = request.getfixturevalue(f"{way}_installation")
    package, root, template = installed.evaluate(
        "import modeling_seqvae; from modeling_seqvae.training.configuration import configuration_root;"
        "from modeling_seqvae.training.card import template_path;"
        "print(modeling_seqvae.__file__); print(configuration_root()); print(template_path())"
    ).splitlines()
    assert Path(package).parent.resolve() == installed.package.resolve()
    assert Path(root).resolve() == installed.configuration.resolve()
    found = {path.relative_to(root).as_posix() for path in Path(root).rglob("*.yaml")}
    assert "methods/max_pool.yaml" in found
    assert found == set(CONFIGURATION_FILES)
    assert Path(template).parent.resolve() == installed.configuration.with_name("model_cards").resolve()
    assert Path(template).read_bytes() == (CHECKOUT / "model_cards" / "template.md").read_bytes()


def test_wheel_holds_no_model(wheel_installation: Installation) -> None:
    """Beside the template stand checkpoints, in the checkout."""
    assert [path.name for path in (wheel_installation.package / "model_cards").iterdir()] == ["template.md"]


def test_wheel_is_typed_and_carries_its_licence_and_version(wheel_installation: Installation) -> None:
    assert (wheel_installation.package / "py.typed").is_file()
    version, described, licence = wheel_installation.evaluate(
        "import importlib.metadata as m, modeling_seqvae; d = m.metadata('seqvae');"
        "print(modeling_seqvae.__version__, d['Version'], d['License-Expression'])"
    ).split()
    assert version == described == yaml.safe_load((CHECKOUT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert licence == "Apache-2.0"


def test_what_the_wheel_asks_for_is_what_it_runs_on(wheel_installation: Installation) -> None:
    """`make test-newest` and `make test-oldest` ask this of the libraries that the ranges admit."""
    command = [sys.executable, "-m", "pip", "--python", str(wheel_installation.python), "check"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=wheel_installation.folder).stdout
    assert "seqvae" not in told, told


def requirements() -> dict[str, Requirement]:
    """Everything setup.py names with a lower bound, the extras' libraries included."""
    texts = {node.value for node in ast.walk(ast.parse((CHECKOUT / "setup.py").read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">=" in node.value}  # fmt: skip
    named = [Requirement(text) for text in texts if text[0].isalpha()]
    return {canonicalize_name(requirement.name): requirement for requirement in named}


def pins(name: str) -> dict[str, Version]:
    lines = [line.strip() for line in (CHECKOUT / name).read_text(encoding="utf-8").splitlines()]
    parts = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(library): Version(version) for library, _, version in parts}


def test_oldest_constraints_are_the_lower_bounds() -> None:
    """All but torch's, whose build is too large, and that of a library that the tests do without."""
    bounds = {
        name: Version(specifier.version)
        for name, requirement in requirements().items()
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    without = {"torch", "wandb"}
    assert pins("constraints-oldest.txt") == {name: bound for name, bound in bounds.items() if name not in without}


def test_constraints_are_inside_the_ranges() -> None:
    pinned = pins("constraints.txt")
    for name, requirement in requirements().items():
        assert name == "wandb" or pinned[name] in requirement.specifier, name


def test_source_archive_holds_what_the_wheel_is_built_from(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "setup.py", "modeling_seqvae/py.typed"} <= names
    assert {f"configuration/{name}" for name in CONFIGURATION_FILES} <= names


def test_installed_command_shows_its_help(wheel_installation: Installation) -> None:
    command = wheel_installation.python.parent / "seqvae"
    described = wheel_installation.run(command, "--help")
    for name in ("train", "evaluate", "encode", "sample", "reconstruct", "interpolate"):
        assert name in described


def test_installed_command_trains_evaluates_and_encodes(wheel_installation: Installation) -> None:
    """The demo corpus, methods and presets are in the wheel; nothing of the checkout is needed."""
    command, folder = wheel_installation.python.parent / "seqvae", wheel_installation.folder
    limits = ("--limit", "train=200", "--limit", "validation=50", "--limit", "test=20")
    sizes = ("--set", "model.hidden_size=16", "--set", "training.epochs=1", "--set", "pretraining.training.epochs=1")
    told = wheel_installation.run(command, "train", "--corpus", "demo", "--output-dir", "run", *limits, *sizes)
    assert "best epoch 1" in told
    table = wheel_installation.run(command, "evaluate", "run", "--limit", "test=20", "--nll-samples", "5")
    assert "MaxPool + unigram pretraining" in table and "20 sentences" in table
    assert json.loads((folder / "run" / "evaluation-first20.json").read_text(encoding="utf-8"))["nll_samples"] == 5
    (folder / "texts.txt").write_text("the food was great .\nwe may return one day .\n", encoding="utf-8")
    module = (wheel_installation.python, "-m", "modeling_seqvae")  # the same command
    wheel_installation.run(*module, "encode", "run", "texts.txt", "--output", "features.npy")
    assert np.load(folder / "features.npy").shape == (2, 32)


@pytest.mark.parametrize("name", ["cpu", "gpu_bf16", "multi_gpu", "multi_node"])
def test_launch_files_are_understood_by_accelerate(name: str) -> None:
    path = str(CHECKOUT / "configuration" / "accelerate" / f"{name}.yaml")
    configuration = load_config_from_file(path)  # refuses unknown keys
    assert configuration.num_processes >= configuration.num_machines
