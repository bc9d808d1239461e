"""Labels as the names of classes, the same from every format; and how messages quote what a file holds."""

import math
import re
from collections.abc import Sequence
from typing import Any

BYTE_ORDER_MARK = "\ufeff"
_WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})(?:\.0*)?", re.ASCII)
_FRACTION = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def label_name(label: Any) -> str:
    """The class that a label names; "" where it is missing (None, NaN, white space).

    1, 1.0, "1" and "1.0" are the class "1"; true and "TRUE" the class "True". Raises ValueError for a fraction, an
    infinite number and whatever is neither a number, a truth value nor text.
    """
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if not isinstance(label, str | int | float):
        raise ValueError("labels are whole numbers or names")
    name = str(label).removeprefix(BYTE_ORDER_MARK).strip()
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    if isinstance(label, float) or (_FRACTION.fullmatch(name) and not _WHOLE.fullmatch(name)):
        raise ValueError("labels are whole numbers or names: round it, or write it as a name")
    if _WHOLE.fullmatch(name):
        return str(int(name.partition(".")[0]))
    return name.capitalize() if name.lower() in ("true", "false") else name


def quoted(value: Any) -> str:
    """A value as messages show it: at most some eighty characters."""
    shown = repr(value[:80]) if isinstance(value, str) else repr(value)[:80]
    return f"{shown} ..." if len(repr(value)) > len(shown) else shown


def listed(names: Sequence[str]) -> str:
    """Names as messages list them: the first twenty, and how many there are beside them."""
    shown = [name if name == name.strip() and name and len(name) <= 80 else quoted(name) for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def shortened(text: str, most: int = 300) -> str:
    """A message of a library's, cut where it would fill screens."""
    return text if len(text) <= most else f"{text[:most]} ..."
