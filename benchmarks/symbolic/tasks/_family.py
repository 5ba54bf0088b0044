"""How a family's file declares its tasks: a writer, the slots, and the sizes of its templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.symbolic._pens import Pen, Writer, written

Entry = tuple[dict[str, list[str]], list[str], list[str], str | None, Callable[[str], str]]

DIGITS = list("0123456789")
NAMES = [
    "Alice", "Bob", "Claire", "Dave", "Eve", "Fred", "Gertrude", "Helga", "Izzi", "Jamie", "Karl", "Lola",
    "Millicent", "Ophelia", "Patrick", "Rodrigo", "Sam", "Tamika", "Vina", "Yolanda",
]  # fmt: skip


class Family:
    """The tasks of one file."""

    def __init__(self) -> None:
        self.formats: dict[str, Entry] = {}
        self.writers: dict[str, Writer] = {}
        self.sizes: dict[str, tuple[list[int], list[int]]] = {}  # probed and held out

    def task(
        self,
        name: str,
        slots: Mapping[str, Sequence[str]],
        shape: Callable[[int], str | list[str]],
        answer: str | None,
        *,
        probed: Sequence[int] = (2, 3, 4, 6),
        held_out: Sequence[int] = (24, 12),
    ) -> Callable[[Writer], Writer]:
        """Declare a task by its writer. ``shape``: the template, or several, of a size."""

        def add(writer: Writer) -> Writer:
            self.sizes[name] = (list(probed), list(held_out))
            self.formats[name] = (
                {slot: list(values) for slot, values in slots.items()},
                _templates(shape, probed),
                _templates(shape, held_out),
                answer,
                written(writer),
            )
            self.writers[name] = writer
            return writer

        return add

    def unwritten(self, name: str) -> None:
        """Take a task's writer away: interventions within its answer are then not known."""
        del self.writers[name]


def _templates(shape: Callable[[int], str | list[str]], sizes: Sequence[int]) -> list[str]:
    shapes = [shape(size) for size in sizes]
    return [text for s in shapes for text in ([s] if isinstance(s, str) else s)]


def groups(pattern: str, prompt: str) -> tuple[str, ...]:
    """What the pattern's groups hold in a prompt, which has it by its template."""
    match = re.search(pattern, prompt)
    if match is None:
        raise ValueError(f"expected {pattern!r} in the prompt, got {prompt!r}")
    return match.groups()


def group(pattern: str, prompt: str) -> str:
    """What the pattern's first group holds in a prompt."""
    return groups(pattern, prompt)[0]


def repeat(item: str, times: int, by: str = " ") -> str:
    """The item, several times."""
    return by.join([item] * times)


def each(times: int, item: Callable[[int], str], by: str = " ") -> str:
    """``item(0)``, ``item(1)``, ..."""
    return by.join(map(item, range(times)))


def listed(items: Sequence[str]) -> str:
    """``a, b, and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])}, and {items[-1]}"


def line(pen: Pen, symbols: Iterable[str], by: str = " ") -> list[str]:
    """Write symbols with ``by`` between them; returns those that stand there."""
    standing = []
    for i, symbol in enumerate(symbols):
        if i:
            pen.t(by)
        standing.append(pen.s(symbol))
    return standing
