"""What the paper says, as data: the methods of its tables and figures, and the figures it publishes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from ..data.files import read_yaml
from ..training.configuration import configuration_root


@cache
def paper_settings(name: str) -> dict[str, Any]:
    """The content of configuration/paper/NAME.yaml."""
    return read_yaml(configuration_root() / "paper" / f"{name}.yaml")


def rows_of(target: str) -> list[str]:
    """The methods of a table or figure, in order."""
    return list(paper_settings("rows")[target])


def published(table: str, corpus: str) -> Mapping[str, Mapping[str, float]]:
    """The paper's figures of a table on a corpus, by method; none where it has none."""
    return paper_settings("published")[table].get(corpus, {})
