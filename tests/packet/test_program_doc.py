"""docs/program.md: its programs are checked and its traces run. ``M2KT_UPDATE_GOLDEN=1`` writes them anew."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from m2kt.packet import Packet, ProgramExecutor, fixed_lookup
from m2kt.packet._check_program import check_program
from tests.packet.programs import ADDED, EXAMPLES, addition, chart_text, look_up, prompt, trace_table
from tests.packet.samples import sample_packet

DOC = Path(__file__).parents[2] / "docs" / "program.md"


@pytest.mark.parametrize("name", EXAMPLES)
def test_traces_are_as_written(name: str) -> None:
    check_program(EXAMPLES[name][0], name)
    expected = f"<!-- {name} -->\n```\n{chart_text(name)}\n```\n\n{trace_table(name)}\n"
    text = DOC.read_text()
    section = re.compile(rf"<!-- {name} -->\n.*?(?=\n###|\Z)", re.DOTALL)
    if os.environ.get("M2KT_UPDATE_GOLDEN"):
        text = section.sub(lambda _: expected, text)
        DOC.write_text(text)
    assert expected in text, f"docs/program.md: {name} changed; if it should, set M2KT_UPDATE_GOLDEN=1"


@pytest.mark.parametrize("n", [1, 2, 3, 9, 40, 200])
def test_addition_at_any_size(n: int) -> None:
    rng = random.Random(n)
    execute = ProgramExecutor(addition(), max_units=10_000)
    lookup = fixed_lookup(ADDED, execute.program)
    numbers = [("0" * n, "0" * n), ("9" * n, "9" * n), ("9" * n, "0" * (n - 1) + "1")]
    numbers += [tuple("".join(rng.choices("0123456789", k=n)) for _ in range(2)) for _ in range(3)]
    for a, b in numbers:
        asked = prompt("{d}" * n + "+" + "{d}" * n + ":", {"d": list("0123456789")}, a + b)
        trace = execute(asked, lookup)
        assert trace.complete, trace.failure
        written = trace.completion.partition(">")[2].rstrip("\n.")
        assert int(written) == int(a) + int(b) and len(written) in (n, n + 1)


def test_a_chain_of_any_order_and_length_is_looked_up() -> None:
    rng = random.Random(0)
    execute = ProgramExecutor(look_up())
    for n in (1, 2, 4):
        names = rng.sample("abcd", n)
        bound = [*zip(names, [*names[1:], "7"], strict=True)]
        rng.shuffle(bound)
        template = ", ".join("{v}={v}" if value != "7" else "{v}={d}" for _, value in bound) + ": {v}?"
        slots = {"v": list("abcd"), "d": list("0123456789")}
        asked = prompt(template, slots, [x for pair in bound for x in pair] + [names[0]])
        assert execute(asked, fixed_lookup([], execute.program)).completion == f" {' '.join([*names, '7'])}.\n"


def test_a_program_travels_as_it_is(tmp_path: Path) -> None:
    packet = sample_packet()
    assert Packet.load(packet.save(tmp_path / "p.m2kp")).program == packet.program
