"""Does a packet contradict itself, or another packet of the same skill? The trace that a poisoned packet leaves.

Where a row travels both as text and as a vector, the two must say the same. At v = 0 there is no text to hold a vector
against, and a packet whose rows were exchanged is consistent with itself: then only a second packet, of a teacher that
is trusted, can tell.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import Packet, diff_packets, symbol_scores

MARGIN = 0.05
"""By how much a vector must favour another symbol over the one that the text says, in units of the probe's one-hot
target, to contradict it. Honest vectors that a probe reads wrongly lie between two symbols."""


class Contradiction(BaseModel):
    """A row that says two things."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["text against vector", "against the other packet"]
    rule: str = Field(description="Name of the rule in this packet.")
    arguments: list[str] = Field(description="Symbols that the row is about.")
    says: str | None = Field(
        description="What the row says: its text, or what its vector is read as where it has none."
    )
    other: str | None = Field(
        description="What its vector says, or the other packet; null: nobody can read it."
    )

    def __str__(self) -> str:
        about = " ".join(self.arguments)
        return f"{self.rule} ({about}): {self.kind}: {self.says!r} and {self.other!r}"


class Consistency(BaseModel):
    """What was compared and what did not agree."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(description="Rows of the packet.")
    both: int = Field(
        description="Rows that travel as text and as a vector, so that they can be held together."
    )
    common: int | None = Field(description="Rows that the other packet holds too; null: there was none.")
    contradictions: list[Contradiction] = Field(description="Rows that disagree, by name.")

    @property
    def consistent(self) -> bool:
        """Nothing disagrees. Says nothing about rows that could not be compared."""
        return not self.contradictions


def check_consistency(packet: Packet, against: Packet | None = None) -> Consistency:
    """Holds text against vectors, and the packet against another one of the same skill.

    Args:
        against: a packet of the same probe spec from a teacher that is trusted. Rules are matched by the rows that
            they share, see :func:`m2kt.packet.diff_packets`; spaces may differ.
    """
    found, both = _text_against_vector(packet)
    common = None
    if against is not None:
        difference = diff_packets(packet, against)
        common = sum(rule.common for rule in difference.rules)
        found += [
            Contradiction(
                kind="against the other packet", rule=rule.a, arguments=row.arguments, says=row.a, other=row.b
            )
            for rule in difference.rules
            for row in rule.changed
        ]
    return Consistency(rows=packet.n_concepts, both=both, common=common, contradictions=found)


def _text_against_vector(packet: Packet) -> tuple[list[Contradiction], int]:
    graph = packet.graph
    told = [o for rule in graph.rules for o in rule.outputs]
    if all(o is None for o in told) or not len(packet.concepts.prototype_symbol_P):
        return [], 0
    score_KC, classes_C = symbol_scores(packet.concepts)
    column = {int(symbol): c for c, symbol in enumerate(classes_C)}
    found, both = [], 0
    for rule in graph.rules:
        for row, arguments in enumerate(rule.rows):
            text = rule.outputs[row]
            if text is None or text not in column:  # a symbol of which the packet has no state cannot be read
                continue
            both += 1
            score_C = score_KC[rule.offset + row]
            # a rule's vector is read among what the rule writes, and what its text claims
            allowed = np.isin(classes_C, [*rule.range, text])
            best = int(np.where(allowed, score_C, -np.inf).argmax())
            if score_C[best] - score_C[column[text]] > MARGIN:
                found.append(
                    Contradiction(
                        kind="text against vector",
                        rule=rule.name,
                        arguments=[graph.symbols[a] for a in arguments],
                        says=graph.symbols[text],
                        other=graph.symbols[int(classes_C[best])],
                    )
                )
    return found, both
