"""Contexts for the states of a packet: where rule rows are applied, and where symbols are written without a rule."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from m2kt.errors import ExtractionError
from m2kt.packet._format1 import Graph, WriteCopy, WriteLiteral
from m2kt.probes import Unit
from m2kt.teacher._condense import Draft, leaf_rows, rule_uses
from m2kt.teacher._corpus import Corpus, Sample
from m2kt.teacher._states import Context

ContextGroup = tuple[Context, ...]  # contexts whose mean state is one prototype sample
MAX_CONTEXTS = 12  # per concept
SPARE_CONTEXTS = 36  # per concept, used if the prototypes misread all of the first
MAX_PROTOTYPE_SAMPLES = 48  # per symbol
REPEAT_CONTEXTS = 6  # of a symbol that is never copied and that only one row writes
REPEATED_WORDS = 4  # other words repeated before the symbol in each of them
ROWS_AVERAGED = 3  # rows averaged into a prototype sample of a symbol that only rules write


def concept_contexts(corpus: Corpus, draft: Draft, graph: Graph, rng: random.Random) -> dict[int, list[Context]]:
    """By concept: up to MAX_CONTEXTS + SPARE_CONTEXTS contexts in which its row is applied."""
    live = sorted({use.leaf.rule for use in rule_uses(corpus, draft.decisions)})
    number = {old: new for new, old in enumerate(live)}
    row_index = graph.row_index()
    contexts_of: dict[int, list[Context]] = defaultdict(list)
    for use in rule_uses(corpus, draft.decisions):
        rule = graph.rules[number[use.leaf.rule]]
        draft_rule = draft.rule_set.rules[use.leaf.rule]
        trie = corpus.tries[use.template]
        depth = trie.nodes[use.node].depth
        triples = zip(use.samples.tolist(), map(tuple, use.arguments_NA.tolist()), use.outputs_N.tolist(), strict=True)
        for sample, arguments, output in triples:
            if draft_rule.output(arguments) == output:  # leaves out the teacher's errors
                k = rule.offset + row_index[number[use.leaf.rule]][arguments]
                contexts_of[k].append(Context(trie.samples[sample], depth))
    return {k: _balanced(contexts_of[k], MAX_CONTEXTS + SPARE_CONTEXTS, rng) for k in range(graph.n_concepts)}


def _balanced(contexts: list[Context], n: int, rng: random.Random) -> list[Context]:
    """Up to ``n`` contexts, from each (template, unit) in turn: long answers must not crowd out short ones."""
    by_unit: dict[tuple[int, int], list[Context]] = defaultdict(list)
    for context in rng.sample(contexts, len(contexts)):
        by_unit[context.sample.prompt.template, context.unit].append(context)
    ranked = [(i, key, c) for key, members in by_unit.items() for i, c in enumerate(members)]
    return [c for _, _, c in sorted(ranked, key=lambda x: x[:2])[:n]]


def prototype_contexts(
    corpus: Corpus, draft: Draft, concepts: dict[int, list[Context]], outputs: list[int], rng: random.Random
) -> tuple[dict[int, list[ContextGroup]], list[str]]:
    """By symbol: contexts of up to MAX_PROTOTYPE_SAMPLES prototype samples, and notes for the packet.

    They are copies of the symbol, else literals. A symbol that only rules write gets means over steps of *different*
    rows, so that no sample is a row's own vector labelled with its output. If only one row writes the symbol, and for
    facts, it gets repeat contexts.
    """
    chosen: dict[int, list[ContextGroup]] = {
        symbol: [(context,) for context in _balanced(contexts, MAX_PROTOTYPE_SAMPLES, rng)]
        for symbol, contexts in _written_without_rule(corpus, draft).items()
    }
    notes = []
    # For facts, the rows that share an output are few too.
    rule_only = sorted(set(outputs) - set(chosen))
    single_row = [s for s in rule_only if outputs.count(s) == 1 or corpus.spec.facts]
    words = [corpus.symbols[s] for s in sorted(set(outputs))]
    for s in single_row:
        context = rng.choice(concepts[outputs.index(s)])
        chosen[s] = [(repeat,) for repeat in repeat_contexts(corpus, context, words, rng)]
    if single_row:
        notes.append(
            f"{len(single_row)} symbols are never copied and are written by one row only, or are facts "
            f"({_names(corpus, single_row)}): their prototype samples come from repeat contexts in the form of the row"
        )
    remaining = sorted(set(outputs) - set(chosen))
    if remaining:
        notes.append(
            f"{len(remaining)} symbols are written by rules only ({_names(corpus, remaining)}): their prototype "
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


def _written_without_rule(corpus: Corpus, draft: Draft) -> dict[int, list[Context]]:
    """By symbol: contexts in which it is copied, or a literal where it is never copied."""
    by_kind: dict[type, dict[int, list[Context]]] = {
        WriteCopy: defaultdict(list),
        WriteLiteral: defaultdict(list),
    }
    for (template, node), decision in draft.decisions.items():
        trie = corpus.tries[template]
        trie_node = trie.nodes[node]
        columns = trie.columns(node)
        for leaf, rows in leaf_rows(decision, columns, np.arange(len(columns))):
            if type(leaf) in by_kind:
                for row in rows.tolist():
                    index = trie_node.samples[row]
                    symbol = int(trie.symbols_NU[index, trie_node.depth])
                    if symbol >= 0:
                        by_kind[type(leaf)][symbol].append(Context(trie.samples[index], trie_node.depth))
    return {**by_kind[WriteLiteral], **by_kind[WriteCopy]}


def repeat_contexts(corpus: Corpus, row_context: Context, words: list[str], rng: random.Random) -> list[Context]:
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
        return prompt.rpartition(corpus.spec.stop)[2]

    repeats = []
    for _ in range(REPEAT_CONTEXTS):
        repeated = rng.sample(alternatives, min(REPEATED_WORDS, len(alternatives)))
        text = "".join(question(w) + with_symbols(w, answer) for w in repeated) + question(symbol)
        repeats.append(Context(Sample(row_context.sample.prompt, [Unit(text), *answer], 1), 1))
    return repeats


def _names(corpus: Corpus, symbols: list[int]) -> str:
    return ", ".join(corpus.symbols[s] for s in symbols[:12])
