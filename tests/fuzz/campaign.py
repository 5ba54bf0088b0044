"""Mutated packets by the thousand: ``python -m tests.fuzz.campaign --mutations 1000000 --jobs 2``.

So many with the signature kept (none may be accepted) and as many signed again by an attacker (no crash, and what is
accepted must be usable). In memory; seeded, whatever the number of jobs. Exit code 1 on a crash or an unsigned change
accepted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from tests.fuzz.judge import Mode, judge, kinds

GOOD = Path(__file__).parents[1] / "golden" / "packet-v2.m2kp"
FORMAT_1 = GOOD.with_name("packet-v1.m2kp")
CHUNK = 500
MODES: tuple[Mode, ...] = ("kept", "resigned")
SHOWN = 5  # crashes that are printed in full

Task = tuple[Mode, int, int, int, Path]  # mode, seed, number of the chunk, mutations, packet
Outcomes = tuple[Counter[tuple[str, str, str]], list[str], float]


def run(task: Task) -> Outcomes:
    """One chunk: outcomes counted by (mode, kind, outcome), a text for each fault, and the slowest packet's time."""
    mode, seed, number, n, good = task
    counts: Counter[tuple[str, str, str]] = Counter()
    wrong, slowest = [], 0.0
    names = kinds(mode)
    for i in range(n):
        rng = random.Random(f"{seed}/{mode}/{number}/{i}")
        kind = names[i % len(names)]
        began = time.perf_counter()
        try:
            outcome: str = judge(mode, kind, rng, good)
            if outcome == "accepted" and mode == "kept":
                wrong.append(f"{mode} {kind} {number}/{i}: an unsigned change was accepted")
        except Exception:
            outcome = "crashed"
            wrong.append(f"{mode} {kind} {number}/{i}:\n{traceback.format_exc(limit=-6)}")
        counts[mode, kind, outcome] += 1
        slowest = max(slowest, time.perf_counter() - began)
    return counts, wrong, slowest


def _tasks(mutations: int, seed: int, modes: list[Mode], good: Path) -> Iterator[Task]:
    for mode in modes:
        for number, start in enumerate(range(0, mutations, CHUNK)):
            yield mode, seed, number, min(CHUNK, mutations - start), good


def main(arguments: list[str] | None = None) -> int:
    """Runs a campaign and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="packets a mode")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=MODES, action="append", help="one mode only")
    parser.add_argument("--format", type=int, choices=(1, 2), default=2, help="of the packet that is mutated")
    options = parser.parse_args(arguments)
    good = GOOD if options.format == 2 else FORMAT_1
    modes = options.mode or list(MODES)
    counts: Counter[tuple[str, str, str]] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    spent: dict[Mode, float] = {}
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        multiprocessing.get_context("spawn").Pool(options.jobs) as pool,
        Progress(*columns, console=console) as bar,
    ):
        for mode in modes:
            began = time.perf_counter()
            shown = bar.add_task(mode, total=options.mutations)
            tasks = _tasks(options.mutations, options.seed, [mode], good)
            for outcomes, faults, slow in pool.imap_unordered(run, tasks):
                counts += outcomes
                wrong += faults
                slowest = max(slowest, slow)
                bar.update(shown, advance=outcomes.total())
            spent[mode] = time.perf_counter() - began
        pool.close()
        pool.join()
    _print(counts)
    for mode in modes:
        print(f"{mode}: {options.mutations / spent[mode]:,.0f} packets a second with {options.jobs} jobs")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"slowest packet {slowest:.2f} s; largest job {memory:,.0f} MiB; {len(wrong)} wrong")
    for fault in wrong[:SHOWN]:
        print(fault, file=sys.stderr)
    return 1 if wrong else 0


def _print(counts: Counter[tuple[str, str, str]]) -> None:
    table = Table("signature", "mutation", *(outcomes := ("refused", "accepted", "unchanged", "crashed")))
    for mode in MODES:
        names = sorted({kind for m, kind, _ in counts if m == mode})
        for name in names:
            table.add_row(mode, name, *(f"{counts[mode, name, o]:,}" for o in outcomes))
        if names:
            totals = [sum(n for (m, _, o), n in counts.items() if (m, o) == (mode, outcome)) for outcome in outcomes]
            table.add_row(mode, "all", *(f"{n:,}" for n in totals), style="bold")
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
