"""Packets of format 1: they still load and verify, and their programs write what their graphs wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from m2kt.packet import ProgramExecutor, fixed_lookup
from m2kt.packet._convert import convert
from m2kt.packet._format1 import Graph, check_against_spec, check_graph
from m2kt.probes import ProbeSpec

GOLDEN = Path(__file__).parents[1] / "golden"
SKILLS = json.loads(gzip.decompress((GOLDEN / "rollouts-v1.json.gz").read_bytes()))
"""By skill: a graph that the last release of format 1 wrote, its spec, and its rollouts over two tables of outputs."""


@pytest.mark.parametrize("name", sorted(SKILLS))
def test_programs_write_what_graphs_wrote(name: str) -> None:
    skill = SKILLS[name]
    graph, spec = Graph.model_validate(skill["graph"]), ProbeSpec.from_yaml(skill["spec"])
    check_graph(graph, name)
    check_against_spec(graph, spec, name)
    program = convert(graph, spec).program
    execute = ProgramExecutor(program)
    prompts = {
        p.text: p
        for seed, skewed in ((3, False), (4, True))
        for p in spec.sample("rehearsal", 200, seed=seed, skewed=skewed)
    }
    for expected in skill["rollouts"]:
        table = fixed_lookup(skill["tables"][expected["table"]], program)
        prompt = prompts.get(expected["prompt"]) or _read(spec, expected)
        trace = execute(prompt, table)
        offsets = [0]
        for unit in trace.units:
            offsets.append(offsets[-1] + len(unit.text))
        assert (trace.failure and trace.failure.what) == expected["failure"]
        if not expected["failure"]:
            assert trace.completion == expected["completion"]
        written = [[u.kind, u.rule, u.row, [offsets[s] for s in u.sources]] for u in trace.units[trace.n_prompt :]]
        assert written == expected["units"]


def _read(spec: ProbeSpec, expected: dict[str, Any]) -> Any:
    (prompt,) = spec.sample("rehearsal", 1, seed=0, templates=[expected["template"]], among=[expected["prompt"]])
    return prompt
