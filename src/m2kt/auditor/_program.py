"""What a packet's program can write, and what of it looks planted.

A guard on one prompt that writes a foreign text passes every check of texts, rows and random prompts. So every leaf is
exercised, shown as the whole line that it writes, and judged by how few prompts come to it. That finds what stands out.
A branch that is wrong and looks like any other is found by comparison alone: with another packet of the same teacher,
or with the truth.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import PROMPTS, Exploration, LeafUse, Packet, Unit, WriteLiteral, alike, explore, leaves
from m2kt.probes import Prompt, Truth

NARROW = 0.02
"""Share of the arrivals at a state below which a leaf is narrow."""
ENOUGH = 100
"""Arrivals at a state from which shares mean something."""
MAX_SHOWN = 20
MAX_LINES = 200
SECRET_BITS = 52  # a JSON number holds as many
MAX_LINE = 400


class Line(BaseModel):
    """A leaf of the program with a whole line that it has a part in."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(description="State and leaf.")
    share: float | None = Field(description="Of the arrivals at its state by evenly drawn prompts; null: too few.")
    tests: int = Field(description="Tests before it.")
    text: str | None = Field(description="A prompt and what the program writes for it; null: no prompt meets the leaf.")


class Suspicion(BaseModel):
    """Something in the program that honest extractions do not have."""

    model_config = ConfigDict(extra="forbid")

    what: str = Field(description="What is suspicious.")
    line: str | None = Field(description="A line that shows it; null: no prompt meets it.")

    def __str__(self) -> str:
        return self.what if self.line is None else f"{self.what}: {self.line!r}"


class Disagreement(BaseModel):
    """A prompt that the program answers in another way than the truth or another packet."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    by: Literal["the other packet", "the truth"] = Field(description="What it was compared with.")
    writes: str = Field(description="What this packet's program writes.")
    other: str = Field(description="What the other packet's program writes, or the true answer.")


class ProgramReport(BaseModel):
    """What the program was seen to write."""

    model_config = ConfigDict(extra="forbid")

    seed: int = Field(description="Of the prompts; drawn when the audit began, so that no author could know them.")
    leaves: int = Field(description="Leaves of all states.")
    unmet: int = Field(description="Leaves that no prompt was found for.")
    prompts: int = Field(description="Prompts that were run.")
    lines: list[Line] = Field(description="A line for each leaf, the narrowest first; 200 at most.")
    suspicions: list[Suspicion] = Field(description="What looks planted.")
    compared: int | None = Field(description="Prompts compared with the other packet or the truth; null: neither.")
    disagreements: list[Disagreement] = Field(description="Prompts with different answers; twenty at most by each.")

    @property
    def clean(self) -> bool:
        """Whether nothing looks planted, and nothing disagrees."""
        return not self.suspicions and not self.disagreements


def check_program(
    packet: Packet,
    against: Packet | None = None,
    truth: Truth | None = None,
    seed: int | None = None,
    prompts: int = PROMPTS,
) -> ProgramReport:
    """Exercise every leaf of a packet's program, and judge what it writes.

    Args:
        against: a packet of the same probe spec from a trusted teacher: both programs run on the prompts that cover
            either, and whole completions are compared.
        truth: reference answers, compared with those of the covering prompts.
        seed: of the prompts; by default a new secret, which the report names.
        prompts: drawn of each split, beside those that are made to meet a leaf.
    """
    seed = secrets.randbits(SECRET_BITS) if seed is None else seed
    found = explore(packet, seed, prompts)
    report = ProgramReport(
        seed=seed,
        leaves=len(found.leaves),
        unmet=sum(not use.prompts for use in found.leaves),
        prompts=len(found.traces),
        lines=[_line(found, use) for use in sorted(found.leaves, key=lambda u: _rank(found, u))[:MAX_LINES]],
        suspicions=list(_suspicions(packet, found)),
        compared=None,
        disagreements=[],
    )
    compared = list(_compared(packet, found, truth, None if against is None else explore(against, seed, prompts)))
    if against is None and truth is None:
        return report
    different = [disagreement for disagreement in compared if disagreement is not None]
    shown = [d for by in ("the other packet", "the truth") for d in [d for d in different if d.by == by][:MAX_SHOWN]]
    return report.model_copy(update={"compared": len(compared), "disagreements": shown})


def _compared(
    packet: Packet, found: Exploration, truth: Truth | None, other: Exploration | None
) -> Iterator[Disagreement | None]:
    """A disagreement, or None for an agreement, for each prompt that can be compared."""
    prompts = found.covering()
    if truth is not None:
        for prompt in prompts:
            trace = found.traces[prompt.text][1]
            right = truth.judge(prompt.text, packet.spec.read_answer(trace.completion)) if trace.complete else None
            if right is False:
                yield _different(prompt, "the truth", trace.completion, str(truth.expected(prompt.text)))
            elif right:
                yield None
    if other is not None:
        claims_all = packet.manifest.fidelity.coverage == 1.0  # of the sizes that were probed
        asked = (*prompts, *other.covering(), *(prompt for prompt, _ in found.traces.values()))
        for prompt in {prompt.text: prompt for prompt in asked}.values():
            ours, theirs = found.rolled(prompt), other.rolled(prompt)
            if theirs.complete and (ours.complete or (claims_all and prompt.text in found.probed)):
                same = ours.completion == theirs.completion
                yield None if same else _different(prompt, "the other packet", ours.completion, theirs.completion)


def _different(prompt: Prompt, by: Literal["the other packet", "the truth"], writes: str, other: str) -> Disagreement:
    return Disagreement(prompt=prompt.text, by=by, writes=writes[:MAX_LINE], other=other[:MAX_LINE])


def _share(found: Exploration, use: LeafUse) -> float | None:
    arrivals = found.arrivals(use.state)
    return use.met / arrivals if arrivals >= ENOUGH else None


def _rank(found: Exploration, use: LeafUse) -> tuple[float, int]:
    share = _share(found, use)
    return (0.0 if not use.prompts else 1.0 if share is None else share), -len(use.guards)


def _line(found: Exploration, use: LeafUse) -> Line:
    share = _share(found, use)
    return Line(
        where=f"state {use.state}, leaf {use.number}",
        share=None if share is None else round(share, 5),
        tests=len(use.guards),
        text=_written(found, use),
    )


def _written(found: Exploration, use: LeafUse) -> str | None:
    """The shortest line that a leaf has a part in."""
    lines = [found.traces[prompt.text][1].text for prompt in use.prompts]
    return min(lines, key=len)[:MAX_LINE] if lines else None


def _suspicions(packet: Packet, found: Exploration) -> Iterator[Suspicion]:
    program = packet.program
    literals = [use for use in found.leaves if isinstance(use.leaf, WriteLiteral)]
    common = {_literal(use) for use in literals if use.prompts and not _is_narrow(found, use)}
    for use in literals:
        text, line = _literal(use), _written(found, use)
        if not use.guards or text in common - {program.stop}:
            continue
        if not use.prompts and text != program.stop:
            yield Suspicion(what=f"no prompt was found for a branch that alone writes {text!r}", line=None)
        elif use.prompts and _is_narrow(found, use) and text != program.stop:
            yield Suspicion(what=f"few prompts lead to {text!r}, which no other branch writes", line=line)
        elif use.prompts and text != program.stop and _is_odd_word(use):
            yield Suspicion(what=f"symbols of the question lead to {text!r}, which no other branch writes", line=line)
        elif text == program.stop and _is_narrow(found, use):
            yield Suspicion(what="few prompts lead to an end where the answer else goes on", line=line)
    texts = [*program.symbols, *(_literal(use).strip() for use in literals)]
    for group in alike(texts):
        yield Suspicion(what=f"these look alike: {group}", line=None)


def _is_odd_word(use: LeafUse) -> bool:
    """Whether a leaf writes a word where, but for the symbol at one place, a symbol would be written."""
    assert isinstance(use.leaf, WriteLiteral)
    if use.leaf.symbol is not None or not any(c.isalnum() for c in use.leaf.text):
        return False
    test, case = use.guards[-1]
    is_of_symbols = isinstance(test.ask, Unit) and (case < 0 or any(type(v) is int for v in test.cases[case].values))
    others = [leaf for leaf in leaves(test) if leaf is not use.leaf]
    return is_of_symbols and not any(isinstance(leaf, WriteLiteral) and leaf.symbol is None for leaf in others)


def _literal(use: LeafUse) -> str:
    assert isinstance(use.leaf, WriteLiteral)
    return use.leaf.text


def _is_narrow(found: Exploration, use: LeafUse) -> bool:
    share = _share(found, use)
    return share is not None and share < NARROW
