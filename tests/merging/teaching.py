"""Signed packets of teachers that are made by hand: any table, any space, any order of arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from m2kt.packet import Concepts, Packet, Rule, WriteRule, with_leaves
from tests.packet.samples import sample_packet, sample_program

SYMBOLS = ["a", "b", "c", "d", "e"]
ROWS = [(x, y) for x in range(5) for y in range(5)]
Row = tuple[int, int]
TRUE: dict[Row, int] = {row: (3 * row[0] + 2 * row[1] + row[0] * row[1]) % 5 for row in ROWS}


def taught(
    folder: Path,
    table: Mapping[Row, int] = TRUE,
    *,
    teacher: str = "t",
    width: int = 16,
    flip: bool = False,
    rule: str = "rule 1",
    unsure: Collection[Row] = (),
    near: str | None = None,
    key: Path | None = None,
) -> Packet:
    """A packet of a teacher that holds a table, saved, signed and loaded again.

    Args:
        teacher: names it; its space follows from the name.
        flip: the rule takes its arguments the other way round.
        unsure: rows at which the teacher's confidence is low.
        near: the name of a teacher that it was tuned from: their spaces are alike.
    """
    seed = int(hashlib.sha256((near or teacher).encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    prototypes_SD = 3 * rng.standard_normal((5, width))
    rng = np.random.default_rng(seed + len(table) + (near is not None))
    if near is not None:
        prototypes_SD = prototypes_SD + 0.2 * rng.standard_normal((5, width))
    label_P = np.repeat(np.arange(5), 8)
    samples_PD = prototypes_SD[label_P] + 0.1 * rng.standard_normal((40, width))
    rows = list(table)
    vectors_KD = prototypes_SD[[table[row] for row in rows]] + 0.1 * rng.standard_normal((len(rows), width))
    concepts = Concepts(
        vectors_KD=vectors_KD.astype(np.float32),
        spread_basis_KrD=rng.standard_normal((len(rows), 2, width)).astype(np.float32),
        spread_scale_Kr=np.ones((len(rows), 2), dtype=np.float32),
        support_K=np.full(len(rows), 3),
        prototypes_SD=np.stack([samples_PD[label_P == s].mean(axis=0) for s in range(5)]).astype(np.float32),
        prototype_count_S=np.full(5, 8),
        prototype_samples_PD=samples_PD.astype(np.float32),
        prototype_symbol_P=label_P,
    )
    packet = sample_packet(width=width)
    card = packet.manifest.teacher.model_copy(
        update={"name": teacher, "digest": "sha256:" + hashlib.sha256(teacher.encode()).hexdigest()}
    )
    confidence_K = np.array([0.2 if row in unsure else 0.9 for row in rows], dtype=np.float32)
    packet = packet.replace(
        program=_program(rows, flip, rule),
        concepts=concepts,
        spec=packet.spec.model_copy(
            update={"slots": {"x": packet.spec.slots["x"].model_copy(update={"values": SYMBOLS})}}
        ),
        manifest=packet.manifest.model_copy(update={"teacher": card}),
        attention={},
        traces={"confidence_K": confidence_K},
    )
    name = f"{teacher}-{len(list(folder.iterdir()))}.m2kp"
    return Packet.load(packet.save(folder / name, key=key))


def _program(rows: list[Row], flip: bool, name: str) -> object:
    program = sample_program()
    order = (1, 0) if flip else (0, 1)
    held = Rule(
        name=name,
        arity=2,
        rows=[(row[order[0]], row[order[1]]) for row in rows],
        outputs=[None] * len(rows),
        range=list(range(5)),
        family=0,
        offset=0,
        uses=1,
    )

    def turn(leaf: object) -> object:
        if not isinstance(leaf, WriteRule):
            return leaf
        return leaf.model_copy(update={"sources": [leaf.sources[order[0]], leaf.sources[order[1]]]})

    states = [state.model_copy(update={"decision": with_leaves(state.decision, turn)}) for state in program.states]  # type: ignore[arg-type]
    return program.model_copy(update={"symbols": SYMBOLS, "classes": [0] * 5, "rules": [held], "states": states})


def table_of(packet: Packet) -> dict[Row, int]:
    """What a packet's only rule writes, by row."""
    from m2kt.packet import read_outputs

    (rule,) = packet.program.rules
    return {(row[0], row[1]): int(o or 0) for row, o in zip(rule.rows, read_outputs(packet), strict=True)}
