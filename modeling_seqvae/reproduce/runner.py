"""`seqvae reproduce`: do what a target lacks, then write its tables and picture.

OUTPUT/CORPUS/METHOD/SETTINGS/seedN are the runs, which all targets share; OUTPUT/CORPUS/TARGET.md, .json and .png
is what is made of them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..data.files import read_json, write_json, write_text
from ..evaluation.table import table
from ..training.recipe import Recipe
from .estimates import Estimates, probe
from .plots import require_matplotlib
from .processes import call, failures, run_steps, threads_for
from .progress import Bars, clock, note
from .request import Request
from .steps import Step, Training
from .targets import TARGETS, Target

PLAN = {
    "title": ("training", "{}"),
    "seed": ("seed", "{}"),
    "state": ("state", "{}"),
    "updates": ("updates\nleft", "{:,}"),
    "time": ("time", "{}"),
}


def reproduce(name: str, request: Request, output_dir: Path, jobs: int = 1, dry_run: bool = False) -> None:
    """Make a table or figure: print what will run, do it in `jobs` processes, write and print what came out.

    What is there already is not done again; with `dry_run` nothing is done. Raises ValueError for an unknown target or
    method and for a folder that holds another recipe's run, ModuleNotFoundError without matplotlib where there is a
    picture to draw, all before anything runs; and RuntimeError that names the steps that failed, after the rest is
    done and written.
    """
    target = target_named(name)
    if target.draws:
        require_matplotlib()
    steps = in_order(target.steps(request))
    left = [step for step in steps if not step.done(output_dir)]
    estimates = Estimates(output_dir, partial(_probe, threads=threads_for(jobs)))
    seconds = {step.key: estimates.seconds(step) for step in left}
    say = print if dry_run else note
    say(plan(steps, left, output_dir, estimates, seconds, jobs))
    if dry_run:
        return
    known = {key: 60.0 if value is None else value for key, value in seconds.items()}
    failed = run_steps(left, output_dir, jobs, Bars(left, known, output_dir, jobs)) if left else {}
    write(name, request, output_dir)
    if failed:
        heading = f"{len(failed)} of {len(steps)} steps failed; the others are kept, and the same command tries again:"
        raise RuntimeError(f"{heading}\n{failures(steps, failed, output_dir)}")


def target_named(name: str) -> Target:
    """The target of a name. Unknown ones: ValueError with the list."""
    if name not in TARGETS:
        raise ValueError(f"{name!r} is not one of {', '.join(TARGETS)}")
    return TARGETS[name]


def in_order(steps: Sequence[Step]) -> list[Step]:
    """The steps and what they need, each once, what is needed first.

    Raises ValueError where two different recipes have one folder, as two files of one name would.
    """
    found: dict[str, Step] = {}

    def add(step: Step) -> None:
        for need in step.needs:
            add(need)
        other = found.setdefault(step.key, step)
        if isinstance(step, Training) and isinstance(other, Training) and step.recipe.differences(other.recipe):
            raise ValueError(f"two recipes would be trained in {step.folder}: give one of the files another name")

    for step in steps:
        add(step)
    return list(found.values())


def plan(
    steps: Sequence[Step],
    left: Sequence[Step],
    output_dir: Path,
    estimates: Estimates,
    seconds: Mapping[str, float | None],
    jobs: int,
) -> str:
    """What will run, and how long that will take."""
    trainings = [step for step in steps if isinstance(step, Training)]
    to_do = {step.key for step in left}
    told = _distinctions(trainings)
    rows = [
        {"title": f"{step.recipe.title}{told[step.key]}", "seed": step.recipe.training.seed}
        | (_left(step, output_dir, estimates, seconds) if step.key in to_do else {"state": "done"})
        for step in trainings
    ]
    lines = [table(rows, None, PLAN)] if rows else []
    measured, measuring = len(steps) - len(trainings), [step for step in left if not isinstance(step, Training)]
    if measured:
        lines.append(f"measurements: {measured - len(measuring)} done, {len(measuring)} to do")
    return "\n".join([*lines, _in_all(left, seconds, jobs, estimates)])


def _left(
    step: Training, output_dir: Path, estimates: Estimates, seconds: Mapping[str, float | None]
) -> dict[str, Any]:
    epochs = len(step.read(output_dir) or ())
    state = f"to resume after epoch {epochs}" if epochs else "to train"
    return {"state": state, "updates": estimates.updates(step), "time": clock(seconds[step.key] or 0.0)}


def _distinctions(trainings: Sequence[Training]) -> dict[str, str]:
    """What tells trainings apart beside method and seed, by key: corpus and settings, where these are several."""
    parts = {training.key: (training.folder.parts[0], training.folder.parts[2]) for training in trainings}
    several = [len(set(kind)) > 1 for kind in zip(*parts.values(), strict=True)]
    told = {
        key: [part for part, differs in zip(names, several, strict=True) if differs] for key, names in parts.items()
    }
    return {key: f" ({', '.join(names)})" if names else "" for key, names in told.items()}


def _in_all(left: Sequence[Step], seconds: Mapping[str, float | None], jobs: int, estimates: Estimates) -> str:
    if not left:
        return "nothing is left to do"
    known = [value for value in seconds.values() if value is not None]
    if not known:
        return "how long that takes is not known: nothing like it has been measured here"
    source = "a few updates timed now" if estimates.probed else "the runs that are there"
    unknown = len(left) - len(known)
    beside = f", beside {unknown} whose time is not known" if unknown else ""
    at_once = f", {jobs} at a time" if jobs > 1 else ""
    total = max([sum(known) / jobs, *known, 0.0])
    return f"in all about {clock(total)} at most{at_once}{beside}: estimated from {source}; a plateau ends a run sooner"


def write(name: str, request: Request, output_dir: Path) -> None:
    """Write OUTPUT/CORPUS/TARGET.md, .json and .png from what there is, and print the tables."""
    report = target_named(name).report(request, output_dir)
    folder = output_dir / request.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}{suffix}" for suffix in (".md", ".json")]
    write_text(written[0], document(name, request, output_dir))
    made = {"target": name, "command": request.command(name), "request": request.as_dict(), **report.as_dict()}
    write_json(written[1], made)
    if report.picture:
        written.append(folder / f"{name}.png")
        report.picture(written[-1])
    print(report.text())
    note(f"written to {', '.join(map(str, written))}")


def document(name: str, request: Request, output_dir: Path) -> str:
    """The Markdown of a target, from the recipes, histories and measurements below `output_dir` alone."""
    report = target_named(name).report(request, output_dir)
    picture = f"\n\n![{name}]({name}.png)" if report.picture else ""
    return f"Made by `{request.command(name)}`.\n\n{report.markdown()}{picture}\n"


def document_again(made: Path) -> str:
    """What `document` gives now of the target that a TARGET.json, beside its corpus's runs, is of.

    A document that quotes a table is checked with it. Raises ValueError where the file is none that `write` writes.
    """
    content = read_json(made, ("target", "request"))
    return document(content["target"], Request.from_dict(content["request"]), made.parent.parent)


def _probe(recipe: Recipe, data_dir: Path | None, threads: int) -> dict[str, float]:
    note(f"timing a few updates on {recipe.corpus.name}")
    found: dict[str, float] = call(probe, recipe, data_dir, threads=threads)
    return found
