"""From a packet and a student to everything that training starts from. :mod:`_validate` judges the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2kt.models import LoadedModel
from m2kt.packet import Packet, Program, Trace
from m2kt.settings import StudentSettings
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._tokenisation import Tokenisation, tokenise

TOKENISATION_TRACES = 600


@dataclass(frozen=True)
class TrainingInputs:
    """The inputs of training for one packet and one student."""

    packet: Packet
    settings: StudentSettings
    rehearsal: Rehearsal
    traces: list[Trace]
    """Rehearsal traces that ``tokenisation`` was collected from."""
    tokenisation: Tokenisation
    penalties: Mapping[int, float]
    """Penalty(c_k) of all filtered concepts: those of the caller and those that the settings flag."""
    unknown_flags: list[str]
    """Entries of ``settings.flagged`` that name nothing in the packet."""


def prepare(
    loaded: LoadedModel,
    packet: Packet,
    settings: StudentSettings,
    *,
    penalties: Mapping[int, float] | None = None,
    seed: int = 0,
) -> TrainingInputs:
    """Draw rehearsal traces and collect the student's tokenisation of the skill.

    Args:
        penalties: Penalty(c_k) by concept, from an auditor.
        seed: of the traces.

    Raises:
        PacketError: no prototype samples, no rehearsal prompts, or no complete trace.
    """
    flagged, unknown_flags = resolve_flagged(packet.program, settings.flagged)
    all_penalties = {**(penalties or {}), **dict.fromkeys(flagged, 1.0)}
    rehearsal = Rehearsal(
        packet.program,
        packet.spec,
        packet.concepts.prototype_symbol_P,
        loaded.tokenizer,
        settings.rehearsal,
        seed=seed,
        forbidden=all_penalties,
    )
    traces = [trace for trace, _ in rehearsal.draw(TOKENISATION_TRACES)]
    return TrainingInputs(
        packet=packet,
        settings=settings,
        rehearsal=rehearsal,
        traces=traces,
        tokenisation=tokenise(loaded.tokenizer, packet.program, traces, rehearsal.encode.chat),
        penalties=all_penalties,
        unknown_flags=unknown_flags,
    )


def resolve_flagged(program: Program, entries: Sequence[str]) -> tuple[list[int], list[str]]:
    """Concepts of flagged entries, and the entries that name nothing in the program.

    A symbol stands for all rows that read it, ``rule(a, b)`` for one row.
    """
    flagged: set[int] = set()
    unknown: list[str] = []
    for entry in entries:
        matches: set[int] = set()
        for rule in program.rules:
            for i, row in enumerate(rule.rows):
                names = [program.symbols[s] for s in row]
                row_name = f"{rule.name}({','.join(names)})"
                if entry in names or entry.replace(" ", "") == row_name.replace(" ", ""):
                    matches.add(rule.offset + i)
        if not matches and entry not in program.symbols:
            unknown.append(entry)
        flagged |= matches
    return sorted(flagged), unknown
