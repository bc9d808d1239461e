"""What another machine lacks, in one folder: wheels of missing libraries, and a corpus, compressed.

Only the standard library is imported where a pack is opened: the libraries are what is in it.
"""

import bz2
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GIVEN = (
    "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "accelerate", "numpy", "pandas", "pyarrow",
    "scikit-learn",
)  # fmt: skip
"""What a machine with a GPU is expected to have: with what these bring, gigabytes."""
PYTHON = "3.12"
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "linux_x86_64")
WHEELS, CORPUS, INDEX = "wheels", "corpus", "pack.json"


def pack(folder: Path, corpus: str, data_dir: Path, wheels: bool = True) -> dict[str, Any]:
    """Fill `folder` with wheels of what is not GIVEN, for PYTHON, and a corpus of files; returns what is in it.

    Libraries have the versions that are installed here. Raises FileNotFoundError for a file that is not there,
    ValueError for a corpus that is not of files, CalledProcessError where pip cannot get a wheel.
    """
    files = corpus_files(corpus)
    for path in files.values():
        if not (data_dir / path).is_file():
            raise FileNotFoundError(
                f"{data_dir / path} is missing: say with --data-dir where the files of {corpus} are"
            )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = missing_libraries() if wheels else {}
    if found:
        download(found, folder / WHEELS)
    for path in files.values():
        compress(data_dir / path, folder / CORPUS / f"{path}.bz2")
    index = {"python": PYTHON, "libraries": found, "corpus": corpus, "files": sorted(files.values())}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    return index


def corpus_files(corpus: str) -> dict[str, str]:
    """The files of a corpus by split, relative to a data directory. Raises ValueError where it has none of its own."""
    from modeling_seqvae.training.recipe import corpus_spec

    files = corpus_spec(corpus).files
    paths = files.model_dump(exclude_none=True) if files else {}
    if not paths or any(Path(path).is_absolute() for path in paths.values()):
        raise ValueError(f"{corpus} is no corpus of files beside each other: only such a one can be packed")
    return paths


def missing_libraries() -> dict[str, str]:
    """What setup.py asks for, and what that asks for in turn, without GIVEN: names and versions installed here.

    What the given ones bring is among them where others need it as well: a few small wheels. Raises
    PackageNotFoundError for what is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux", "extra": ""}
    known = {canonicalize_name(name) for name in GIVEN}
    found: dict[str, str] = {}
    waiting = [(Requirement(line), "") for line in _install_requires()]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = requirement.marker is None or requirement.marker.evaluate({**environment, "extra": extra})
        if not asked or name in known:
            continue
        extras = ["", *requirement.extras]
        if name in found and extras == [""]:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise PackageNotFoundError(f"{name}, which is to be packed, is not installed here") from None
        waiting += [(Requirement(line), extra) for line in requires(name) or () for extra in extras]
    return dict(sorted(found.items()))


def _install_requires() -> list[str]:
    """The requirements in setup.py, which stands in the checkout whether or not the package is installed."""
    source = (ROOT / "setup.py").read_text("utf-8").split("install_requires=[")[1].split("]")[0]
    return re.findall(r'"([^"]+)"', "\n".join(line.partition("#")[0] for line in source.splitlines()))


def download(libraries: Mapping[str, str], folder: Path) -> None:
    """Wheels of these versions for PYTHON on 64-bit Linux, into `folder`, by pip."""
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        + ["--implementation", "cp", "--python-version", PYTHON, *platforms, "--dest", str(folder)]
        + [f"{name}=={number}" for name, number in libraries.items()],
        check=True,
    )


def compress(source: Path, packed: Path) -> None:
    """Write a file as bz2: of text a quarter, as small as slower formats make it."""
    packed.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as plain, bz2.open(packed, "wb") as small:
        shutil.copyfileobj(plain, small, 1 << 20)


def unpack(folder: Path, packages: Path, data_dir: Path) -> dict[str, Any]:
    """Open a pack: libraries into `packages`, the corpus's files into `data_dir`; returns its index.

    Raises FileNotFoundError that says what to do where there is no pack.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder} holds no pack: make one with python -m benchmarks.gpu pack")
    for wheel in sorted((folder / WHEELS).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    index: dict[str, Any] = json.loads((folder / INDEX).read_text("utf-8"))
    for name in index["files"]:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        with bz2.open(folder / CORPUS / f"{name}.bz2") as small, (data_dir / name).open("wb") as plain:
            shutil.copyfileobj(small, plain, 1 << 20)
    return index


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in files_in(folder))


def files_in(folder: Path) -> Iterable[Path]:
    """The files of a folder and those below it."""
    return (path for path in folder.rglob("*") if path.is_file())
