"""From samples to the graph: explain every node, merge rules, name families, and write the graph down."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Rule
from m2kt.packet._format1 import Decision, Graph, Guard, Node, TemplateGraph, WriteRule, leaves
from m2kt.probes import MASK
from m2kt.teacher._corpus import Corpus, TemplateTrie
from m2kt.teacher._explain import MAX_ARITY, copy, explain, known_rule, literal
from m2kt.teacher._guards import MAX_LEAVES, n_leaves
from m2kt.teacher._node_data import MIN_SAMPLES_FOR_COPIES, NodeData
from m2kt.teacher._rules import DraftRule, RuleSet

Place = tuple[int, int]  # template, node


@dataclass(frozen=True)
class Resisted:
    """A step that no explanation fitted."""

    template: int
    skeleton: str
    samples: int
    words: frozenset[str]  # words and numbers that were structure so far, though the step chooses among them

    def __str__(self) -> str:
        return (
            f"template {self.template}, step after {self.skeleton!r} ({self.samples} samples): no copy, no guard of "
            f"up to {MAX_LEAVES} leaves, and no table over up to {MAX_ARITY} earlier symbols fits"
        )


@dataclass
class Draft:
    """Decisions for every node that could be explained, and the rules they use."""

    rule_set: RuleSet
    decisions: dict[Place, Decision] = field(default_factory=dict)
    resisted: list[Resisted] = field(default_factory=list)


def node_data(trie: TemplateTrie, node: int) -> NodeData:
    """The data at a node."""
    trie_node = trie.nodes[node]
    written = trie.next_units(node)
    effect = np.full(trie_node.depth, np.nan)
    copy_rate = np.full(trie_node.depth, np.nan)
    for position, value in trie_node.causes.effect.items():
        effect[position] = value
        copy_rate[position] = trie_node.causes.copy_rate.get(position, np.nan)
    symbols = trie.symbols_NU[trie_node.samples, trie_node.depth]
    texts, leading_spaces = [u.text for u in written], [u.lead for u in written]
    return NodeData(trie.columns(node), symbols, texts, leading_spaces, effect, copy_rate, trie.support)


def condense(corpus: Corpus) -> Draft:
    """Explains all nodes, shortest shapes first, then merges rules until nothing merges."""
    draft = Draft(RuleSet())
    by_length = sorted((s for s in corpus.tries if s.samples), key=lambda s: np.mean([len(x.units) for x in s.samples]))
    for trie in by_length:
        draft.rule_set.used = Counter()
        for node, trie_node in enumerate(trie.nodes):  # children come after their parents
            if not trie_node.samples:
                continue
            decision = explain(node_data(trie, node), draft.rule_set)
            if decision is None:
                sample = trie.samples[trie_node.samples[0]]
                skeleton = "".join(u.mask for u in sample.units[: trie_node.depth])
                words = {m.strip() for m in trie_node.children if MASK not in m and any(c.isalnum() for c in m)}
                resisted = Resisted(trie.template, skeleton, len(trie_node.samples), frozenset(words))
                draft.resisted.append(resisted)
            else:
                draft.decisions[trie.template, node] = decision
    merge(corpus, draft)
    relearn(corpus, draft)
    return draft


def merge(corpus: Corpus, draft: Draft) -> None:
    """Drops every rule whose places another rule explains as well (a first column without carry, a reordering).

    Before that, wide guards and copies with exceptions give way to a rule that was found later and says the same.
    """
    for (template, node), decision in draft.decisions.items():
        if isinstance(decision, WriteRule) or (isinstance(decision, Guard) and n_leaves(decision) == 2):
            continue
        data = node_data(corpus.tries[template], node)
        if isinstance(decision, Guard) or not (literal(data, 0) or copy(data, 0)):
            found = known_rule(data, draft.rule_set, 0, share=0.9)
            if found is not None:
                draft.decisions[template, node] = found
    changed = True
    while changed:
        changed = False
        order = sorted(_live(draft), key=lambda r: (draft.rule_set.rules[r].arity, len(draft.rule_set.rules[r].table)))
        for rule in order:
            places = [p for p, d in draft.decisions.items() if any(r.rule == rule for r in _rule_leaves(d))]
            # A rule inside a guard stays: its samples are only part of the node's.
            if any(isinstance(draft.decisions[p], Guard) for p in places):
                continue
            trial = draft.rule_set.copy()
            replaced: dict[Place, Decision] = {}
            live = _live(draft)
            avoid = frozenset(i for i in range(len(trial.rules)) if i == rule or i not in live)
            used: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
            for (template, _), decision in draft.decisions.items():
                used[template].update(tuple(leaf.sources) for leaf in _rule_leaves(decision))
            for template, node in places:
                trial.used = used[template].copy()
                data = node_data(corpus.tries[template], node)
                # A rule known from many places may fail once where a new explanation may not.
                budget = max(data.error_budget(), int(data.n >= MIN_SAMPLES_FOR_COPIES))
                found = known_rule(data, trial, budget, avoid, share=0.9)
                found = found or known_rule(data, trial, budget, avoid)
                if found is None:
                    break
                replaced[template, node] = found
            else:
                draft.rule_set = trial
                draft.decisions.update(replaced)
                changed = bool(replaced)
                if changed:
                    break


def relearn(corpus: Corpus, draft: Draft) -> None:
    """Fills all rule tables afresh from the final decisions."""
    for rule in draft.rule_set.rules:
        rule.table = defaultdict(Counter)
    for use in rule_uses(corpus, draft.decisions):
        draft.rule_set.rules[use.leaf.rule].learn(use.arguments_NA, use.outputs_N)


@dataclass(frozen=True)
class Use:
    """A rule at work at one place: which samples, with which arguments and outputs."""

    template: int
    node: int
    leaf: WriteRule
    samples: NDArray[np.intp]  # indices into the trie's samples
    arguments_NA: NDArray[np.int32]
    outputs_N: NDArray[np.int32]


def rule_uses(corpus: Corpus, decisions: dict[Place, Decision]) -> Iterator[Use]:
    """Every application of a rule, with the samples that reach it."""
    for (template, node), decision in decisions.items():
        trie = corpus.tries[template]
        trie_node = trie.nodes[node]
        columns = trie.columns(node)
        outputs = trie.symbols_NU[trie_node.samples, trie_node.depth]
        for leaf, rows in leaf_rows(decision, columns, np.arange(len(columns))):
            if isinstance(leaf, WriteRule) and len(rows):
                rows = rows[outputs[rows] >= 0]
                samples = np.asarray(trie_node.samples)[rows]
                yield Use(template, node, leaf, samples, columns[rows][:, leaf.sources], outputs[rows])


def leaf_rows(
    decision: Decision, columns_NU: NDArray[np.int32], rows: NDArray[np.intp]
) -> Iterator[tuple[Decision, NDArray[np.intp]]]:
    """The leaves of a decision, each with the rows that reach it."""
    if isinstance(decision, Guard):
        for case in decision.cases:
            inside = rows[np.isin(columns_NU[rows, decision.source], case.values)]
            yield from leaf_rows(case.then, columns_NU, inside)
    else:
        yield decision, rows


def write_graph(corpus: Corpus, draft: Draft) -> tuple[Graph, list[int]]:
    """The graph without outputs, and the K outputs that the teacher was seen to write."""
    live = sorted(_live(draft))
    number = {old: new for new, old in enumerate(live)}
    families = _families(draft, live)
    uses: Counter[int] = Counter()
    for decision in draft.decisions.values():
        uses.update(leaf.rule for leaf in _rule_leaves(decision))
    rules: list[Rule] = []
    outputs: list[int] = []
    for old in live:
        drafted: DraftRule = draft.rule_set.rules[old]
        rows = sorted(drafted.table)
        said = [drafted.output(r) for r in rows]
        rules.append(
            Rule(
                name=f"r{number[old]}",
                arity=drafted.arity,
                rows=rows,
                outputs=[None] * len(rows),
                range=sorted(set(said)),
                family=families[old],
                offset=len(outputs),
                uses=uses[old],
            )
        )
        outputs.extend(said)
    templates = [_write_template(corpus, draft, trie, number) for trie in corpus.tries]
    return Graph(symbols=corpus.symbols, rules=rules, templates=templates, stop=corpus.spec.stop), outputs


def _write_template(corpus: Corpus, draft: Draft, trie: TemplateTrie, number: dict[int, int]) -> TemplateGraph:
    kept = [n for n in range(len(trie.nodes)) if (trie.template, n) in draft.decisions]
    text = corpus.spec.template_text(trie.template)
    if not kept or kept[0] != 0:
        return TemplateGraph(template=text, nodes=[])
    position = {n: i for i, n in enumerate(kept)}
    nodes = []
    for n in kept:
        children = {m: position[c] for m, c in trie.nodes[n].children.items() if c in position}
        nodes.append(Node(step=_renumber(draft.decisions[trie.template, n], number), children=children))
    return TemplateGraph(template=text, nodes=nodes)


def _renumber(decision: Decision, number: dict[int, int]) -> Decision:
    if isinstance(decision, Guard):
        cases = [c.model_copy(update={"then": _renumber(c.then, number)}) for c in decision.cases]
        return decision.model_copy(update={"cases": cases})
    if isinstance(decision, WriteRule):
        return decision.model_copy(update={"rule": number[decision.rule]})
    return decision


def _rule_leaves(decision: Decision) -> list[WriteRule]:
    return [leaf for leaf in leaves(decision) if isinstance(leaf, WriteRule)]


def _live(draft: Draft) -> set[int]:
    return {leaf.rule for d in draft.decisions.values() for leaf in _rule_leaves(d)}


def _families(draft: Draft, live: list[int]) -> dict[int, int]:
    """Rules that are always applied to the same arguments in the same order belong together."""
    places: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for (template, _), decision in draft.decisions.items():
        for leaf in _rule_leaves(decision):
            places[leaf.rule].add((template, *leaf.sources))
    families: dict[frozenset[tuple[int, ...]], int] = {}
    return {r: families.setdefault(frozenset(places[r]), len(families)) for r in live}
