"""``python -m attacks FOLDER``: writes all hostile packets, and prints each path with what the packet tries."""

from __future__ import annotations

import sys
from pathlib import Path

from . import files, signatures, tensors, texts
from ._forge import ATTACKS

MODULES = (files, tensors, texts, signatures)


def table() -> str:
    """The list in README.md."""
    rows = [f"| `{a.name}` | {a.tries} |" for a in ATTACKS.values()]
    return "\n".join(["| attack | what it tries |", "| --- | --- |", *rows]) + "\n"


def main() -> None:
    """Writes them."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m attacks FOLDER   (or --table)")
    if sys.argv[1] == "--table":
        sys.stdout.write(table())
        return
    if sys.argv[1].startswith("-"):
        raise SystemExit(f"expected a folder or --table, got {sys.argv[1]}")
    folder = Path(sys.argv[1])
    for a in ATTACKS.values():
        sys.stdout.write(f"{a.write(folder / a.name)}\t{a.tries}\n")


if __name__ == "__main__":
    main()
