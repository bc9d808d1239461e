"""Sharing on the Hugging Face hub: the code that a checkpoint carries, and one commit that holds everything or nothing.

With its code beside it, a checkpoint loads by transformers' `trust_remote_code=True` where this package is not
installed; where it is, its own classes are used and the copies are not looked at.
"""

import ast
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.dynamic_module_utils import get_relative_import_files

from .configuration_seqvae import SeqVAEConfig
from .registry import own_modules

AUTO_MAP = {
    "AutoConfig": "configuration_seqvae.SeqVAEConfig",
    "AutoModel": "modeling_seqvae.SeqVAEModel",
    "AutoModelForSeq2SeqLM": "modeling_seqvae.SeqVAEForTextModeling",
}
"""Which class of the code beside a checkpoint each Auto class loads."""

PIPELINES = {
    task: {"impl": f"pipelines.{name}", "pt": ["AutoModelForSeq2SeqLM"], "type": "text"}
    for task, name in (
        ("seqvae-features", "SeqVAEFeaturesPipeline"),
        ("seqvae-generation", "SeqVAEGenerationPipeline"),
    )
}
"""Which class of that code runs each task of transformers' `pipeline`, and the Auto class of its model."""

CODE = ("modeling_seqvae.py", "text.py", "pipelines.py")
"""What a checkpoint carries, with all that these files import: the models, SeqVAE for strings, and pipelines."""

NOTICE = "# Copied from the package seqvae (Apache-2.0), so that this checkpoint loads where it is not installed.\n"

PAPERS = ("README.md", "recipe.yaml", "history.jsonl", "evaluation.json", "curves.png", "checksums.json")
"""Files about a model; with weights and code, all that this package writes and so replaces or removes."""

REFUSALS = {
    401: "the hub does not accept this token: it may be mistyped or expired; make one at {url}/settings/tokens",
    403: "the hub does not let this token write to {name} ({said}): share under a name of yours with a token that may "
    "write, or propose the change as a pull request",
    404: "the hub has no {name} that this token may see",
    409: "{name} exists already, or is being made just now ({said}): the token must be allowed to see it",
    412: "someone else committed to {name} in the meantime, so that nothing was: look at it, and share again",
}
NO_TOKEN = "the hub does not know who you are: log in with `hf auth login`, set HF_TOKEN, or give a token"


class SharingError(RuntimeError):
    """The hub did not take what was to be shared; the message says why, in a sentence."""


def code_files(config: SeqVAEConfig | None = None) -> dict[str, str]:
    """The code that a checkpoint carries, flat: file names and their text.

    With a configuration that includes the modules of your own whose parts it names. Raises ValueError where such a
    module imports what does not travel with a checkpoint, or has the name of a file that does.
    """
    here = Path(__file__).parent
    paths = {here / name for name in CODE}
    for name in CODE:
        paths.update(map(Path, get_relative_import_files(here / name)))
    files = {path.name: NOTICE + path.read_text("utf-8").removeprefix(NOTICE) for path in sorted(paths)}
    own = {module.__name__: own_code(module, files) for module in (own_modules(config) if config else ())}
    if own:
        files["imported_parts.py"] = "".join(f"from .{name} import *  # noqa: F403\n" for name in own)
        files["imported_parts.py"] += f"\nMODULES = {tuple(own)!r}\n"
    return files | {f"{name}.py": text for name, text in own.items()}


def own_code(module: ModuleType, files: Mapping[str, str]) -> str:
    """The text of a module of the user's own, with its imports of this package as those of the files beside it."""
    name, text = module.__name__, inspect.getsource(module)
    if not name.isidentifier() or f"{name}.py" in files:
        raise ValueError(f"a module called {name} cannot stand beside a checkpoint's own files: rename it")
    package = __name__.partition(".")[0]
    moved = re.sub(rf"^(\s*)from {package}\.(\w+) import", r"\1from .\2 import", text, flags=re.M)
    for node in ast.walk(ast.parse(moved)):
        level, imported = getattr(node, "level", 0), []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        for target in imported:
            if target.partition(".")[0] == package or (level and f"{target}.py" not in files):
                raise ValueError(
                    f"{name} imports {target}, which does not travel with a checkpoint: import from the model's files "
                    f"alone, such as `from {package}.registry import POOLINGS`"
                )
    return moved


def with_auto_map(config: Path) -> str:
    """The text of a config.json that tells transformers to load the code beside it."""
    fields = json.loads(config.read_text("utf-8")) | {"auto_map": AUTO_MAP, "custom_pipelines": PIPELINES}
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def add_code(checkpoint: str | os.PathLike[str]) -> list[str]:
    """Make a checkpoint's folder stand alone: put the code beside the weights; returns the names of its files."""
    folder = Path(checkpoint)
    config = with_auto_map(folder / "config.json")
    files = code_files(SeqVAEConfig.from_pretrained(folder))
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    (folder / "config.json").write_text(config, "utf-8")  # last: until then the checkpoint is what it was
    return list(files)


def push_files(
    files: Mapping[str, bytes | Path],
    repo_id: str,
    *,
    commit_message: str,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    update: bool = False,
    token: str | None = None,
) -> str:
    """Share files as one commit in a model repository, which is made if there is none; the commit's or request's URL.

    `revision` is a branch, made from main if there is none; `create_pr` proposes the commit in a pull request. Files
    that are there are left alone unless `update`, which replaces what this package wrote before, removes what it no
    longer writes, and keeps the rest. Raises ValueError for a name or combination that cannot be, and SharingError
    where the hub refuses, the connection breaks or files are there: then the repository's files are as they were.
    """
    _require_name(repo_id)
    if revision and create_pr:
        raise ValueError("a pull request is made against main: give either a branch or a pull request")
    api = HfApi(token=token)
    made: list[str] = []
    with _in_a_sentence(api, repo_id, made):
        base = _make_room(api, repo_id, private, create_pr, update or revision not in (None, "main"), made)
        if revision not in (None, "main"):
            base = _make_branch(api, repo_id, revision, base, update, made)
        commit = api.create_commit(
            repo_id,
            [*_additions(files), *_deletions(files, base)],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
            parent_commit=base.sha if base else None,  # refuses where another commit came in between
        )
    return str(commit.pr_url or commit.commit_url)


def make_room(repo_id: str, *, private: bool = False, update: bool = False, token: str | None = None) -> None:
    """Make an empty model repository, or find one that may be updated: what push_files refuses shows before long work.

    Raises what push_files raises.
    """
    _require_name(repo_id)
    api = HfApi(token=token)
    with _in_a_sentence(api, repo_id, []):
        _make_room(api, repo_id, private, False, update, [])


def _make_room(
    api: HfApi, repo_id: str, private: bool, create_pr: bool, update: bool, made: list[str]
) -> ModelInfo | None:
    """What main holds, or None in a repository that is `made` here."""
    there = _repository(api, repo_id)
    if there is None and create_pr:
        raise SharingError(f"there is no {repo_id} to make a pull request to: share it without one")
    if there is None:
        api.create_repo(repo_id, private=private or None)  # None: as the organisation's settings say
        made.append(repo_id)
    elif private and there.private is False:
        raise SharingError(f"{repo_id} is public: make it private in its settings, or share under another name")
    elif not create_pr:
        _require_room(repo_id, there, update)
    return there


def _make_branch(
    api: HfApi, repo_id: str, branch: str, main: ModelInfo | None, update: bool, made: list[str]
) -> ModelInfo | None:
    """What the branch holds: at first a copy of main."""
    there = _repository(api, repo_id, branch)
    if there is None:
        api.create_branch(repo_id, branch=branch)
        made.append(f"branch {branch}")
        return main
    if main is None or there.sha != main.sha:
        _require_room(f"branch {branch} of {repo_id}", there, update)
    return there


def _require_room(place: str, there: ModelInfo, update: bool) -> None:
    if not update and _names(there) - {".gitattributes"}:
        raise SharingError(
            f"{place} exists already and holds files: to replace what is there say --update (update=True in Python), "
            "or share to a branch, as a pull request, or under another name"
        )


def _names(there: ModelInfo | None) -> set[str]:
    return {file.rfilename for file in there.siblings or ()} if there else set()


def _additions(files: Mapping[str, bytes | Path]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name, content) for name, content in sorted(files.items())]


def _deletions(files: Mapping[str, bytes | Path], base: ModelInfo | None) -> list[CommitOperationDelete]:
    """What this package wrote there before and writes no longer: an evaluation would be of the model before."""
    there = _names(base)
    ours = there & {*PAPERS, *code_files()}
    weights = {name for name in there if name.startswith("model") and name.endswith(".safetensors")}
    return [CommitOperationDelete(name) for name in sorted((ours | weights) - files.keys())]


def _require_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise ValueError(
            f"{repo_id!r} cannot be the name of a model on the hub, which is user/name, of letters, digits, -, _ and ."
        )


def _repository(api: HfApi, repo_id: str, revision: str | None = None) -> ModelInfo | None:
    """What is there, or None."""
    try:
        return api.model_info(repo_id, revision=revision)
    except RevisionNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:  # what those without a token are told, whether it is there or not
            raise
        return None


@contextmanager
def _in_a_sentence(api: HfApi, repo_id: str, made: list[str]) -> Iterator[None]:
    """Errors of the hub and of the way to it as SharingError, which tells what had been `made` by then."""
    try:
        yield
    except SharingError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        after = f"; {' and '.join(made)} had been made, and the same command fills it" if made else ""
        raise SharingError(_sentence(error, api, repo_id) + after) from error


def _sentence(error: BaseException, api: HfApi, repo_id: str) -> str:
    """What went wrong. An upload's own error is the cause of the one that arrives here."""
    found = _network_error(error)
    if isinstance(found, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, which forbids calling the hub: unset it to share"
    if isinstance(found, HfHubHTTPError):
        status, said = found.response.status_code, _said(found)
        if status == 401 and not (api.token or get_token()):
            return NO_TOKEN
        sentence = REFUSALS.get(status, "the hub refused {name}, with status {status}: {said}")
        return sentence.format(name=repo_id, url=api.endpoint, status=status, said=said)
    if found is not None:
        reason = str(found) or type(found).__name__
        return (
            f"there is no way to the hub at {api.endpoint}, or it hung up ({reason}): nothing was committed to "
            f"{repo_id}, unless it was the answer to the commit that got lost"
        )
    return f"{repo_id} was not shared: {error}"


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error of the libraries comes of a connection to the hub that could not be made or broke."""
    found = _network_error(error)
    return isinstance(found, HTTPError) and not isinstance(found, HfHubHTTPError)


def _network_error(error: BaseException) -> BaseException | None:
    """The answer of the hub, or the failure to get one, that lies behind an error of the libraries that call it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, HTTPError | OfflineModeIsEnabled):
        found = found.__cause__ or found.__context__
    return found


def _said(error: HfHubHTTPError) -> str:
    """The hub's own words, without the library's."""
    return (error.server_message or str(error)).strip().partition("\n")[0]


def plain_card(name: str, config: SeqVAEConfig) -> str:
    """The card of a model that comes without the papers of a run: what it is and how to load it."""
    kind = "A sequence VAE" if config.latent_size else "An LSTM language model"
    return f"""---
library_name: transformers
tags:
- seqvae
- text
---

# {name.partition("/")[2]}

{kind} on text, of the package seqvae: latent size {config.latent_size}, {config.vocab_size:,} words.

```python
from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained("{name}")
```

It was shared without a record of its training, so that nothing is known here of its texts, quality or limits.
"""
