"""Modules of yours that a checkpoint carries, because its model has parts of them.

In the package there are none. The copy of this file beside such a checkpoint imports them.
"""

MODULES: tuple[str, ...] = ()
"""Their names."""
