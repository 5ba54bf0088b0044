"""The teacher's answers to the probes, cut into units and arranged as one trie of masked prefixes per template.

Letters: N samples at a node, U units before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.probes import MASK, ProbeSpec, Prompt, Segmenter, Unit
from m2kt.teacher._oracle import Answer as Answer

Ints = NDArray[np.int32]
WORD_LOOKAHEAD = 3  # units within which the continuations of two chosen words must have structure in common


@dataclass
class Sample:
    """An answer cut into units: prompt, completion, stop string."""

    prompt: Prompt
    units: list[Unit]
    n_prompt: int
    path: list[int] = field(default_factory=list)  # index of the trie node that decides unit n_prompt + i

    @property
    def texts(self) -> list[str]:
        """The text of each unit."""
        return [u.text for u in self.units]

    @property
    def text(self) -> str:
        """Prompt, completion and stop string."""
        return "".join(self.texts)


@dataclass
class Causes:
    """Effects of earlier units on a step, from interventions or another concept source, by unit index."""

    effect: dict[int, float] = field(default_factory=dict)  # 0..1: how much the unit decides this step
    copy_rate: dict[int, float] = field(default_factory=dict)  # 0..1: how often this step copied the new symbol
    bases: int = 0  # base samples that ended here
    tried: Counter[int] = field(default_factory=Counter)  # interventions
    changed: Counter[int] = field(default_factory=Counter)  # of these, those that changed the step
    copied: Counter[int] = field(default_factory=Counter)  # of these, those after which it wrote the new symbol


@dataclass
class TrieNode:
    """The samples of a template that share a masked prefix of ``depth`` units."""

    depth: int
    prefix: str = ""  # masks of the completion up to here, separated by line feeds
    samples: list[int] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)
    causes: Causes = field(default_factory=Causes)


@dataclass
class TemplateTrie:
    """The trie of one template. ``symbols_NU`` holds symbol ids, -1 for structure and after the end."""

    template: int
    samples: list[Sample]
    nodes: list[TrieNode]
    symbols_NU: Ints

    @cached_property
    def support(self) -> list[frozenset[int]]:
        """By unit: the symbols that any sample has there."""
        return [frozenset(column_N[column_N >= 0].tolist()) for column_N in self.symbols_NU.T]

    def columns(self, node: int) -> Ints:
        """Symbols of the units before ``node``: (N, U)."""
        trie_node = self.nodes[node]
        return self.symbols_NU[trie_node.samples, : trie_node.depth]

    def next_units(self, node: int) -> list[Unit]:
        """The unit that each sample of ``node`` has next."""
        trie_node = self.nodes[node]
        return [self.samples[i].units[trie_node.depth] for i in trie_node.samples]


class Corpus:
    """All answers, their symbols and tries. Adding answers cuts only the new ones."""

    def __init__(self, spec: ProbeSpec) -> None:
        self.spec = spec
        self.answers: dict[str, Answer] = {}  # by prompt text
        self.discovered: list[str] = []  # symbols that the spec does not name
        self.symbols: list[str] = []
        self.tries: list[TemplateTrie] = []
        self._segmenter = Segmenter(spec.values)
        self._samples: dict[str, Sample] = {}  # by prompt text, as cut by the segmenter

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers; call :meth:`arrange` afterwards."""
        for answer in answers:
            self._samples.pop(answer.prompt.text, None)
            self.answers[answer.prompt.text] = answer
            fact = (self.spec.read_answer(answer.completion) or "").strip() if self.spec.facts else ""
            if fact and fact not in self.discovered:
                self.discovered.append(fact)

    def arrange(self) -> None:
        """Cut all answers into units, find undeclared symbols, and build the tries.

        Measured causes are kept unless new symbols change how answers are cut.
        """
        causes_of = {(trie.template, n.prefix): n.causes for trie in self.tries for n in trie.nodes}
        while True:
            if self._segmenter.discovered != set(self.discovered):
                self._segmenter, self._samples = Segmenter(self.spec.values, self.discovered), {}
            for text in self.answers.keys() - self._samples.keys():
                self._samples[text] = self._cut(self.answers[text])
            samples = [self._samples[text] for text in self.answers]
            tries = [
                _build_trie(t, [s for s in samples if s.prompt.template == t]) for t in range(self.spec.n_templates)
            ]
            new = _undeclared_symbols(tries, self.spec.stop)
            if not new:
                break
            self.discovered.extend(sorted(new))
            causes_of = {}
        values = self.spec.values
        self.symbols = values + [d for d in self.discovered if d not in set(values)]
        ids = {s: i for i, s in enumerate(self.symbols)}
        for trie in tries:
            for node in trie.nodes:
                node.causes = causes_of.get((trie.template, node.prefix), node.causes)
            trie.symbols_NU = _symbol_ids(trie.samples, ids)
        self.tries = tries

    def discover(self, words: Iterable[str]) -> bool:
        """Make ``words`` symbols; return whether any is new."""
        new = sorted(set(words) - set(self.discovered) - set(self.spec.values))
        self.discovered.extend(new)
        if new:
            self.arrange()
        return bool(new)

    def _cut(self, answer: Answer) -> Sample:
        units = self._segmenter.coarsen(self._segmenter.cut(answer.completion), answer.token_ends)
        return Sample(
            answer.prompt,
            [*answer.prompt.units, *units, Unit(self.spec.stop)],
            len(answer.prompt.units),
        )


def _symbol_ids(samples: Sequence[Sample], ids: dict[str, int]) -> Ints:
    n_units = max((len(s.units) for s in samples), default=0)
    symbols_NU = np.full((len(samples), n_units), -1, dtype=np.int32)
    for row, sample in enumerate(samples):
        for column, unit in enumerate(sample.units):
            if unit.symbol is not None:
                symbols_NU[row, column] = ids[unit.symbol]
    return symbols_NU


def _build_trie(template: int, samples: list[Sample]) -> TemplateTrie:
    nodes: list[TrieNode] = []
    if samples:
        nodes.append(TrieNode(samples[0].n_prompt))
    for index, sample in enumerate(samples):
        node, sample.path = 0, []
        for unit in sample.units[sample.n_prompt :]:
            nodes[node].samples.append(index)
            sample.path.append(node)
            child = nodes[node].children.get(unit.mask)
            if child is None:
                child = len(nodes)
                nodes[node].children[unit.mask] = child
                nodes.append(TrieNode(nodes[node].depth + 1, f"{nodes[node].prefix}\n{unit.mask}"))
            node = child
    # The node after the stop unit decides nothing; it has no samples and is dropped when the graph is written.
    return TemplateTrie(template, samples, nodes, np.empty((0, 0), dtype=np.int32))


def _undeclared_symbols(tries: Sequence[TemplateTrie], stop: str) -> set[str]:
    """Structure among which the teacher chooses: it becomes symbols.

    Where a masked prefix has several continuations, a word or number is a symbol if another continuation is followed
    by the same structure within ``WORD_LOOKAHEAD`` units. Punctuation is a symbol if other punctuation is followed by
    the same structure at once ("<" and ">" before the same full stop). Everything else (continuing against ending)
    remains structure.
    """
    new_symbols: set[str] = set()
    for trie in tries:
        for node in trie.nodes:
            choices = [m for m in node.children if m != stop]
            for mask in choices:
                body = mask.strip()
                if MASK in mask or not body or len(node.children) < 2:
                    continue
                is_word = any(c.isalnum() for c in body)
                alternatives = [m for m in choices if m != mask and (is_word or MASK not in m)]
                reach = WORD_LOOKAHEAD if is_word else 1
                following = _structure_after(trie, node.children[mask], reach)
                for alternative in alternatives:
                    alternative_following = _structure_after(trie, node.children[alternative], reach)
                    if any(a & b for a, b in zip(following, alternative_following, strict=True)):
                        new_symbols.add(body)
    return new_symbols


def _structure_after(trie: TemplateTrie, node: int, reach: int) -> list[set[str]]:
    """Structure found one, two, ... ``reach`` units after ``node``."""
    levels, nodes = [], [node]
    for _ in range(reach):
        children = [(m, c) for n in nodes for m, c in trie.nodes[n].children.items()]
        levels.append({m for m, _ in children if MASK not in m})
        nodes = [c for _, c in children]
    return levels
