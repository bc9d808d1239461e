"""Sharing on the Hugging Face hub: the code that a checkpoint carries, and pushing files in one commit, or none.

With its code beside it, a checkpoint loads by transformers' `trust_remote_code=True` where this package is not
installed; where it is, its own classes are used, and of the copies only the modules of parts of the owner's. What is
pushed of a run: hub/push.py.
"""

import ast
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, SpaceInfo, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.dynamic_module_utils import get_relative_import_files

from .checksums import renew_checksums
from .configuration_seqvae import SeqVAEConfig
from .decoders import DECODERS
from .own_modules import as_copied, is_of_package, is_own, modules_of, own_source
from .registry import PACKAGE

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

SENTENCE_FEATURES = "sentence_seqvae_config.json"
"""Says which features sentence-transformers gets; beside config.json, in the checkpoint's own folder."""

SENTENCE_FILES: dict[str, Any] = {
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": None,
    },
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "modeling_seqvae.hub.sentence_transformers.SeqVAEModule"}
    ],  # last: it says that the others exist
}
"""Names and content of the other files that sentence-transformers reads, which are the same for all features."""

OURS = (
    "README.md", "recipe.yaml", "history.jsonl", "evaluation.json", "curves.png", "checksums.json",
    "model*.safetensors", "aggregate.safetensors", "dual_networks.safetensors",
)  # fmt: skip
"""Patterns of the files that, beside code, this package writes into a repository, and so replaces or removes.

Those for sentence-transformers stay: they fit any model with a latent."""

SPACE = ("README.md", "app.py", "requirements.txt", "texts.csv", "model/*", "modeling_seqvae/*")
"""The same of a Space, code included."""

REFUSALS = {
    401: "the hub does not accept this token: it may be mistyped or expired; make one at {url}/settings/tokens",
    403: "the hub does not let this token write to {name} ({said}): share under a name of yours with a token that may "
    "write, or propose the change as a pull request",
    404: "the hub has no {name} that this token may see",
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
    own = dict(own_code(module, files) for module in (own_modules(config) if config else ()))
    if own:
        files["imported_parts.py"] = "".join(f"from .{name} import *  # noqa: F403\n" for name in own)
        files["imported_parts.py"] += f"\nMODULES = {tuple(own)!r}\n"
    return files | {f"{name}.py": text for name, text in own.items()}


def own_modules(config: SeqVAEConfig) -> list[ModuleType]:
    """The modules outside the package that have a part of a configuration, such as its aggregation or decoder.

    Raises what `modules_of` raises.
    """
    return modules_of(config.chosen_parts())


def own_parts(config: SeqVAEConfig) -> list[str]:
    """The names of a configuration's parts that are none of the package's."""
    return [name for parts, name in config.chosen_parts() if is_own(parts, name)]


def own_code(module: ModuleType, files: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of a module of the user's own, with its imports of this package as those of the files beside it.

    Raises ValueError where it has the name of a module of the package, or imports what does not travel.
    """
    name, text = own_source(module)
    package = PACKAGE.partition(".")[0]
    if not name.isidentifier() or is_of_package(name):
        raise ValueError(f"a module called {name} cannot stand beside a checkpoint's own files: rename it")
    moved = as_copied(text)
    for node in ast.walk(ast.parse(moved)):
        level, imported = getattr(node, "level", 0), []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        for target in imported:
            left = f"{target}.py" not in files if level else _is_beside(module, target)
            if left or target.partition(".")[0] == package:
                raise ValueError(
                    f"{name} imports {target}, which does not travel with a checkpoint: import from the model's files "
                    f"alone, such as `from {package}.registry import POOLINGS`"
                )
    return name, moved


def _is_beside(module: ModuleType, target: str) -> bool:
    """Whether what a module imports is found in its folder, rather than installed."""
    name, folder = target.partition(".")[0], Path(module.__file__ or "").parent
    there = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    return there and name not in sys.stdlib_module_names and name not in packages_distributions()


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
    renew_checksums(folder, [*files, "config.json"])
    return list(files)


def sentence_files(features: str) -> dict[str, Any]:
    """Names and content, as JSON, of the files that let sentence-transformers load a checkpoint for these features."""
    return {SENTENCE_FEATURES: {"features": features}, **SENTENCE_FILES}


# Pushing


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
    space: bool = False,
) -> str:
    """Push files in one commit to a model repository, which is created if there is none; URL of the commit or request.

    With `space` it is to a Space that runs Gradio, whose names are apart from those of models.
    `revision` is a branch, created from main if there is none; `create_pr` proposes the commit in a pull request. A
    repository with files is refused unless `update`, which replaces what this package wrote before, deletes what it no
    longer writes, and keeps other files. Raises ValueError for an invalid name or combination, and SharingError where
    the hub refuses, the connection breaks or there are files: then the repository's files have not changed.
    """
    require_destination(repo_id, revision, create_pr)
    api = HfApi(token=token)
    with _explained(api, repo_id) as created:
        base = _destination(api, repo_id, private, revision, create_pr, update, created, space)
        # Not upload_folder: with hf_xet it commits in parts when a commit of more than twenty files fails.
        commit = api.create_commit(
            repo_id,
            [*_additions(files), *_deletions(files, base, space)],
            commit_message=commit_message,
            repo_type="space" if space else None,
            revision=revision,
            create_pr=create_pr,
            parent_commit=base.sha,  # refuses where another commit came in between
        )
    return str(commit.pr_url or commit.commit_url)


def prepare_repository(repo_id: str, *, private: bool = False, update: bool = False, token: str | None = None) -> None:
    """Create a model repository, or check one that exists: what push_files would refuse is known before long work.

    Raises what push_files raises.
    """
    require_destination(repo_id)
    api = HfApi(token=token)
    with _explained(api, repo_id) as created:
        _destination(api, repo_id, private, None, False, update, created)


def _destination(
    api: HfApi,
    repo_id: str,
    private: bool,
    branch: str | None,
    create_pr: bool,
    update: bool,
    created: list[str],
    space: bool = False,
) -> ModelInfo | SpaceInfo:
    """The state of main, or of a branch, that a commit will change; notes in `created` what is empty or a copy."""
    kind, look = ("space", api.space_info) if space else (None, api.model_info)
    if not create_pr:
        sdk = "gradio" if space else None
        # private None: as the organisation's settings say
        api.create_repo(repo_id, private=private or None, exist_ok=True, repo_type=kind, space_sdk=sdk)
    try:
        main = look(repo_id)
    except RepositoryNotFoundError as error:
        if not create_pr or error.response.status_code == 401:  # the answer to anyone without a token
            raise
        raise SharingError(f"there is no {repo_id} to make a pull request to: share it without one") from None
    if private and main.private is False:
        raise SharingError(f"{repo_id} is public: make it private in its settings, or share under another name")
    if not create_pr and not _names(main):
        created.append(repo_id)
    if branch in (None, "main"):
        if not create_pr:
            _require_empty(repo_id, main, update)
        return main
    api.create_branch(repo_id, branch=branch, exist_ok=True, repo_type=kind)
    there = look(repo_id, revision=branch)
    if there.sha == main.sha:
        created.append(f"branch {branch}")
    else:
        _require_empty(f"branch {branch} of {repo_id}", there, update)
    return there


def _require_empty(place: str, there: ModelInfo | SpaceInfo, update: bool) -> None:
    if not update and _names(there):
        raise SharingError(
            f"{place} exists already and holds files: to replace what is there say --update (update=True in Python), "
            "or share to a branch, as a pull request, or under another name"
        )


def _names(there: ModelInfo | SpaceInfo) -> set[str]:
    return {file.rfilename for file in there.siblings or ()} - {".gitattributes"}


def _additions(files: Mapping[str, bytes | Path]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(name, content) for name, content in sorted(files.items())]


def _deletions(
    files: Mapping[str, bytes | Path], base: ModelInfo | SpaceInfo, space: bool = False
) -> list[CommitOperationDelete]:
    """What this package wrote there before and no longer writes: an old evaluation would be of the model before."""
    patterns = SPACE if space else (*OURS, *code_files())
    old = {name for name in _names(base) if any(fnmatch(name, pattern) for pattern in patterns)}
    return [CommitOperationDelete(name) for name in sorted(old - files.keys())]


def require_destination(repo_id: str, revision: str | None = None, create_pr: bool = False) -> None:
    """Raise ValueError, without asking the hub, for what cannot be a name, and for a pull request to a branch."""
    try:
        validate_repo_id(repo_id)
        valid = repo_id.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise ValueError(
            f"{repo_id!r} cannot be the name of a model on the hub, which is user/name, of letters, digits, -, _ and ."
        )
    if revision and create_pr:
        raise ValueError("a pull request is made against main: give either a branch or a pull request")


@contextmanager
def _explained(api: HfApi, repo_id: str) -> Iterator[list[str]]:
    """Errors of the hub and the network as SharingError, which also says what the block noted as created by then."""
    created: list[str] = []
    try:
        yield created
    except SharingError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        after = f"; {' and '.join(created)} had been made, and the same command fills it" if created else ""
        raise SharingError(_explanation(error, api, repo_id) + after) from error


def _explanation(error: BaseException, api: HfApi, repo_id: str) -> str:
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


def plain_card(name: str, config: SeqVAEConfig, code: bool) -> str:
    """The card of a model without the records of a run: what it is and how to load it, by its `code` or not."""
    own = own_parts(config)
    trust = ", trust_remote_code=True" if own and code else ""
    size = f"latent size {config.latent_size}, {config.vocab_size:,} words"
    kind = "A sequence VAE" if config.latent_size else DECODERS[config.decoder].alone
    return f"""---
library_name: transformers
tags:
- seqvae
- text
---

# {name.partition("/")[2]}

{kind} on text, of the package seqvae: {size}.{how_to_import(own, code)}

```python
from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained("{name}"{trust})
```

It was shared without a record of its training, so that nothing is known here of its texts, quality or limits.
"""


def how_to_import(own: Sequence[str], code: bool) -> str:
    """What a card says of parts of its owner's, in a paragraph of its own; nothing where there are none."""
    if not own:
        return ""
    named = f"Of its owner's, not of the package, {'is' if len(own) == 1 else 'are'} `{'`, `'.join(own)}`"
    if code:
        return f"\n\n{named}: `trust_remote_code=True` runs the code of that, which this repository carries."
    return f"\n\n{named}: first import the module of that, which is not part of this model."
