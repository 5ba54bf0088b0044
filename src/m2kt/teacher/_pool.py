"""The probes and what the teacher answered, arranged as one trie of masked prefixes a template.

Legend: N samples at a node, P units before it, S symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.probes import MASK, ProbeSpec, Prompt, Segmenter, Unit

Ints = NDArray[np.int32]
ALIKE_WITHIN = 3  # units after which two words must have led to the same structure


@dataclass(frozen=True)
class Answer:
    """A prompt with the teacher's greedy completion (without the stop string) and where its tokens end."""

    prompt: Prompt
    completion: str
    cuts: tuple[int, ...]  # character offsets, within the completion, at which some token ends


@dataclass
class Sample:
    """An answer cut into units: prompt, completion, stop."""

    prompt: Prompt
    units: list[Unit]
    n_prompt: int
    path: list[int] = field(default_factory=list)  # trie node that decides unit n_prompt + i

    @property
    def texts(self) -> list[str]:
        """What each unit says."""
        return [u.text for u in self.units]

    @property
    def text(self) -> str:
        """Prompt, completion and stop."""
        return "".join(self.texts)


@dataclass
class Causes:
    """What was learnt about a step by intervention, or by another concept source. By earlier unit, 0..1."""

    effect: dict[int, float] = field(default_factory=dict)  # how much the unit decides this step
    follow: dict[int, float] = field(default_factory=dict)  # how often this step repeats it
    bases: int = 0  # answers that were intervened on and ended here
    tried: Counter[int] = field(default_factory=Counter)  # interventions; how many changed and were repeated
    changed: Counter[int] = field(default_factory=Counter)
    followed: Counter[int] = field(default_factory=Counter)


@dataclass
class TrieNode:
    """All samples of a template that share a masked prefix of ``depth`` units."""

    depth: int
    prefix: str = ""  # masks of the completion so far, parted by line feeds
    samples: list[int] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)
    causes: Causes = field(default_factory=Causes)


@dataclass
class Shape:
    """The trie of one template. ``symbols_NP`` holds symbol ids, -1 for structure and beyond the end."""

    template: int
    samples: list[Sample]
    nodes: list[TrieNode]
    symbols_NP: Ints

    @cached_property
    def support(self) -> list[frozenset[int]]:
        """By unit: the symbols seen there in any sample."""
        return [frozenset(column[column >= 0].tolist()) for column in self.symbols_NP.T]

    def columns(self, node: int) -> Ints:
        """Symbols before ``node``: (N, P)."""
        trie = self.nodes[node]
        return self.symbols_NP[trie.samples, : trie.depth]

    def written(self, node: int) -> list[Unit]:
        """What each sample of ``node`` writes next."""
        trie = self.nodes[node]
        return [self.samples[i].units[trie.depth] for i in trie.samples]


class Pool:
    """Everything asked so far. Cheap to rebuild when answers are added."""

    def __init__(self, spec: ProbeSpec) -> None:
        self.spec = spec
        self.answers: dict[str, Answer] = {}
        self.discovered: list[str] = []
        self.symbols: list[str] = []
        self.shapes: list[Shape] = []
        self._segmenter = Segmenter(spec.values)
        self._samples: dict[str, Sample] = {}  # as that cut them, by prompt

    def add(self, answers: Iterable[Answer]) -> None:
        """Adds answers; call :meth:`arrange` afterwards."""
        for answer in answers:
            self._samples.pop(answer.prompt.text, None)
            self.answers[answer.prompt.text] = answer
            said = (self.spec.read_answer(answer.completion) or "").strip() if self.spec.facts else ""
            if said and said not in self.discovered:
                self.discovered.append(said)

    def arrange(self) -> None:
        """Cuts all answers into units, finds symbols the spec does not name, and builds the tries.

        What is known about the causes of a step stays, as long as answers are cut in the same way.
        """
        known = {(s.template, n.prefix): n.causes for s in self.shapes for n in s.nodes}
        while True:
            if self._segmenter.discovered != set(self.discovered):
                self._segmenter, self._samples = Segmenter(self.spec.values, self.discovered), {}
            for text in self.answers.keys() - self._samples.keys():
                self._samples[text] = self._cut(self.answers[text])
            samples = [self._samples[text] for text in self.answers]
            shapes = [
                _build_trie(t, [s for s in samples if s.prompt.template == t])
                for t in range(self.spec.n_templates)
            ]
            new = _undeclared_symbols(shapes, self.spec.stop)
            if not new:
                break
            self.discovered.extend(sorted(new))
            known = {}
        values = self.spec.values
        self.symbols = values + [d for d in self.discovered if d not in set(values)]
        ids = {s: i for i, s in enumerate(self.symbols)}
        for shape in shapes:
            for node in shape.nodes:
                node.causes = known.get((shape.template, node.prefix), node.causes)
            width = max((len(s.units) for s in shape.samples), default=0)
            shape.symbols_NP = np.full((len(shape.samples), width), -1, dtype=np.int32)
            for row, sample in enumerate(shape.samples):
                for column, unit in enumerate(sample.units):
                    if unit.symbol is not None:
                        shape.symbols_NP[row, column] = ids[unit.symbol]
        self.shapes = shapes

    def discover(self, words: Iterable[str]) -> bool:
        """Makes ``words`` symbols too; whether any was new."""
        new = sorted(set(words) - set(self.discovered) - set(self.spec.values))
        self.discovered.extend(new)
        if new:
            self.arrange()
        return bool(new)

    def _cut(self, answer: Answer) -> Sample:
        units = self._segmenter.coarsen(self._segmenter.cut(answer.completion), answer.cuts)
        return Sample(
            answer.prompt,
            [*answer.prompt.units, *units, Unit(self.spec.stop)],
            len(answer.prompt.units),
        )


def _build_trie(template: int, samples: list[Sample]) -> Shape:
    nodes: list[TrieNode] = []
    if samples:
        nodes.append(TrieNode(samples[0].n_prompt))
    for index, sample in enumerate(samples):
        at, sample.path = 0, []
        for unit in sample.units[sample.n_prompt :]:
            nodes[at].samples.append(index)
            sample.path.append(at)
            child = nodes[at].children.get(unit.mask)
            if child is None:
                child = len(nodes)
                nodes[at].children[unit.mask] = child
                nodes.append(TrieNode(nodes[at].depth + 1, f"{nodes[at].prefix}\n{unit.mask}"))
            at = child
    # The node behind the stop unit decides nothing; it stays empty and is dropped when the graph is written.
    return Shape(template, samples, nodes, np.empty((0, 0), dtype=np.int32))


def _undeclared_symbols(shapes: Sequence[Shape], stop: str) -> set[str]:
    """Structure that the teacher was seen to *choose* is a symbol too.

    Where the same masked prefix goes on in different ways, a word or number is a symbol if what follows looks like what
    follows another choice soon after; so is punctuation that is followed like other punctuation at once ("<" and ">"
    before the same full stop). What leads elsewhere (going on against ending) is structure.
    """
    found: set[str] = set()
    for shape in shapes:
        for node in shape.nodes:
            choices = [m for m in node.children if m != stop]
            for mask in choices:
                body = mask.strip()
                if MASK in mask or not body or len(node.children) < 2:
                    continue
                word = any(c.isalnum() for c in body)
                others = [m for m in choices if m != mask and (word or MASK not in m)]
                reach = ALIKE_WITHIN if word else 1
                own = _onward(shape, node.children[mask], reach)
                for other in others:
                    theirs = _onward(shape, node.children[other], reach)
                    if any(a & b for a, b in zip(own, theirs, strict=True)):
                        found.add(body)
    return found


def _onward(shape: Shape, node: int, reach: int) -> list[set[str]]:
    """Structure that comes one, two, ... units behind ``node``."""
    found, nodes = [], [node]
    for _ in range(reach):
        following = [(m, c) for n in nodes for m, c in shape.nodes[n].children.items()]
        found.append({m for m, _ in following if MASK not in m})
        nodes = [c for _, c in following]
    return found
