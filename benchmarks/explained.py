"""Are explanations right? On answers of each skill, the concept named for a unit is the one on which the unit depends.

    python -m benchmarks.explained --students zoo:pico-gpt2,zoo:pico-llama --skills secret,kinship,addition --n 100

Extracts each skill of the zoo, lets each student take it in, explains ``n`` answers, and removes and exchanges every
concept and copy that the explanations name. Prints a JSON object a line, then a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from m2kt.pipeline import ExplanationCheck, IngestConfig, check_explanations, extract, ingest
from m2kt.render import Cell, Section, Table, percent, to_markdown


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--students", default="zoo:pico-gpt2,zoo:pico-llama")
    parser.add_argument("--skills", default="secret,kinship,addition")
    parser.add_argument("--depth", choices=["executed", "learned"], default="executed")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = IngestConfig(certificate_traces=0, trigger_strings=0)
    checks: list[tuple[str, str, ExplanationCheck]] = []
    with tempfile.TemporaryDirectory() as folder:
        for skill in arguments.skills.split(","):
            packet = extract(f"zoo:{skill}", f"zoo:{skill}", Path(folder) / f"{skill}.packet").packet
            for student in arguments.students.split(","):
                adapter = Path(folder) / f"{skill}-{student.removeprefix('zoo:')}"
                if not ingest(student, packet, adapter, config=config, depth=arguments.depth).accepted:
                    raise SystemExit(f"{student} did not take in {skill}: there is nothing to explain")
                check = check_explanations(student, f"zoo:{skill}", adapter=adapter, n=arguments.n, seed=arguments.seed)
                checks.append((skill, student, check))
                sys.stdout.write(json.dumps({"skill": skill, **check.report()}) + "\n")
                sys.stdout.flush()
    sys.stdout.write(to_markdown([Section("Explanations", [_table(checks)])]))


def _table(checks: list[tuple[str, str, ExplanationCheck]]) -> Table:
    head = ["skill", "student", "answers", "concepts: exchange", "removal", "copies: exchange", "removal"]
    rows: list[list[Cell | str]] = []
    for skill, student, check in checks:
        cells: list[Cell | str] = [skill, student, str(check.concepts.answers)]
        for causes in (check.concepts, check.copies):
            others = causes.units - causes.base_says_so
            cells.append(f"{percent(causes.exchange_share, 2)} of {causes.exchanged}")
            cells.append(f"{percent(causes.removal_share, 2)} of {others}")
        rows.append(cells)
    return Table(head, rows)


if __name__ == "__main__":
    main()
