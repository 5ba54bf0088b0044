"""The shipped suite: tasks of the field in its own wording, one file a family.

Templates are probed at three or four sizes and held out at four times the largest and at twice that size.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.symbolic._pens import Writer
from benchmarks.symbolic.tasks._family import Entry

FAMILIES = (
    "boolean", "tracking", "objects", "order", "expressions", "letters", "babi", "deduction", "scan", "columns",
    "numbers", "sorting", "lists", "machines", "graphs",
)  # fmt: skip
FORMATS: dict[str, Entry] = {}
WRITERS: dict[str, Writer] = {}
SIZES: dict[str, tuple[list[int], list[int]]] = {}

for _name in FAMILIES:
    _family = import_module(f"{__name__}.{_name}")
    assert not FORMATS.keys() & _family.FORMATS.keys(), f"a name of {_name} is taken"
    FORMATS |= _family.FORMATS
    WRITERS |= _family.WRITERS
    SIZES |= _family.FAMILY.sizes
