"""What one call measures on a GPU: whether it is correct there, how fast, and a model of the paper's size.

    python -m benchmarks.gpu pack --corpus arxiv --data-dir DIR     # here: what the other machine lacks, into gpu-pack/
    python -m benchmarks.gpu run --output-dir OUT                   # there, without a network, in ten minutes
    python -m benchmarks.gpu keep OUT                               # here: what it left, into the documents

The parts of `run`, each with a time limit of its own and its results written before the next begins:

    correctness   the parity fixture, forward, backward, iw_nll, generate and resume, against the CPU
    throughput    training, iw_nll, encode and sample at several batch sizes, and where a step waits
    training      a model of the paper's size until the time is nearly over, and its figures on the test set

A second call trains another model:  run --output-dir OUT --parts training --method max_pool
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from .driver import PARTS, SETTINGS, Settings, run
from .packing import ROOT, pack, size_of

PACK = ROOT / "gpu-pack"
MODULES = dict(zip(("prepare", *PARTS), ("prepare", "correctness", "rates", "training"), strict=True))
"""The module of each part, whose `main` it is."""


def _arguments() -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="gather what the other machine lacks")
    packing.add_argument("--corpus", default=defaults.corpus, help="a corpus of files; default: arxiv")
    packing.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="where the corpus's files are")
    packing.add_argument("--pack", type=Path, default=PACK, metavar="DIR", help="is made anew; default: gpu-pack/")
    running = commands.add_parser("run", help="run the parts")
    running.add_argument("--output-dir", type=Path, required=True, metavar="OUT", help="receives all results")
    running.add_argument("--pack", type=Path, metavar="DIR", help="what `pack` has made; default: gpu-pack/ if there")
    running.add_argument("--data-dir", default="", metavar="DIR", help="where the corpus is, without a pack")
    running.add_argument("--work-dir", type=Path, metavar="DIR", help="for caches and weights; default: removed after")
    running.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    running.add_argument("--minutes", type=float, default=9.5, help="of all parts together; default: 9.5")
    running.add_argument("--device", default=defaults.device, help="cuda, or cpu for a trial")
    running.add_argument("--corpus", default=defaults.corpus)
    running.add_argument("--method", default=defaults.method)
    running.add_argument("--size", default=defaults.size, help="the preset whose model it is; default: paper")
    running.add_argument("--preset", default=defaults.preset, help="the preset whose training it is; default: auto")
    running.add_argument("--batch-size", type=int, default=defaults.batch_size, help="of the training; default: 256")
    running.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    running.add_argument("--limit", dest="limits", type=_limit, action="append", default=[], metavar="SPLIT=COUNT")
    running.add_argument("--sentences", nargs="+", type=int, default=defaults.sentences, help="of the throughput")
    running.add_argument("--nll-sentences", type=int, default=defaults.nll_sentences)
    running.add_argument("--nll-samples", type=int, default=defaults.nll_samples)
    keeping = commands.add_parser("keep", help="put what a run left into docs/")
    keeping.add_argument("left", type=Path, metavar="OUT", help="the --output-dir of a run")
    part = commands.add_parser("part")  # of `run`, in a process of its own
    part.add_argument("name", choices=MODULES)
    part.add_argument("output_dir", type=Path)
    part.add_argument("until", type=float)  # by time.monotonic(), which is one for all processes
    return parser.parse_args()


def _limit(given: str) -> tuple[str, int]:
    split, _, count = given.partition("=")
    if not (split and count.isdecimal()):
        raise argparse.ArgumentTypeError(f"{given!r} is not SPLIT=COUNT, such as train=10000")
    return split, int(count)


def _pack(given: argparse.Namespace) -> None:
    index = pack(given.pack, given.corpus, given.data_dir)
    print(f"{given.pack}: {size_of(given.pack) / 2**20:.1f} MiB; {given.corpus}; {', '.join(index['libraries'])}")


def _run(given: argparse.Namespace) -> int:
    named = {name: getattr(given, name) for name in vars(Settings()) if hasattr(given, name) and name != "work_dir"}
    settings = replace(Settings(), **named | {"limits": dict(given.limits)})
    there = PACK if PACK.is_dir() and not given.data_dir else None
    with tempfile.TemporaryDirectory() as bare:
        work_dir = (given.work_dir or Path(bare)).absolute()
        seconds = 60 * given.minutes
        ended = run(settings, given.parts, given.pack or there, given.output_dir.absolute(), work_dir, seconds)
    return int(any(part.outcome == "failed" for part in ended))


def _part(given: argparse.Namespace) -> None:
    settings = Settings.read(given.output_dir / SETTINGS)
    sys.path.append(str(Path(settings.work_dir) / "packages"))  # behind all that the machine has
    part = import_module(f"benchmarks.gpu.{MODULES[given.name]}")
    part.main(settings, given.output_dir, given.until - time.monotonic())


def _keep(given: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import report
    import results

    from .keeping import keep

    for path in keep(given.left):
        print(path.relative_to(ROOT))
    report.write()
    for path in results.write():
        print(path)


def _main() -> int:
    given = _arguments()
    try:
        return {"pack": _pack, "run": _run, "keep": _keep, "part": _part}[given.command](given) or 0
    except (FileNotFoundError, ValueError) as error:
        if given.command == "part":
            raise  # the log tells where
        print(f"python -m benchmarks.gpu: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_main())
