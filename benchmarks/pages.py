"""Regions of a document that a benchmark writes: what stands between `<!-- NAME -->` and `<!-- end -->`."""

import re


def with_region(text: str, name: str, content: str) -> str:
    """The text with the content of its region `name` replaced. Raises ValueError unless there is one such region."""
    region = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, found = region.subn(lambda match: f"{match[1]}{content}\n{match[2]}", text)
    if found != 1:
        raise ValueError(f"there must be one region <!-- {name} --> ... <!-- end -->, found {found}")
    return text


def region_names(text: str, prefix: str) -> list[str]:
    """What follows `prefix` in the names of the text's regions that begin with it, in order."""
    return re.findall(rf"<!-- {re.escape(prefix)}(.+?) -->", text)
