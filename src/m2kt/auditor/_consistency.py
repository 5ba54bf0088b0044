"""Does a packet contradict itself, or another packet of the same skill? A poisoned packet shows in this way.

If a row travels both as text and as a vector, the two must decode to the same symbol. At v = 0 there is no text, and a
packet whose rows were exchanged is consistent; only a second packet, from a trusted teacher, can reveal it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import Packet, diff_packets, symbol_scores

MARGIN = 0.05
"""Lead of another symbol's score over the score of the text's symbol from which a vector contradicts its text, in units
of the probe's one-hot target. Vectors that a probe merely decodes wrongly lie between two symbols."""


class Contradiction(BaseModel):
    """A row with two different outputs."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["text against vector", "against the other packet"]
    rule: str = Field(description="Name of the rule in this packet.")
    arguments: list[str] = Field(description="Argument symbols of the row.")
    says: str | None = Field(description="Output of the row: its text, or the symbol that its vector decodes to.")
    other: str | None = Field(
        description="Symbol that its vector decodes to, or output in the other packet; null: does not decode."
    )

    def __str__(self) -> str:
        about = " ".join(self.arguments)
        return f"{self.rule} ({about}): {self.kind}: {self.says!r} and {self.other!r}"


class Consistency(BaseModel):
    """Which rows were compared, and which disagree."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(description="Rows of the packet.")
    both: int = Field(description="Rows that travel both as text and as a vector.")
    common: int | None = Field(description="Rows that the other packet has as well; null: there is no other packet.")
    contradictions: list[Contradiction] = Field(description="Rows that disagree.")

    @property
    def consistent(self) -> bool:
        """Whether no row disagrees, among those that could be compared."""
        return not self.contradictions


def check_consistency(packet: Packet, against: Packet | None = None) -> Consistency:
    """Compare text with vectors, and the packet with another one of the same skill.

    Args:
        against: a packet of the same probe spec from a trusted teacher. Rules are matched by shared rows, see
            :func:`m2kt.packet.diff_packets`; vector spaces may differ.
    """
    contradictions, both = _text_against_vector(packet)
    common = None
    if against is not None:
        difference = diff_packets(packet, against)
        common = sum(rule.common for rule in difference.rules)
        contradictions += [
            Contradiction(
                kind="against the other packet", rule=rule.a, arguments=row.arguments, says=row.a, other=row.b
            )
            for rule in difference.rules
            for row in rule.changed
        ]
    return Consistency(rows=packet.n_concepts, both=both, common=common, contradictions=contradictions)


def _text_against_vector(packet: Packet) -> tuple[list[Contradiction], int]:
    program = packet.program
    outputs = [output for rule in program.rules for output in rule.outputs]
    if all(output is None for output in outputs) or not len(packet.concepts.prototype_symbol_P):
        return [], 0
    score_KC, classes_C = symbol_scores(packet.concepts)
    column = {int(symbol): c for c, symbol in enumerate(classes_C)}
    contradictions, both = [], 0
    for rule in program.rules:
        for row, arguments in enumerate(rule.rows):
            text = rule.outputs[row]
            if text is None or text not in column:  # a symbol without a prototype
                continue
            both += 1
            score_C = score_KC[rule.offset + row]
            # a vector is decoded among its rule's outputs and the symbol of its text
            allowed = np.isin(classes_C, [*rule.range, text])
            best = int(np.where(allowed, score_C, -np.inf).argmax())
            if score_C[best] - score_C[column[text]] > MARGIN:
                contradictions.append(
                    Contradiction(
                        kind="text against vector",
                        rule=rule.name,
                        arguments=[program.symbols[a] for a in arguments],
                        says=program.symbols[text],
                        other=program.symbols[int(classes_C[best])],
                    )
                )
    return contradictions, both
