"""What a caller gave, checked, with errors and warnings that name it; libraries that may be missing; progress bars."""

import importlib
import math
import operator
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm.auto import tqdm


def as_list_of_strings(texts: Any) -> list[str]:
    """One string or any iterable of them as a list. Raises TypeError with the index and type of what is no string."""
    if isinstance(texts, str):
        return [texts]
    dimensions = getattr(texts, "ndim", 1)  # a table's iterator would give its column names
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | Mapping) or dimensions != 1:
        found = type(texts).__name__
        if dimensions != 1:
            found += f" of {dimensions} dimensions: choose one column, in a ColumnTransformer by 'name'"
        raise TypeError(f"texts must be a string or a list of strings, got {found}")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            found = f"texts[{index}] is of type {type(text).__name__}"
            if isinstance(text, float) and math.isnan(text):
                found += ", a missing one (NaN): fill in '', or leave it out"
            raise TypeError(f"every text must be a string, but {found}")
    return listed


def require_unicode(texts: Iterable[str], name: str, start: int = 0) -> None:
    """Raise ValueError, with its index counted from `start`, for the first text that cannot be written as UTF-8."""
    for index, text in enumerate(texts, start):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name}[{index}] is not valid Unicode: {text[error.start]!a} is half of a character, as of bytes that "
                f"were not UTF-8 and were read with errors='surrogateescape': {text[:80]!a}"
            ) from None


def at_least(least: int, value: int, name: str) -> int:
    """The value as an int. Raises ValueError for one below `least`, and TypeError for no whole number."""
    number = whole_number(value, name)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def whole_number(value: Any, name: str) -> int:
    """The value as an int. Raises TypeError for what is none, such as 2.0."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def one_of(choices: Mapping[str, Any], name: str, argument: str) -> Any:
    """The choice of a name. Raises ValueError that lists the names for another one."""
    if not isinstance(name, str) or name not in choices:
        raise ValueError(f"{argument}={name!r} is not one of {', '.join(choices)}")
    return choices[name]


def progress_bar(total: int, doing: str, show: bool | None = None, unit: str = " texts") -> tqdm:
    """A bar that appears on work of more than two seconds; at once with `show` True, and never with False."""
    return tqdm(total=total, desc=doing, unit=unit, delay=0 if show else 2, disable=show is False, leave=False)


def outside() -> int:
    """The `stacklevel` of a warning that is given here, so that it names the user's line.

    Between the two stand methods of ours that call each other, and torch's decorators.
    """
    between = (f"{__package__}.", "torch.")
    frame, level = sys._getframe(1), 1
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(between):
        frame, level = frame.f_back, level + 1
    return level


def optional(name: str, told: str) -> Any:
    """A module of a library that need not be there. Raises ModuleNotFoundError that tells how to install it.

    Where the library is there and lacks one itself, the error is the library's own.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise ModuleNotFoundError(told, name=error.name) from None


def sklearn(name: str) -> Any:
    """A module of scikit-learn, which code that travels with a checkpoint does not require."""
    return optional(f"sklearn.{name}", "this takes scikit-learn: pip install scikit-learn")
