"""What a checkpoint carries. Sharing itself is tested over HTTP, in tests/hub."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_imports

from modeling_seqvae import SeqVAE
from modeling_seqvae.sharing import AUTO_MAP, PIPELINES, add_code, code_files, push_files

CHECKPOINT = Path(__file__).parent / "fixtures" / "checkpoint-v1"


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, folder)
    add_code(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def absolute_imports(text: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "only `from .name import` is followed"
            found |= {node.module} if node.level == 0 else set()
    return {name.partition(".")[0] for name in found}


def test_the_code_is_flat_complete_and_free_of_the_rest_of_the_package(with_code: Path) -> None:
    files = code_files()
    names = {Path(name).stem for name in files}
    assert {"modeling_seqvae", "configuration_seqvae", "text"} <= names
    assert not names & {"__init__", "precision", "__main__"}
    for name, text in files.items():
        assert set(get_relative_imports(with_code / name)) <= names
        assert not absolute_imports(text) & {"modeling_seqvae", "datasets", "accelerate", "sklearn", "pandas"}
        assert text.startswith("# Copied from the package seqvae (Apache-2.0)")


def test_the_auto_classes_find_their_classes_in_the_code(with_code: Path) -> None:
    config = json.loads((with_code / "config.json").read_text("utf-8"))
    assert config.pop("auto_map") == AUTO_MAP
    assert config.pop("custom_pipelines") == PIPELINES
    assert config == json.loads((CHECKPOINT / "config.json").read_text("utf-8"))
    for reference in (*AUTO_MAP.values(), *(task["impl"] for task in PIPELINES.values())):
        module, name = reference.split(".")
        assert f"\nclass {name}(" in code_files()[f"{module}.py"]


def test_code_is_added_once(with_code: Path) -> None:
    before = files_of(with_code)
    assert set(add_code(str(with_code))) == set(code_files())
    assert files_of(with_code) == before


def test_a_folder_without_a_configuration_gets_no_code(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        add_code(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_package_loads_it_saves_without_code_and_without_pointing_to_it(
    with_code: Path, tmp_path: Path
) -> None:
    """Or others would be sent to code that is not there, or is that of another model."""
    SeqVAE.from_pretrained(with_code).save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    assert not {"auto_map", "custom_pipelines"} & set(
        json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
    )


@pytest.mark.parametrize("name", ["", "name", "a/b/c", "user/", "user/na me", "user/name.git", "user/--", "/tmp/run"])
def test_what_cannot_be_a_name_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a model on the hub, which is user/name"):
        push_files({}, name, commit_message="none")
