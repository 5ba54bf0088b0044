"""A small packet made by hand: a random rule over three letters, two arguments, chains of any length."""

from __future__ import annotations

from typing import Any

import numpy as np

from m2kt.packet import (
    Answer,
    Back,
    Case,
    Concepts,
    Count,
    Embedding,
    Equal,
    Fidelity,
    Here,
    Kind,
    Ledger,
    Manifest,
    Mask,
    Move,
    Order,
    Packet,
    Pointer,
    Program,
    Rule,
    Same,
    Seek,
    ShapeFidelity,
    Start,
    State,
    TeacherCard,
    Test,
    Unit,
    WriteCopy,
    WriteLiteral,
    WriteRule,
)
from m2kt.probes import ProbeSpec

SPEC = """
name: tiny-secret
description: A table over three letters.
slots:
  x: {values: ["a", "b", "c"]}
templates: ["{x} {x}:", "{x} {x} {x}:"]
stop: "\\n"
answer: "> ?(.+)\\\\."
truth: truth.py:answer
"""
SYMBOLS = ["a", "b", "c"]
OUTPUTS = [2, 0, 1, 1, 1, 0, 0, 2, 2]


def sample_program(verbalised: bool = False) -> Program:
    """``a b c:`` -> `` a b d; d c e > e.``: one program for any number of letters."""
    rows = [(x, y) for x in range(3) for y in range(3)]
    rule = Rule(
        name="rule 1",
        arity=2,
        rows=rows,
        outputs=list(OUTPUTS) if verbalised else [None] * 9,
        range=[0, 1, 2],
        family=0,
        offset=0,
        uses=1,
    )
    letter, before = Kind(own="□0"), [Move(of=Here(), by=by) for by in (0, -1, -2)]
    operand = Seek(of=Start(), step=1, kind=letter, nth=Count(plus=1, count=Kind(own=";")))
    last = Order(at=Back(state=" □0"), as_=Move(of=Answer(), by=-2))
    ends = [Case(values=[0], then=literal(" >")), Case(values=[-1], then=literal(";"))]
    in_question = Seek(of=Answer(), step=-1, kind=letter, same=[Same(as_=before[2])])
    result = [Case(values=[True], then=copy(in_question)), Case(values=[False], then=copy(before[2]))]
    stop = [Case(values=["."], then=literal("\n"))]
    states = {
        ("",): copy(Start()),
        (" □0",): copy(operand),
        (" □0", " □0"): WriteRule(rule=0, sources=[before[2], before[1]], lead=" "),
        (" □0", " □0", " □0"): Test(ask=last, cases=ends),
        (";",): copy(before[2]),
        (" >",): Test(ask=Equal(at=before[2], as_=Start()), cases=result),
        (" >", " □0"): Test(
            ask=Unit(at=before[1]), cases=[Case(values=[0, 1], then=literal("."))], otherwise=literal(".")
        ),
        (".",): Test(ask=Mask(at=before[1]), cases=stop),
    }
    return Program(
        symbols=SYMBOLS,
        classes=[0, 0, 0],
        rules=[rule],
        states=[State(after=after, decision=decision) for after, decision in states.items()],
        stop="\n",
    )


def copy(source: Pointer) -> WriteCopy:
    return WriteCopy(source=source, lead=" ")


def literal(text: str) -> WriteLiteral:
    return WriteLiteral(text=text)


def sample_packet(*, verbalised: bool = False, width: int = 4, seed: int = 0, **manifest: Any) -> Packet:
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype(np.float32)

    concepts = Concepts(
        vectors_KD=floats(9, width),
        spread_basis_KrD=floats(9, 2, width),
        spread_scale_Kr=np.abs(floats(9, 2)),
        support_K=np.arange(9),
        prototypes_SD=floats(3, width),
        prototype_count_S=np.array([5, 6, 7]),
        prototype_samples_PD=floats(6, width),
        prototype_symbol_P=np.array([0, 0, 1, 1, 2, 2]),
    )
    card = TeacherCard(
        name="zoo:tiny",
        digest="sha256:" + "0" * 64,
        tokenizer_digest="sha256:" + "1" * 64,
        architecture="LlamaForCausalLM",
        parameters=600_000,
        width=width,
        layers=3,
        licence="Apache-2.0",
    )
    options: dict[str, Any] = {
        "name": "tiny-secret",
        "created": "2026-11-22T00:00:00Z",
        "teacher": card,
        "embedding": Embedding(layer=2),
        "verbalised": 1.0 if verbalised else 0.0,
        "fidelity": Fidelity(
            agreement=1.0,
            coverage=0.995,
            probe_accuracy=0.98,
            causal_edge_share=0.75,
            shapes=[ShapeFidelity(template="{x} {x}:", n=9, agreement=1.0, coverage=1.0)],
        ),
        "ledger": Ledger(teacher_passes=3700, seconds=12.5),
    }
    return Packet(
        manifest=Manifest(**(options | manifest)),
        program=sample_program(verbalised),
        spec=ProbeSpec.from_yaml(SPEC),
        concepts=concepts,
        attention={"edges_Mx": np.array([[0, 1, 0], [0, 2, 1]]), "weights_MLH": np.abs(floats(2, 3, 2))},
        traces={"states_ND": floats(5, width)},
    )


def whole_packet() -> Packet:
    """A small packet that has all that an extraction writes: edges, traces, a guard, some verbalised rows."""
    packet = sample_packet(verbalised=True, notes=["made by hand"], config={"seed": 0, "verbalised": 0.5})
    rng = np.random.default_rng(7)
    rule = packet.program.rules[0]
    outputs = [output if i % 2 else None for i, output in enumerate(rule.outputs)]
    program = packet.program.model_copy(update={"rules": [rule.model_copy(update={"outputs": outputs})]})
    edges = [[2, 0, 0, 0], [2, 0, 1, 0], [1, 0, 0, -1]]  # state, leaf, argument, rule
    where = [[0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1], [2, 1, 2]]  # state, trace, step
    attention = {
        "edges_M4": np.array(edges, np.int32),
        "weight_MLH": np.abs(rng.standard_normal((3, 3, 2))).astype(np.float32),
        "effect_M": np.array([1, 0.5, -1], np.float32),
        "causal_M": np.array([1, 0, -1], np.int8),
    }
    traces = {
        "states_MD": rng.standard_normal((5, 4)).astype(np.float32),
        "where_M3": np.array(where, np.int32),
    }
    manifest = packet.manifest.model_copy(update={"verbalised": 0.5, "libraries": {"m2kt": "0.1.0"}})
    return packet.replace(program=program, manifest=manifest, attention=attention, traces=traces)
