"""Sources, supporters and conflicts of a merged packet, as blocks."""

from __future__ import annotations

from m2kt.packet import ConflictDescription, MergedDescription
from m2kt.render._blocks import Block, Cell, Note, Table, percent
from m2kt.render._text import shown

SHOWN_CONFLICTS = 40


def merged_blocks(merged: MergedDescription) -> list[Block]:
    """A table of the sources, and one of the conflicts."""
    rows: list[list[Cell | str]] = [
        [
            str(i),
            f"{source.name} {source.digest[7:19]}",
            source.teacher,
            f"{source.lineage}" + (f": {source.kin}" if source.kin else ""),
            f"{source.space.method}, {percent(source.space.error)} of samples and {source.space.moved} rows confused",
            " ".join(key[:12] for key in source.signers),
        ]
        for i, source in enumerate(merged.sources)
    ]
    method = merged.resolve if merged.prefer is None else f"{merged.resolve} {merged.prefer[7:19]}"
    undecided = sum(not conflict.decided for conflict in merged.conflicts)
    note = (
        f"{merged.lineages} lineages, each with one vote; {merged.shared_rows} rows held by several; resolved by "
        f"{method}; {len(merged.conflicts)} rows in conflict, {undecided} of them undecided; {merged.yielded} rows "
        f"below a confidence of {merged.min_confidence:g} left to other sources"
    )
    head = ["", "packet", "teacher", "lineage", "space", "signed by"]
    blocks: list[Block] = [Table(head, rows, note=note)]
    blocks += [
        Note(
            f"in the state [{shown(state.state)}] the program differs from that of source {state.source}; "
            f"{state.texts} of its {state.of} rollouts come out otherwise",
            tone="bad",
        )
        for state in merged.states
    ]
    return blocks + conflict_blocks(merged.conflicts, "rows in conflict")


def conflict_blocks(conflicts: list[ConflictDescription], title: str) -> list[Block]:
    """A table of conflicts; empty where there are none."""
    if not conflicts:
        return []
    rows: list[list[Cell | str]] = []
    for conflict in conflicts[:SHOWN_CONFLICTS]:
        sides = [f"{_output(side.output)} by {' '.join(map(str, side.sources))}" for side in conflict.sides]
        decided = percent(conflict.confidence) if conflict.decided else f"undecided, {percent(conflict.confidence)}"
        rows.append([conflict.rule, " ".join(map(shown, conflict.arguments)), sides[0], "; ".join(sides[1:]), decided])
    more = len(conflicts) - SHOWN_CONFLICTS
    blocks: list[Block] = [
        Table(
            ["rule", "arguments", "holds", "dissent", "how sure"],
            rows,
            title=title,
            note=f"{more} more: --json has all" if more > 0 else "",
        )
    ]
    undecided = sum(not conflict.decided for conflict in conflicts)
    return blocks + ([Note(f"{undecided} rows are undecided: teachers dissent", tone="bad")] if undecided else [])


def _output(symbol: str | None) -> str:
    return "not readable" if symbol is None else shown(symbol)
