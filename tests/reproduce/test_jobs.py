import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from pickle import PicklingError
from types import ModuleType
from typing import Any

import pytest

from modeling_seqvae.reproduce import jobs
from modeling_seqvae.reproduce.jobs import LOG, gpus, run_steps, threads_for
from modeling_seqvae.reproduce.runner import in_order
from modeling_seqvae.reproduce.steps import Measurement, Step
from modeling_seqvae.training.monitor import Interrupted

# What steps of these tests do, in a file, since another process has to import it.
WORK = """
import os, signal, sys, time, warnings
from pathlib import Path

def work(inputs, does="end", after=(), number=0):
    folder = inputs.folder
    with (folder.parent / "began.txt").open("a") as order:
        order.write(folder.name + " ")
    for other in after:
        while not (folder.parent / other / "begun").exists():
            time.sleep(0.01)
    (folder / "begun").write_text(str(os.getpid()))
    print("at work", os.environ["OMP_NUM_THREADS"], file=sys.stderr)
    if does == "fail":
        raise ValueError("the corpus is empty\\nsecond line")
    if does == "explain":
        raise ValueError("because " * 100_000)
    if does == "slip":
        return {}["nats"]
    if does == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "leave":
        os._exit(7)
    if does == "warn":
        warnings.warn("few words are known")
    if does == "wait":
        time.sleep(60)
    print("a result")
    return {"number": number, "process": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("work")
    (folder / "steps_of_tests.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(jobs, "POLL_SECONDS", 0.05)
        import steps_of_tests

        yield steps_of_tests
    sys.modules.pop("steps_of_tests")


def step(work: ModuleType, name: str, needs: tuple[Any, ...] = (), **settings: Any) -> Measurement:
    return Measurement(name, Path(name), "found.json", work.work, settings, needs)


def run(steps: list[Step], folder: Path, jobs: int = 2) -> dict[str, str]:
    return run_steps(steps, folder, jobs)


def wait_for(*files: Path) -> None:
    deadline = time.monotonic() + 300
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"{files} did not appear"
        time.sleep(0.01)


def signal_when(number: int, *files: Path) -> Callable[[], None]:
    """A thread that sends this process a signal once the files are there; call the result to join it."""

    def send() -> None:
        wait_for(*files)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread.join


def test_steps_run_at_once_each_in_a_process_of_its_own(work: Any, tmp_path: Path) -> None:
    steps = [step(work, "a", after=["b"]), step(work, "b", number=5)]  # the first waits for the other to begin
    assert run(steps, tmp_path) == {}
    found = [one.read(tmp_path) for one in steps]
    assert found[1]["number"] == 5 and len({report["process"] for report in found} | {os.getpid()}) == 3
    assert (tmp_path / "a" / LOG).read_text() == f"at work {threads_for(2)}\na result\n"
    assert all(one.done(tmp_path) for one in steps)


def test_what_is_needed_runs_before_and_no_more_at_once_than_asked(work: Any, tmp_path: Path) -> None:
    first = step(work, "z")
    steps = in_order([step(work, "y", (first,)), step(work, "x", (first,)), first])
    assert [one.title for one in steps] == ["z", "y", "x"]
    assert run(steps, tmp_path, jobs=1) == {}
    assert (tmp_path / "began.txt").read_text() == "z y x "


def test_what_fails_or_dies_is_named_and_leaves_the_others_alone(work: Any, tmp_path: Path) -> None:
    bad, dead, gone = step(work, "bad", does="fail"), step(work, "dead", does="die"), step(work, "gone", does="leave")
    after = step(work, "after", (bad,))
    good = [step(work, name) for name in ("first", "last")]
    failed = run([good[0], bad, dead, gone, after, good[1]], tmp_path)
    assert failed.keys() == {one.key for one in (bad, dead, gone, after)}
    assert failed[bad.key] == "the corpus is empty\nsecond line"
    assert "its process died" in failed[dead.key] == failed[gone.key]
    assert "that it needs failed" in failed[after.key] and not (tmp_path / "after").exists()
    assert "Traceback" in (tmp_path / "bad" / LOG).read_text()
    assert all(one.done(tmp_path) for one in good) and not bad.done(tmp_path)


def test_a_reason_longer_than_a_pipe_holds_arrives_and_what_cannot_be_sent_is_told(work: Any, tmp_path: Path) -> None:
    long = step(work, "long", does="explain")
    assert run([long], tmp_path, jobs=1) == {long.key: "because " * 100_000}
    with pytest.raises((AttributeError, PicklingError), match="pickle"):
        run([Measurement("own", Path("own"), "found.json", lambda inputs: {})], tmp_path)


def test_a_warning_is_a_sentence(work: Any, tmp_path: Path) -> None:
    assert run([step(work, "warn", does="warn")], tmp_path) == {}
    assert (tmp_path / "warn" / LOG).read_text().splitlines()[1:] == ["warning: few words are known", "a result"]


def test_a_fault_of_code_is_told_with_its_kind(work: Any, tmp_path: Path) -> None:
    slip = step(work, "slip", does="slip")
    assert run([slip], tmp_path, jobs=1) == {slip.key: "KeyError: 'nats'"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_them(work: Any, tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [step(work, name, does="wait") for name in ("a", "b", "c")]
    join = signal_when(number, tmp_path / "a" / "begun", tmp_path / "b" / "begun")
    began = time.monotonic()
    with pytest.raises(Interrupted) as raised:
        run(steps, tmp_path)
    join()
    assert raised.value.code == 128 + number and time.monotonic() - began < 50
    assert not (tmp_path / "c").exists()
    assert "saved their state: a, b; the same command goes on" in capsys.readouterr().err


ALONE = """
import sys
from pathlib import Path
import steps_of_tests
from modeling_seqvae.reproduce.jobs import run_steps
from modeling_seqvae.reproduce.steps import Measurement

if __name__ == "__main__":
    step = Measurement("a", Path("a"), "found.json", steps_of_tests.work, {"does": "wait"})
    run_steps([step], Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_runs_ends_where_its_parent_is_killed(work: Any, tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    paths = os.pathsep.join([str(Path(work.__file__).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "alone.py", tmp_path], env={**os.environ, "PYTHONPATH": paths}
    )
    wait_for(tmp_path / "a" / "begun")
    parent.kill()
    parent.wait()
    number = int((tmp_path / "a" / "begun").read_text())
    deadline = time.monotonic() + 50  # the step itself takes a minute
    while is_running(number):
        assert time.monotonic() < deadline, "it went on without its parent"
        time.sleep(0.05)


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_alone_shows_what_it_prints_on_standard_error(work: Any, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import steps_of_tests
from modeling_seqvae.reproduce.jobs import run_steps
from modeling_seqvae.reproduce.steps import Measurement

if __name__ == "__main__":
    run_steps([Measurement("a", Path("a"), "found.json", steps_of_tests.work)], Path({str(tmp_path)!r}))
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("", 0) and not (tmp_path / "a" / LOG).exists()
    started, shown, printed, ended = done.stderr.splitlines()
    assert started == "[0/1] a: started" and shown.startswith("at work") and printed == "a result"
    assert ended.startswith("[1/1] a: done in 0:0")


def test_gpus_are_given_one_to_each_job_where_there_are_several(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, visible, expected in ((0, None, []), (1, None, []), (2, None, ["0", "1"]), (2, "3,5", ["3", "5"])):
        monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus() == expected
    steps = [step(work, "a", after=["b"]), step(work, "b")]  # both at once
    assert run(steps, tmp_path) == {}
    assert {one.read(tmp_path)["gpu"] for one in steps} == {"3", "5"}


def test_cores_are_divided_among_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [threads_for(jobs) for jobs in (1, 2, 3, 16)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads_for(1) >= 1


def test_progress_goes_to_standard_error_a_line_for_each_step(
    work: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run([step(work, "a"), step(work, "bad", does="fail")], tmp_path)
    printed = capsys.readouterr()
    assert printed.out == "" and "a: done in" in printed.err and "bad: failed: the corpus is empty\n" in printed.err
    assert "a: started" in printed.err and "[2/2" in printed.err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no server process imports first")
def test_a_ctrl_c_while_libraries_are_imported_is_the_parents_alone(tmp_path):
    """The terminal sends it to every process; the one that imports for the others prints no traceback."""
    (tmp_path / "slow_library.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    (tmp_path / "program.py").write_text(
        "from pathlib import Path\n"
        "from modeling_seqvae.reproduce import jobs\n"
        "from modeling_seqvae.reproduce.steps import Measurement\n"
        "if __name__ == '__main__':\n"
        "    jobs.PRELOADED = ('slow_library',)\n"
        "    steps = [Measurement('a', Path('a'), 'found.json', dict)]\n"
        "    print(jobs.run_steps(steps, Path('out')))\n"
    )
    root = Path(jobs.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    started, *_, ended = done.stderr.splitlines()
    assert started == "[0/1] a: started" and ended.startswith("[1/1] a: failed: TypeError: 'Inputs' object")
    assert done.stderr.count("Traceback") == 1 and "KeyboardInterrupt" not in done.stderr  # the step's own
    assert done.returncode == 0
