"""Sharing over real HTTP: what arrives, in which commit, and what a mistake or a cut leaves behind."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from modeling_seqvae.sharing import SharingError, code_files

MakeRun = Callable[..., Path]
PAPERS = {"README.md", "recipe.yaml", "history.jsonl", "curves.png"}
CHECKPOINT = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
EVERYTHING = CHECKPOINT | PAPERS | set(code_files())
START = {".gitattributes"}  # what the hub itself puts into a repository

PUSH = "result = seqvae('push', *arguments)"


@pytest.fixture
def push(package: Any) -> Callable[..., tuple[int, str, str]]:
    """push(run, name, options ...): exit code, standard output and standard error of the command."""
    return lambda *arguments: tuple(package(PUSH, arguments=[str(argument) for argument in arguments]))


@pytest.fixture
def refused(push: Any) -> Callable[..., str]:
    """refused(run, name, options ...): the one sentence, and no traceback, with which the command fails."""

    def fail(*arguments: Any) -> str:
        code, output, told = push(*arguments)
        lines = [line for line in told.splitlines() if "is left out" not in line]
        assert (code, output) == (1, "") and len(lines) == 1 and lines[0].startswith("seqvae: "), told
        return lines[0]

    return fail


def messages(hub: Any, name: str, branch: str = "main") -> list[str]:
    return [commit.message for commit in hub.repos[name].branches[branch]]


def test_the_command_shares_a_run_in_one_commit(
    hub: Any, hub_environment: Any, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(evaluated=True)
    environment = hub_environment(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "modeling_seqvae", "push", run, "user/shared"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commit = hub.repos["user/shared"].at("main")
    assert done.stdout == f"{hub.url}/user/shared/commit/{commit.sha}\n"
    assert "SeqVAE.from_pretrained('user/shared')" in done.stderr
    assert messages(hub, "user/shared") == ["initial commit", "Share SeqVAE + Attention on demo"]
    files = hub.files("user/shared")
    assert set(files) == START | EVERYTHING | {"evaluation.json"}
    assert files["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()
    assert not hub.repos["user/shared"].private
    assert hub.requests.index(("POST", "/api/validate-yaml")) < hub.requests.index(
        ("POST", "/api/models/user/shared/commit/main")
    )


def test_a_dry_run_lists_the_files_and_calls_nobody(hub: Any, push: Any, make_run: MakeRun) -> None:
    code, output, _ = push(make_run(), "user/dry", "--dry-run")
    assert code == 0 and hub.requests == []
    assert set(output.split()) >= EVERYTHING and "14,024  model.safetensors" in output
    assert "# SeqVAE + Attention on demo" in output and 'SeqVAE.from_pretrained("user/dry")' in output


@pytest.mark.parametrize(("name", "options"), [("name", []), ("user/a/b", ["--space"])])
def test_a_dry_run_refuses_what_a_push_would(refused: Any, make_run: MakeRun, name: str, options: list[str]) -> None:
    run = make_run()
    assert f"{name!r} cannot be the name" in refused(run, name, "--dry-run", *options)
    both = ("--branch", "try", "--pull-request")
    assert "give either a branch or a pull request" in refused(run, "user/dry", "--dry-run", *options, *both)


def test_a_dry_run_for_sentence_transformers_lists_its_files(hub: Any, push: Any, make_run: MakeRun) -> None:
    run = make_run()
    code, output, _ = push(run, "user/dry", "--dry-run", "--sentence-transformers", "mean", "--samples", "0")
    assert code == 0 and hub.requests == []
    assert set(output.split()) >= {"modules.json", "config_sentence_transformers.json", "sentence_seqvae_config.json"}
    code, _, told = push(run, "user/dry", "--dry-run", "--sentence-transformers", "sum")
    assert code == 1 and "features='sum' is not one of" in told


def test_large_files_go_to_the_storage_without_the_token(hub: Any, push: Any, make_run: MakeRun) -> None:
    hub.lfs_above = 10_000
    run = make_run()
    assert push(run, "user/large")[0] == 0
    commit = hub.repos["user/large"].at("main")
    assert "model.safetensors" in commit.in_lfs and "config.json" not in commit.in_lfs
    weights = (run / "best" / "model.safetensors").read_bytes()
    assert commit.files["model.safetensors"] == weights == hub.stored[hashlib.sha256(weights).hexdigest()]
    assert ("POST", "/lfs/verify") in hub.requests and hub.leaked_tokens == []


def test_private_means_private_or_nothing(hub: Any, push: Any, refused: Any, make_run: MakeRun) -> None:
    run = make_run()
    assert push(run, "user/hidden", "--private", "--no-code")[0] == 0
    assert hub.repos["user/hidden"].private
    assert set(hub.files("user/hidden")) == START | CHECKPOINT | PAPERS
    hub.add("user/open", {})
    assert "user/open is public" in refused(run, "user/open", "--private")
    assert set(hub.files("user/open")) == START


def test_what_is_there_is_replaced_only_when_told(hub: Any, push: Any, refused: Any, make_run: MakeRun) -> None:
    run = make_run(evaluated=True)
    of_another_model = {"aggregate.safetensors": b"", "dual_networks.safetensors": b""}
    kept = {"thesis.pdf": b"mine", "modules.json": b"[]", "my_parts.py": b"", "sentence_seqvae_config.json": b"{}"}
    hub.add("user/there", {"README.md": b"mine", **kept, **of_another_model})
    assert "user/there exists already and holds files" in refused(run, "user/there")
    assert hub.files("user/there")["README.md"] == b"mine"
    assert push(run, "user/there", "--update")[0] == 0
    assert not of_another_model.keys() & hub.files("user/there").keys()
    (run / "evaluation.json").unlink()
    (run / "best" / "model.safetensors").write_bytes((run / "best" / "model.safetensors").read_bytes() + b"\0")
    assert push(run, "user/there", "--update", "--no-code", "--samples", "0")[0] == 0
    files = hub.files("user/there")
    assert set(files) == START | CHECKPOINT | PAPERS | kept.keys()  # no code, and no evaluation of the model before
    assert files["README.md"].startswith(b"---") and files.items() >= kept.items()
    assert len(messages(hub, "user/there")) == 3


def test_a_branch_is_made_and_main_left_alone(hub: Any, push: Any, refused: Any, make_run: MakeRun) -> None:
    run = make_run()
    hub.add("user/branched", {"README.md": b"mine"})
    code, _, told = push(run, "user/branched", "--branch", "try")
    assert code == 0 and "revision='try'" in told
    assert set(hub.files("user/branched", "try")) == START | EVERYTHING
    assert hub.files("user/branched") == {".gitattributes": b"", "README.md": b"mine"}
    assert "branch try of user/branched exists already" in refused(run, "user/branched", "--branch", "try")
    assert push(run, "user/branched", "--branch", "try", "--update", "--license", "mit")[0] == 0
    assert b"license: mit" in hub.files("user/branched", "try")["README.md"]
    assert "either a branch or a pull request" in refused(run, "user/branched", "--branch", "x", "--pull-request")


def test_a_pull_request_needs_no_right_to_write(hub: Any, push: Any, refused: Any, make_run: MakeRun) -> None:
    run = make_run()
    hub.add("other/model", {"README.md": b"theirs"})
    code, output, told = push(run, "other/model", "--pull-request")
    assert (code, output) == (0, f"{hub.url}/other/model/discussions/1\n") and "next:" not in told
    assert hub.files("other/model")["README.md"] == b"theirs"
    assert set(hub.files("other/model", "refs/pr/1")) == START | EVERYTHING
    assert "there is no other/none to make a pull request to" in refused(run, "other/none", "--pull-request")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("user/new", ["--token", "hf_reader"], "does not let this token write to user/new (You don't have the rights"),
        ("other/new", [], "does not let this token write to other/new"),
        ("other/public", ["--update"], "does not let this token write to other/public"),
        ("user/new", ["--token", "hf_mistyped"], "the hub does not accept this token"),
        ("other/private", [], "does not let this token write to other/private"),
        ("name", [], "'name' cannot be the name of a model on the hub, which is user/name"),
        ("user/a/b", [], "'user/a/b' cannot be the name"),
        ("user/..name", [], "'user/..name' cannot be the name"),
        ("https://huggingface.co/user/name", [], "cannot be the name"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_sentence(
    hub: Any, refused: Any, make_run: MakeRun, name: str, options: list[str], sentence: str
) -> None:
    hub.add("other/public", {"README.md": b"theirs"})
    hub.add("other/private", {}, private=True)
    before = {repo: hub.files(repo) for repo in hub.repos}
    assert sentence in refused(make_run(), name, "--samples", "0", *options)
    assert {repo: hub.files(repo) for repo in hub.repos} == before


def test_without_token_or_network_a_sentence_says_so(hub: Any, package: Any, make_run: MakeRun) -> None:
    results = package(
        """
import os
from huggingface_hub import constants

result = []
token = os.environ.pop("HF_TOKEN")
result.append(seqvae("push", run, "user/new", "--samples", "0"))
os.environ["HF_TOKEN"] = token
constants.HF_HUB_OFFLINE = True
result.append(seqvae("push", run, "user/new", "--samples", "0"))
constants.HF_HUB_OFFLINE = False
there, constants.ENDPOINT = constants.ENDPOINT, "http://127.0.0.1:9"
result.append(seqvae("push", run, "user/new", "--samples", "0"))
constants.ENDPOINT = there
""",
        run=make_run(),
    )
    told = [result[2].splitlines()[-1] for result in results]
    assert [result[0] for result in results] == [1, 1, 1]
    assert "the hub does not know who you are: log in" in told[0]
    assert "HF_HUB_OFFLINE is set" in told[1]
    assert "there is no way to the hub at http://127.0.0.1:9" in told[2] and "Traceback" not in results[2][2]
    assert "user/new" not in hub.repos


def test_a_folder_that_is_no_run_is_refused_before_the_hub_is_called(
    hub: Any, refused: Any, make_run: MakeRun, tmp_path: Path
) -> None:
    assert "is not a run's directory: it holds no recipe.yaml" in refused(tmp_path / "nowhere", "user/new")
    run = make_run()
    shutil.rmtree(run / "best")
    assert "a run without a checkpoint yet" in refused(run, "user/new")
    assert hub.requests == []


@pytest.mark.parametrize("call", ["/preupload/", "/commit/"])
def test_an_upload_that_is_cut_leaves_what_was_there(
    hub: Any, push: Any, refused: Any, make_run: MakeRun, call: str
) -> None:
    name = f"user/cut-at{call.replace('/', '-')}1"
    run = make_run()
    hub.add(name, {"config.json": b"{}", "evaluation.json": b"{}"})
    before = hub.files(name)
    hub.cut("POST", call, after=500)
    told = refused(run, name, "--update")
    assert (
        f"there is no way to the hub at {hub.url}, or it hung up" in told and f"nothing was committed to {name}" in told
    )
    assert hub.files(name) == before and messages(hub, name) == ["initial commit"]
    hub.faults.clear()
    assert push(run, name, "--update")[0] == 0
    assert set(hub.files(name)) == START | EVERYTHING


def test_a_large_file_that_is_cut_leaves_a_new_repository_empty(
    hub: Any, push: Any, refused: Any, make_run: MakeRun
) -> None:
    hub.lfs_above = 10_000
    run = make_run()
    (run / "best" / "model.safetensors").write_bytes(b"other weights" * 1000)
    hub.cut("PUT", "/storage/", after=5_000)
    told = refused(run, "user/cut-storage", "--samples", "0")
    assert "or it hung up" in told and "user/cut-storage had been made, and the same command fills it" in told
    assert set(hub.files("user/cut-storage")) == START
    hub.faults.clear()
    hub.cut("PUT", "/storage/", after=5_000, times=2)  # an upload that breaks is tried again
    assert push(run, "user/cut-storage", "--samples", "0")[0] == 0
    assert hub.files("user/cut-storage")["model.safetensors"] == b"other weights" * 1000


def test_a_lost_answer_is_told_and_the_same_command_is_safe(
    hub: Any, push: Any, refused: Any, make_run: MakeRun
) -> None:
    run = make_run()
    hub.cut("POST", "/commit/", after=None)
    assert "unless it was the answer to the commit that got lost" in refused(run, "user/unheard")
    assert set(hub.files("user/unheard")) == START | EVERYTHING
    hub.faults.clear()
    assert push(run, "user/unheard", "--update")[0] == 0
    assert len(messages(hub, "user/unheard")) == 2  # nothing had changed


def test_a_commit_of_someone_else_in_between_is_not_overwritten(hub: Any, refused: Any, make_run: MakeRun) -> None:
    repo = hub.add("user/busy", {"README.md": b"mine"})
    look, looks = repo.at, []

    def at(revision: str) -> Any:
        if len(looks) == 1:
            repo.commit("main", "in between", {"README.md": b"newer"}, frozenset())
        looks.append(revision)
        return look(revision)

    repo.at = at
    assert "someone else committed to user/busy in the meantime" in refused(make_run(), "user/busy", "--update")
    assert hub.files("user/busy") == {"README.md": b"newer"}


def test_a_model_shares_itself(hub: Any, package: Any, tmp_path: Path) -> None:
    checkpoint = Path(__file__).resolve().parents[1] / "fixtures" / "checkpoint-v1"
    code = """
from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained(checkpoint)
result = [vae.push_to_hub("user/itself", private=True)]
try:
    vae.push_to_hub("user/itself", code=False)
except RuntimeError as error:
    result.append(str(error))
result.append(vae.push_to_hub("user/itself", code=False, update=True))
"""
    first, refusal, second = package(code, checkpoint=checkpoint)
    assert "say --update (update=True in Python)" in refusal
    commits = hub.repos["user/itself"].branches["main"][1:]
    assert [first, second] == [f"{hub.url}/user/itself/commit/{commit.sha}" for commit in commits]
    assert hub.repos["user/itself"].private
    assert set(commits[0].files) == START | CHECKPOINT | {"README.md"} | set(code_files())
    assert set(commits[1].files) == START | CHECKPOINT | {"README.md"}
    assert "auto_map" in json.loads(commits[0].files["config.json"])
    assert "auto_map" not in json.loads(commits[1].files["config.json"])
    assert b'SeqVAE.from_pretrained("user/itself")' in commits[0].files["README.md"]


ON_BEST = """
import warnings
from pathlib import Path
from modeling_seqvae.hub.push import PushOnBest

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with PushOnBest(name, **options) as push:
        for best in bests:
            (Path(run) / "best" / "model.safetensors").write_bytes(best.encode())
            push.share(Path(run))
assert push.shared == (not caught and bool(bests))
result = [str(warning.message) for warning in caught]
"""


def test_every_best_of_a_training_is_shared_or_passed_over_for_a_newer_one(
    hub: Any, package: Any, make_run: MakeRun
) -> None:
    bests = ["first", "second", "third"]
    assert package(ON_BEST, run=make_run(), name="user/training", bests=bests, options={"private": True}) == []
    commits = hub.repos["user/training"].branches["main"]
    shared = [commit.files["model.safetensors"].decode() for commit in commits[1:]]
    assert shared == [best for best in bests if best in shared] and shared[-1] == "third"
    assert commits[-1].message == "Share SeqVAE + Attention on demo, so far"
    assert hub.repos["user/training"].private


def test_an_older_best_that_is_shared_late_does_not_stand_for_the_newest(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeling_seqvae.hub import push as pushing

    begun, go_on, told = Event(), Event(), []

    def slow_then_failing(*arguments: Any, **options: Any) -> None:
        told.append(options)
        begun.set()
        if len(told) == 1:
            assert go_on.wait(60)
            return
        raise SharingError("the hub hung up")

    monkeypatch.setattr(pushing, "prepare_repository", lambda *arguments, **options: None)
    monkeypatch.setattr(pushing, "push_files", slow_then_failing)
    run = make_run()
    with pytest.warns(UserWarning, match="the hub hung up"), pushing.PushOnBest("user/slow") as push:
        push.share(run)
        assert begun.wait(60)
        push.share(run)
        go_on.set()
    assert len(told) == 2 and not push.shared


def test_a_best_that_cannot_be_read_is_not_shared_by_the_one_before(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeling_seqvae.hub import push as pushing

    begun, go_on = Event(), Event()

    def slow(*arguments: Any, **options: Any) -> None:
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(pushing, "prepare_repository", lambda *arguments, **options: None)
    monkeypatch.setattr(pushing, "push_files", slow)
    run = make_run()
    with pytest.warns(UserWarning, match="not shared"), pushing.PushOnBest("user/slow") as push:
        push.share(run)
        assert begun.wait(60)
        (run / "recipe.yaml").unlink()
        push.share(run)
        go_on.set()
    assert not push.shared


def test_what_nobody_foresaw_is_a_warning_too(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from modeling_seqvae.hub import push as pushing

    def broken(*arguments: Any, **options: Any) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(pushing, "prepare_repository", lambda *arguments, **options: None)
    monkeypatch.setattr(pushing, "push_files", broken)
    with (
        pytest.warns(UserWarning, match=r"TypeError\('no such argument'\)"),
        pushing.PushOnBest("user/broken") as push,
    ):
        push.share(make_run())
    assert not push.shared


TRAIN = [
    "--method",
    "max_pool",
    "--limit",
    "train=40",
    "--limit",
    "validation=8",
    "--set",
    "training.anneal_epochs=0",
    "--set",
    "model.hidden_size=8",
]


def test_a_training_shares_its_best_and_goes_on_sharing_when_it_is_continued(
    hub: Any, package: Any, tmp_path: Path
) -> None:
    options = [*TRAIN, "--output-dir", str(tmp_path / "run"), "--push-to", "user/live", "--private"]
    code, _, told = package("result = seqvae('train', *arguments)", arguments=[*options, "--set", "training.epochs=1"])
    assert code == 0 and "shared as user/live" in told, told
    files = hub.files("user/live")
    assert files["model.safetensors"] == (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
    assert files["history.jsonl"] == (tmp_path / "run" / "history.jsonl").read_bytes()
    assert hub.repos["user/live"].private
    code, _, told = package("result = seqvae('train', *arguments)", arguments=options)
    assert code == 1 and "user/live exists already" in told
    code, _, told = package(
        "result = seqvae('train', *arguments)", arguments=[*options, "--set", "training.epochs=1", "--resume"]
    )
    assert code == 0 and "shared as" not in told, told  # as there was nothing new


def test_trouble_with_the_hub_stops_no_training(hub: Any, package: Any, make_run: MakeRun) -> None:
    hub.cut("POST", "/commit/", after=100)
    told = package(ON_BEST, run=make_run(), name="user/troubled", bests=["first"], options={})
    assert len(told) == 1 and "or it hung up" in told[0] and "Training goes on" in told[0]
    hub.faults.clear()
    hub.add("user/other-model", {"config.json": b"{}"})
    with pytest.raises(Exception, match="user/other-model exists already"):  # before anything is trained
        package(ON_BEST, run="unused", name="user/other-model", bests=[], options={})
