import errno
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from modeling_seqvae.checksums import renew_checksums, verify_checksums, write_checksums
from modeling_seqvae.data.files import recover, replacing, write_json_lines, write_text

OLD, NEW = {"weights": "old", "deep/er": "old"}, {"weights": "new", "deep/er": "new", "more": "new"}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "open"}


def fill(directory: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def content_of(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def replace_all(directory: Path) -> None:
    with replacing(directory) as fresh:
        fill(fresh, NEW)


def killed_before(step: int, action: Callable[[], None]) -> bool:
    """Whether a process that runs `action` died before its `step`-th operation on files, unable to tidy up."""
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event: str, arguments: tuple) -> None:
            nonlocal steps
            steps += event in CHANGES
            if steps == step:
                os._exit(9)

        sys.addaudithook(count)
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("before", [OLD, None])
def test_a_directory_is_complete_wherever_the_process_is_killed(tmp_path, before):
    directory = tmp_path / "best"
    seen = []
    for step in range(1, 200):
        shutil.rmtree(directory, ignore_errors=True)
        if before:
            fill(directory, before)
        if not killed_before(step, lambda: replace_all(directory)):
            break
        recover(directory)
        seen.append(content_of(directory) if directory.exists() else None)
        assert [path.name for path in tmp_path.iterdir()] == (["best"] if directory.exists() else [])
    else:
        pytest.fail("never reached the end")
    assert seen[0] == before and seen[-1] == NEW and len(seen) > 10
    assert all(content in (before, NEW) for content in seen)
    assert content_of(directory) == NEW


def test_a_second_kill_while_recovering_loses_nothing_either(tmp_path):
    directory = tmp_path / "best"
    for step in range(1, 200):
        shutil.rmtree(directory, ignore_errors=True)
        fill(tmp_path / ".best.old", OLD)
        fill(tmp_path / ".best.new", {"weights": "ne"})
        if not killed_before(step, lambda: recover(directory)):
            break
        recover(directory)
        assert content_of(directory) == OLD
    assert step > 3
    assert content_of(directory) == OLD


@pytest.mark.parametrize("before", [OLD, None])
@pytest.mark.parametrize("call", range(1, 4))
def test_a_directory_is_complete_whichever_rename_fails(tmp_path, monkeypatch, before, call):
    directory, calls, rename = tmp_path / "best", [], Path.rename
    if before:
        fill(directory, before)

    def fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == call:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    failed = False
    try:
        replace_all(directory)
    except OSError as error:
        failed = True
        assert str(directory) in str(error) and "Read-only file system" in str(error)
    assert (content_of(directory) if directory.exists() else None) == (before if failed else NEW)
    assert failed == (call <= (2 if before else 1))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left"), RuntimeError("failed")],
)
def test_a_full_disk_loses_nothing_and_names_the_directory(tmp_path, error):
    directory = tmp_path / "best"
    fill(directory, OLD)
    message = f"could not write {directory} ({error}); what stood there before is kept"
    with pytest.raises(OSError, match=re.escape(message)), replacing(directory) as fresh:
        fill(fresh, {"weights": "ne"})
        raise error
    assert content_of(directory) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=f"could not write {tmp_path / 'best'}.*Permission denied"):
        replace_all(tmp_path / "best")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_any_other_end_of_the_block_keeps_the_former_and_goes_on(tmp_path, error):
    directory = tmp_path / "best"
    fill(directory, OLD)
    with pytest.raises(error), replacing(directory) as fresh:
        fill(fresh, NEW)
        raise error
    assert content_of(directory) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_file_is_old_or_new_wherever_the_process_is_killed(tmp_path):
    path = tmp_path / "history.jsonl"
    seen = set()
    for step in range(1, 20):
        path.write_text("old")
        if not killed_before(step, lambda: write_json_lines(path, [{"epoch": 1}, {"epoch": 2}])):
            break
        seen.add(path.read_text())
    assert seen <= {"old", '{"epoch": 1}\n{"epoch": 2}\n'} and "old" in seen
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_a_file_that_cannot_be_replaced_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    path.write_text("old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"could not write {path}.*No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_processes_may_replace_one_file(tmp_path):
    """Each ends with the other's text or its own, whole; none fails."""
    path = tmp_path / "table1.json"
    text = [str(number) * 100_000 for number in range(2)]

    def write(what: str) -> None:
        for _ in range(50):
            write_text(path, what)

    others = [multiprocessing.get_context("fork").Process(target=write, args=(each,)) for each in text]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    assert path.read_text() in text and [one.name for one in tmp_path.iterdir()] == ["table1.json"]


def test_recovering_what_was_never_written_does_nothing(tmp_path):
    recover(tmp_path / "best")
    recover(tmp_path / "nowhere" / "best")
    assert list(tmp_path.iterdir()) == []


def test_all_reaches_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """A power cut after a rename finds what the new name stands for."""
    events, fsync, rename = [], os.fsync, Path.rename

    def flushed(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(tmp_path).as_posix())
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"{self.name} -> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    replace_all(tmp_path / "best")
    before, after = events[: events.index(".best.new -> best")], events[events.index(".best.new -> best") :]
    assert sorted(before) == [".best.new", *(f".best.new/{name}" for name in ("deep", "deep/er", "more", "weights"))]
    assert after == [".best.new -> best", "."]
    events.clear()
    write_text(tmp_path / "recipe.yaml", "new")
    assert events == [f".recipe.yaml.{os.getpid()}.new"]


@pytest.mark.parametrize("damage", ["", "missing", "longer", "other", "unreadable sums", "no sums"])
def test_checksums_tell_what_is_not_as_it_was_written(tmp_path, damage):
    fill(tmp_path, {"weights": "w" * 100, "config": "mine", "README.md": "the card"})
    write_checksums(tmp_path)
    (tmp_path / "README.md").write_text("edited")
    if damage == "missing":
        (tmp_path / "weights").unlink()
    elif damage in ("longer", "other"):
        (tmp_path / "weights").write_text({"longer": "w" * 101, "other": "w" * 99 + "v"}[damage])
    elif damage == "unreadable sums":
        (tmp_path / "checksums.json").write_text("{")
    elif damage == "no sums":
        (tmp_path / "checksums.json").unlink()
    expected = {"": None, "missing": "weights is missing", "no sums": "checksums.json", "unreadable sums": "line 1"}
    message = expected.get(damage, "weights is not what was written")
    if message is None:
        verify_checksums(tmp_path)  # the card may be edited
        (tmp_path / "config").write_text("edited")
        verify_checksums(tmp_path, ["weights"])
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            verify_checksums(tmp_path, ["weights"])
    with pytest.raises((ValueError, FileNotFoundError)):
        verify_checksums(tmp_path)


def test_what_is_changed_on_purpose_is_noted_and_nothing_else(tmp_path):
    renew_checksums(tmp_path)  # which has no note
    assert not list(tmp_path.iterdir())
    fill(tmp_path, {"weights": "w", "config": "old"})
    write_checksums(tmp_path)
    fill(tmp_path, {"weights": "damaged", "config": "new", "code": "more"})
    renew_checksums(tmp_path, ["config", "code"])
    verify_checksums(tmp_path, ["config", "code"])
    with pytest.raises(ValueError, match="weights is not what was written"):
        verify_checksums(tmp_path)
    renew_checksums(tmp_path)
    verify_checksums(tmp_path)
