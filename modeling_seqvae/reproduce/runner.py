"""`seqvae reproduce`: run the steps that a target lacks, then write its tables and picture.

OUTPUT/CORPUS/METHOD/SETTINGS/seedN are the runs, which all targets share; OUTPUT/CORPUS/TARGET.md, .json and .png
is what is made of them.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..data.corpora import load_corpus
from ..data.files import read_json, write_json, write_text
from ..evaluation.drawing import require_matplotlib
from ..own_modules import import_parts
from .jobs import failures, note, run_steps
from .request import Request
from .rows import Report
from .steps import Step, Training, place
from .targets import TARGETS, Target


def reproduce(name: str, request: Request, output_dir: Path, jobs: int = 1) -> None:
    """Make a table or figure: run the missing steps in `jobs` processes, then write and print what came out.

    Raises ValueError for an unknown target or method and for a folder that holds another recipe's run,
    ModuleNotFoundError without matplotlib where there is a picture to draw, and what `load_corpus` raises for texts
    that are to be trained on, all before anything runs; and RuntimeError that names the steps that failed, after the
    rest is done and written.
    """
    if target_named(name, request.imports).draws:
        require_matplotlib()
    steps = steps_of(name, request)
    left = missing(steps, output_dir)
    note(summary(steps, left))
    _require_texts(left)
    of_methods = [module for step in steps if isinstance(step, Training) for module in step.recipe.imports]
    imports = [*dict.fromkeys([*request.imports, *of_methods])]
    failed = run_steps(left, output_dir, jobs, imports=imports) if left else {}
    write(name, request, output_dir)
    if failed:
        heading = f"{len(failed)} of {len(steps)} steps failed; the others are kept, and the same command tries again:"
        raise RuntimeError(f"{heading}\n{failures(steps, failed, output_dir, jobs)}")


def _require_texts(left: Sequence[Step]) -> None:
    """Read every corpus that is to be trained on, once, so that what is wrong with it is not each step's own error."""
    read = []
    for training in left:
        if isinstance(training, Training):
            asked = (training.recipe.corpus, training.data_dir, training.recipe.limits)
            if asked not in read:
                load_corpus(training.recipe.corpus, data_dir=training.data_dir, limits=training.recipe.limits)
                read.append(asked)


def show_missing(name: str, request: Request, output_dir: Path) -> None:
    """Print the missing steps, one a line: title, state, name. Nothing is run or written.

    Raises what `reproduce` raises before anything runs, but needs no matplotlib.
    """
    steps = steps_of(name, request)
    left = missing(steps, output_dir)
    if left:
        rows = [(step.title, step.state(output_dir), step.key) for step in left]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for title, state, key in rows:
            print(f"{title:{widths[0]}}  {state:{widths[1]}}  {key}")
    note(summary(steps, left))


def print_commands(name: str, request: Request, output_dir: Path) -> None:
    """Print a command line for each missing step, those first that need no other step; nothing is run or written.

    Raises what `show_missing` raises.
    """
    steps = steps_of(name, request)
    left = missing(steps, output_dir)
    for step in sorted(left, key=lambda step: bool(step.needs)):
        print(command_of(step, name, request, output_dir))
    note(summary(steps, left))


def run_step(name: str, request: Request, output_dir: Path, key: str) -> None:
    """Run one step of a target in this process, if it is missing; no table is written.

    Raises ValueError for a step that the target does not have or that needs a missing one, and what the step raises.
    """
    steps = steps_of(name, request)
    named = {step.key: step for step in steps}
    if key not in named:
        raise ValueError(f"--step {key}: {name} has no such step; the last column of --dry-run names the missing ones")
    needed = [step.key for step in missing(named[key].needs, output_dir)]
    if needed:
        raise ValueError(f"--step {key} needs {', '.join(needed)} first, which is not finished")
    if named[key].done(output_dir):
        note(f"{named[key].title} is finished already")
        return
    named[key].run(output_dir)


def command_of(step: Step, name: str, request: Request, output_dir: Path) -> str:
    """The command line that runs a step of a target."""
    own = step.command(output_dir)
    words = [*place(request.data_dir), "--output-dir", str(output_dir), "--step", step.key]
    return own or f"{request.command(name)} {shlex.join(words)}"


def target_named(name: str, imports: Sequence[str] = ()) -> Target:
    """The target of a name, which one of the modules to import may add. Unknown ones: ValueError with the list.

    Raises what `import_parts` raises.
    """
    import_parts(imports)
    if name not in TARGETS:
        raise ValueError(
            f"{name!r} is not one of {', '.join(TARGETS)}; one of your own must be imported first (--import MODULE)"
        )
    return TARGETS[name]


def steps_of(name: str, request: Request) -> list[Step]:
    """All steps of a target, what is needed first. Raises what `reproduce` raises for a wrong request."""
    return in_order(target_named(name, request.imports).steps(request))


def missing(steps: Sequence[Step], output_dir: Path) -> list[Step]:
    """The steps that are not done. Raises ValueError for a folder that holds something else."""
    return [step for step in steps if not step.done(output_dir)]


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


def summary(steps: Sequence[Step], left: Sequence[Step]) -> str:
    """How many trainings and measurements are done and how many are missing."""
    if not left:
        return f"nothing is left to do: {len(steps)} of {len(steps)} steps are finished"
    lines = []
    for kind in ("trainings", "measurements"):
        there, to_do = (
            [step for step in some if isinstance(step, Training) == (kind == "trainings")] for some in (steps, left)
        )
        lines += [f"{kind}: {len(there) - len(to_do)} done, {len(to_do)} to do"] if there else []
    return "; ".join(lines)


def write(name: str, request: Request, output_dir: Path) -> None:
    """Write OUTPUT/CORPUS/TARGET.md, .json and .png from what there is, and print the tables."""
    report = target_named(name, request.imports).report(request, output_dir)
    folder = output_dir / request.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}{suffix}" for suffix in (".md", ".json")]
    write_text(written[0], _document(name, request, report))
    made = {"target": name, "command": request.command(name), "request": request.as_dict(), **report.as_dict()}
    write_json(written[1], made)
    if report.picture:
        written.append(folder / f"{name}.png")
        report.picture(written[-1])
    print(report.text())
    note(f"written to {', '.join(map(str, written))}")


def document(name: str, request: Request, output_dir: Path) -> str:
    """The Markdown of a target, from the recipes, histories and measurements below `output_dir` alone."""
    return _document(name, request, target_named(name, request.imports).report(request, output_dir))


def _document(name: str, request: Request, report: Report) -> str:
    picture = f"\n\n![{name}]({name}.png)" if report.picture else ""
    return f"Made by `{request.command(name)}`.\n\n{report.markdown()}{picture}\n"


def draw_again(made: Path, picture: Path) -> None:
    """The picture of the target that a TARGET.json, beside its corpus's runs, is of, into a PNG.

    Raises ValueError where the file is none that `write` writes, and where the target has no picture.
    """
    name, request, output_dir = _made(made)
    report = target_named(name, request.imports).report(request, output_dir)
    if report.picture is None:
        raise ValueError(f"{made} is of a target without a picture")
    report.picture(picture)


def document_again(made: Path) -> str:
    """What `document` gives now of the target that a TARGET.json, beside its corpus's runs, is of.

    A document that quotes a table is checked with it. Raises ValueError where the file is none that `write` writes.
    """
    return document(*_made(made))


def _made(made: Path) -> tuple[str, Request, Path]:
    content = read_json(made, ("target", "request"))
    return content["target"], Request.from_dict(content["request"]), made.parent.parent
