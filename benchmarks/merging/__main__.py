"""``python -m benchmarks.merging --work DIR [--out FILE.json] [conflicts|students|composition ...]``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.merging.composition import PROMPTS, SIZES, composition
from benchmarks.merging.conflicts import RATES, conflicts
from benchmarks.merging.students import students


def say(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.merging", description=__doc__)
    parser.add_argument("what", nargs="*", default=["conflicts", "students"], help="conflicts, students, composition")
    parser.add_argument("--work", type=Path, required=True, help="Teachers and packets are kept here.")
    parser.add_argument("--out", type=Path, help="A JSON file for the numbers.")
    parser.add_argument("--student", default="zoo:pico-llama", help="Of composition.")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="Of each packet, in composition.")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="Packets at once, in composition.")
    parser.add_argument("--rates", type=float, nargs="*", default=list(RATES), help="Shares of altered rows.")
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    if "conflicts" in arguments.what:
        results["conflicts"] = conflicts(arguments.work, say, arguments.rates)
    if "students" in arguments.what:
        results["students"] = students(arguments.work, say)
    if "composition" in arguments.what:
        results["composition"] = composition(arguments.work, say, arguments.student, arguments.prompts, arguments.sizes)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
