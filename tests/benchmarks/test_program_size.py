"""A program's bytes do not grow with the number of sizes that were probed."""

from __future__ import annotations

import random

from benchmarks.symbolic._teacher import FunctionTeacher
from m2kt.packet._json import canonical_json
from m2kt.probes import ProbeSpec
from m2kt.teacher import ExtractionConfig
from m2kt.teacher.program import program_of

LETTERS = "abcdef"
_RNG = random.Random(0)
TABLE = {(x, y): _RNG.choice(LETTERS) for x in LETTERS for y in LETTERS}


def fold(prompt: str) -> str:
    """`` a b c; c d e > e.`` over a random table."""
    first, *others = prompt.rstrip(":").split()
    steps = []
    for letter in others:
        steps.append(f" {first} {letter} {TABLE[first, letter]}")
        first = TABLE[first, letter]
    return ";".join(steps) + f" > {first}."


def test_bytes_do_not_grow_with_the_sizes_probed() -> None:
    config = ExtractionConfig(probes_per_template=80, scouted_per_template=100, checked_per_template=30, rounds=2)
    sizes: dict[int, tuple[int, int, int]] = {}
    for largest in (3, 4, 6):
        templates = [" ".join(["{x}"] * n) + ":" for n in range(2, largest + 1)]
        spec = ProbeSpec.model_validate(
            {"name": "fold", "slots": {"x": {"values": list(LETTERS)}}, "templates": templates, "stop": "\n"}
        )
        program = program_of(FunctionTeacher(spec, fold), spec, config).program
        raw = canonical_json(program.model_dump(mode="json", by_alias=True))
        sizes[largest] = len(program.states), program.n_leaves, len(raw)
        print(f"probed 2 to {largest}: {sizes[largest][0]} states, {sizes[largest][1]} leaves, {len(raw)} bytes")
    assert len(set(sizes.values())) == 1, sizes
