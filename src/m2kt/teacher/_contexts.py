"""Contexts for the states of a packet: where rule rows are applied, and where symbols are written without a rule."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

from m2kt.errors import ExtractionError
from m2kt.packet import WriteRule, leaves
from m2kt.probes import END, ProbeSpec, Unit
from m2kt.teacher._edges import spread, where
from m2kt.teacher._states import Context
from m2kt.teacher.program import Skill, Step
from m2kt.teacher.program._cut import Sample

ContextGroup = tuple[Context, ...]  # contexts whose mean state is one prototype sample
MAX_CONTEXTS = 12  # per concept
SPARE_CONTEXTS = 36  # per concept, used if the prototypes misread all of the first
MAX_PROTOTYPE_SAMPLES = 48  # per symbol
REPEAT_CONTEXTS = 6  # of a symbol that is never copied and that only one row writes
REPEATED_WORDS = 4  # other words repeated before the symbol in each of them
ROWS_AVERAGED = 3  # rows averaged into a prototype sample of a symbol that only rules write


def concept_contexts(skill: Skill, rng: random.Random) -> dict[int, list[Context]]:
    """By concept: up to MAX_CONTEXTS + SPARE_CONTEXTS contexts in which its row is applied."""
    contexts_of: dict[int, list[Context]] = defaultdict(list)
    for context, step in _steps(skill):
        if step.rule is not None and step.row is not None:
            contexts_of[skill.program.rules[step.rule].offset + step.row].append(context)
    n = MAX_CONTEXTS + SPARE_CONTEXTS
    return {k: spread(contexts_of[k], where, n, rng) for k in range(skill.program.n_concepts)}


def _steps(skill: Skill) -> Iterator[tuple[Context, Step]]:
    """The steps in which the program writes what the teacher wrote: its errors are left out."""
    for sample, steps in zip(skill.samples, skill.steps, strict=True):
        for index, step in enumerate(steps):
            if step is not None:
                yield Context(sample, sample.n_prompt + index), step


def prototype_contexts(
    skill: Skill, spec: ProbeSpec, concepts: dict[int, list[Context]], rng: random.Random
) -> tuple[dict[int, list[ContextGroup]], list[str]]:
    """By symbol: contexts of up to MAX_PROTOTYPE_SAMPLES prototype samples, and notes for the packet.

    They are copies of the symbol, else literals. A symbol that only rules write gets means over steps of *different*
    rows, so that no sample is a row's own vector labelled with its output. If only one row writes the symbol, and for
    facts, it gets repeat contexts.
    """
    outputs, symbols = skill.outputs, skill.program.symbols
    chosen: dict[int, list[ContextGroup]] = {
        symbol: [(context,) for context in spread(contexts, where, MAX_PROTOTYPE_SAMPLES, rng)]
        for symbol, contexts in _written_without_rule(skill).items()
    }
    notes = []
    # For facts, the rows that share an output are few too.
    rule_only = sorted(set(outputs) - set(chosen))
    single_row = [s for s in rule_only if outputs.count(s) == 1 or spec.facts]
    words = [symbols[s] for s in sorted(set(outputs))]
    for s in single_row:
        context = rng.choice(concepts[outputs.index(s)])
        chosen[s] = [(repeat,) for repeat in repeat_contexts(spec.end, context, words, rng)]
    if single_row:
        notes.append(
            f"{len(single_row)} symbols are never copied and are written by one row only, or are facts "
            f"({_names(symbols, single_row)}): their prototype samples come from repeat contexts in the form of the row"
        )
    remaining = sorted(set(outputs) - set(chosen))
    if remaining:
        notes.append(
            f"{len(remaining)} symbols are written by rules only ({_names(symbols, remaining)}): their prototype "
            f"samples are means over steps of {ROWS_AVERAGED} rows"
        )
    for s in remaining:
        rows = [contexts for k, contexts in concepts.items() if outputs[k] == s]
        drawn = [rng.sample(rows, min(ROWS_AVERAGED, len(rows))) for _ in range(MAX_PROTOTYPE_SAMPLES)]
        chosen[s] = [tuple(rng.choice(contexts) for contexts in drawn_rows) for drawn_rows in drawn]
    if not chosen:
        raise ExtractionError(
            "expected steps that copy or compute a symbol, got literals only; check the spec's slots and templates"
        )
    return chosen, notes


def _written_without_rule(skill: Skill) -> dict[int, list[Context]]:
    """By symbol: contexts in which it is copied, or a literal where it is never copied.

    Those behind a leading space that rules write, if there are any: "7" and " 7" may be tokens whose states differ.
    """
    written = (leaf for state in skill.program.states for leaf in leaves(state.decision))
    leads = {leaf.lead for leaf in written if isinstance(leaf, WriteRule)}
    ids = {symbol: i for i, symbol in enumerate(skill.program.symbols)}
    by_kind: dict[str, dict[int, list[Context]]] = {"literal": defaultdict(list), "copy": defaultdict(list)}
    for context, step in _steps(skill):
        symbol = context.sample.units[context.unit].symbol
        if step.kind in by_kind and symbol is not None:
            by_kind[step.kind][ids[symbol]].append(context)
    contexts_of = {**by_kind["literal"], **by_kind["copy"]}
    alike = {s: [c for c in contexts if c.sample.units[c.unit].lead in leads] for s, contexts in contexts_of.items()}
    return {symbol: alike[symbol] or contexts for symbol, contexts in contexts_of.items()}


def repeat_contexts(stop: str, row_context: Context, words: list[str], rng: random.Random) -> list[Context]:
    """Contexts that repeat a symbol in the form of its row, as in "The capital of Lima is Lima".

    A few other words are repeated first, then the symbol: the teacher copies it, so the state depends on the symbol
    and not on the row. With the row's own argument the teacher would apply the row.
    """
    answer = row_context.sample.units[row_context.unit :]
    symbol = answer[0].symbol or ""
    alternatives = [w for w in words if w != symbol]

    def with_symbols(word: str, units: list[Unit]) -> str:
        return "".join(u.text if u.symbol is None else u.lead + word for u in units)

    def question(word: str) -> str:
        """The prompt without the examples that it may begin with."""
        prompt = with_symbols(word, row_context.sample.units[: row_context.unit])
        return prompt.rpartition(stop)[2]

    repeats = []
    for _ in range(REPEAT_CONTEXTS):
        repeated = rng.sample(alternatives, min(REPEATED_WORDS, len(alternatives)))
        before = "".join(question(w) + with_symbols(w, answer) for w in repeated)
        text = before.replace(END, "\n") + question(symbol)
        repeats.append(Context(Sample(row_context.sample.prompt, [Unit(text), *answer], 1), 1))
    return repeats


def _names(symbols: list[str], ids: list[int]) -> str:
    return ", ".join(symbols[s] for s in ids[:12])
