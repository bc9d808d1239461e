"""What `seqvae reproduce` can make: each target says which steps it needs, and makes tables and pictures of them.

To add one: write a module beside this one with a class that does what `Target` says, and give it an entry in TARGETS.
Or write it in a module of yours, which ends in `TARGETS.register("lengths")(Lengths())`, and import that:
`seqvae reproduce lengths --import my_lengths.py ...`. The functions of its measurements are of a module too.

    class Lengths:
        summary = "KL by length of the sentence"
        draws = False

        def steps(self, request):
            return [self._measurement(request, training) for training in self._trainings(request)]

        def report(self, request, output_dir):
            rows = []
            for training in self._trainings(request):
                found = self._measurement(request, training).read(output_dir)  # None where it is not there
                rows.append({"title": training.title} if found is None else {"title": training.title, **found})
            return Report([Table("KL by length.", COLUMNS, rows)])

        def _trainings(self, request):
            methods = request.methods_or(["seqvae", "max_pool"])
            return [training for method in methods for training in request.trainings(method)]

        def _measurement(self, request, training):
            settings = {"seed": 0}
            return Measurement(f"{training.title}: lengths", training.folder, "lengths.json", measure_lengths,
                               settings, (training,), request.data_dir)

`steps` need not list what others need: the trainings of a measurement are found through it. `report` reads files alone
(recipe.yaml, history.jsonl and the JSON of measurements), never weights: docs/reproduced is checked against it. Where a
step has failed or has not been done, it leaves the figures out of the row, or the row out of the picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..registry import Registry
from .figures import Curves, Figure2, Positions
from .request import Request
from .rows import Report
from .steps import Step
from .table5 import Table5
from .table6 import Table6
from .tables import Table1, Table2, Table3, Table4


@runtime_checkable
class Target(Protocol):
    """A table or figure, such as one of the paper."""

    summary: str
    """One line for the help."""

    draws: bool
    """Whether it needs matplotlib."""

    def steps(self, request: Request) -> Sequence[Step]:
        """What has to be done, most urgent first. Raises ValueError for what cannot be asked of this target."""

    def report(self, request: Request, output_dir: Path) -> Report:
        """Tables, notes and picture of what there is. Raises ValueError that names a damaged file."""


TARGETS = Registry("TARGETS", "an object with summary, draws, steps and report")
"""The first argument of `seqvae reproduce`: a `Target` each."""
TARGETS.fits = lambda part: isinstance(part, Target) and not isinstance(part, type)
TARGETS |= {
    "table1": Table1(),
    "table2": Table2(),
    "table3": Table3(),
    "table4": Table4(),
    "table5": Table5(),
    "table6": Table6(),
    "figure2": Figure2(),
    "figure3": Curves("figure3", "KL and pairwise cosine over training, without and with pooling"),
    "figure4": Curves("figure4", "KL and pairwise cosine over training, aggressive beside max pooling"),
    "positions": Positions(),
}
