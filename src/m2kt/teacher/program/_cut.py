"""Answers in units: which words are symbols, and which symbols are of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from m2kt.packet import Granularity, finer_values, prompt_units
from m2kt.probes import MASK, Part, ProbeSpec, Prompt, Segmenter, Template, Unit, single_parts
from m2kt.teacher._oracle import Answer

COMMON = 0.05  # share of answers that hold a word of structure
LEAST_STRINGS = 4  # words that must be strings of letters for letters to be symbols
MOSTLY_STRINGS = 0.9  # and their share of all new words
WORD_LOOKAHEAD = 3  # units within which what follows two chosen words must have structure in common


@dataclass
class Sample:
    """An answer in units: prompt, completion, stop."""

    prompt: Prompt
    units: list[Unit]
    n_prompt: int

    @property
    def texts(self) -> list[str]:
        """The text of each unit."""
        return [unit.text for unit in self.units]

    @property
    def text(self) -> str:
        """Prompt, completion and stop string."""
        return "".join(self.texts)


class Cutter:
    """Cuts prompts and answers into units, and finds symbols that the spec does not name."""

    def __init__(self, spec: ProbeSpec, granularity: Granularity, like: Cutter | None = None) -> None:
        self.spec, self.granularity = spec, granularity
        self.values = finer_values(spec.values, granularity)
        self.discovered: list[str] = [] if like is None else list(like.discovered)
        self.apart: set[Part] = single_parts(self.values) if like is None else set(like.apart)
        self.whole: frozenset[str] | None = None if like is None else like.whole
        self._set()

    def _set(self) -> None:
        self.segmenter = Segmenter(self.values, self.discovered, apart=self.apart, whole=self.whole or ())
        self._of_prompts = Segmenter(self.values, self.discovered, apart=())

    @property
    def symbols(self) -> list[str]:
        """All symbols: slot values in the spec's order, then discovered ones."""
        return self.values + [d for d in self.discovered if d not in set(self.values)]

    def cut(self, answer: Answer) -> Sample:
        """An answer's units."""
        prompt = prompt_units(answer.prompt, self._of_prompts, self.granularity)
        units = self.segmenter.coarsen(self.segmenter.cut(answer.completion), answer.token_ends)
        return Sample(answer.prompt, [*prompt, *units, Unit(self.spec.end)], len(prompt))

    def cut_all(self, answers: Sequence[Answer]) -> list[Sample]:
        """All answers, cut again until no word among which the teacher chooses is structure."""
        facts = [self.spec.read_answer(a.completion) or "" for a in answers] if self.spec.facts else []
        self._discover(fact.strip() for fact in facts)
        if self.whole is None:
            self.whole = _structure_words(self.spec, answers)
            self._set()
        while True:
            samples = [self.cut(answer) for answer in answers]
            new = sorted(_undeclared(samples, self.spec.end))
            numbers = sorted(_signed(samples).union(*_numbers(samples)))
            if not self._cut_apart(new) and not self._discover([*new, *numbers]):
                return samples

    def _cut_apart(self, words: Iterable[str]) -> bool:
        """Whether words among which the teacher chooses turn out to be strings of symbols; then they are cut apart."""
        long = [word for word in words if len(word) > 1 and word.isalpha()]
        single = {s for s in {*self.symbols, *words} if len(s) == 1 and s.isalpha()}
        strings = [word for word in long if single.issuperset(word)]
        if "letters" in self.apart or len(strings) < LEAST_STRINGS or len(strings) < MOSTLY_STRINGS * len(long):
            return False
        self.apart.add("letters")
        self._discover(sorted({character for word in strings for character in word}))
        self._set()
        return True

    def _discover(self, words: Iterable[str]) -> bool:
        known = {*self.values, *self.discovered}
        new = [word for word in dict.fromkeys(words) if word and word not in known]
        if new:
            self.discovered += new
            self._set()
        return bool(new)

    def classes(self, samples: Sequence[Sample]) -> list[int]:
        """The class of each symbol: of one are those of slots alike, and those written behind one masked prefix."""
        symbols = self.symbols
        index = {s: i for i, s in enumerate(symbols)}
        parent = list(range(len(symbols)))

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        def join(members: Iterable[str]) -> None:
            known = [index[m] for m in members if m in index]
            for other in known[1:]:
                parent[root(other)] = root(known[0])

        for names in self._alike():
            join(part for name in names for value in self.spec.slots[name].values for part in self._parts(value))
        for slot in self.spec.slots.values():
            join(part for value in slot.values for part in self._parts(value))
        for node in _nodes(samples):
            join(sorted(node.symbols))
        for numbers in _numbers(samples):
            join(sorted(numbers))
        number: dict[int, int] = {}
        return [number.setdefault(root(i), len(number)) for i in range(len(symbols))]

    def _parts(self, value: str) -> list[str]:
        return finer_values([value], self.granularity)

    def _alike(self) -> list[set[str]]:
        """Slots that stand between the same texts in any template: a spec may have a slot for each place."""
        slots = {name: slot.values for name, slot in self.spec.slots.items()}
        between: dict[tuple[str, str], set[str]] = {}
        for held_out in (False, True):
            for i in range(len(self.spec.held_out if held_out else self.spec.templates)):
                parts = Template(self.spec.template_text(i, held_out), slots).parts
                texts = ["", *(p if isinstance(p, str) else MASK for p in parts), ""]
                for before, part, after in zip(texts, parts, texts[2:], strict=False):
                    if not isinstance(part, str) and {before, after} - {MASK, ""}:
                        between.setdefault((before, after), set()).add(part.slot)
        return [names for names in between.values() if len(names) > 1]


def _structure_words(spec: ProbeSpec, answers: Sequence[Answer]) -> frozenset[str]:
    """Words of answers that are no strings of symbols: those of many answers among which the teacher never chooses."""
    chosen: set[str] = set()
    while True:
        cut, samples = Segmenter(spec.values, chosen, apart=()), []
        for answer in answers:
            prompt = prompt_units(answer.prompt, cut, "values")
            samples.append(Sample(answer.prompt, [*prompt, *cut.cut(answer.completion), Unit(spec.end)], len(prompt)))
        more = _undeclared(samples, spec.end)
        if not more:
            break
        chosen |= more
    count: Counter[str] = Counter()
    for sample in samples:
        texts = {unit.text.strip() for unit in sample.units[sample.n_prompt :] if unit.symbol is None}
        count.update(text for text in texts if len(text) > 1 and text.isalnum())
    return frozenset(word for word, n in count.items() if n >= COMMON * len(samples))


class _Node:
    """Answers that share a masked prompt and prefix."""

    __slots__ = ("children", "symbols")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.symbols: set[str] = set()


def _roots(samples: Sequence[Sample]) -> list[_Node]:
    roots: dict[tuple[str, ...], _Node] = {}
    for sample in samples:
        masks = [unit.mask for unit in sample.units]
        node = roots.setdefault(tuple(masks[: sample.n_prompt]), _Node())
        for unit in sample.units[sample.n_prompt :]:
            if unit.symbol is not None:
                node.symbols.add(unit.symbol)
            node = node.children.setdefault(unit.mask, _Node())
    return list(roots.values())


def _nodes(samples: Sequence[Sample]) -> Iterable[_Node]:
    pending = _roots(samples)
    while pending:
        node = pending.pop()
        yield node
        pending += node.children.values()


def _undeclared(samples: Sequence[Sample], stop: str) -> set[str]:
    """Structure among which the teacher chooses: it becomes symbols.

    Where a masked prefix has several continuations, a word or number is a symbol if another continuation is followed
    by the same structure within ``WORD_LOOKAHEAD`` units. Punctuation is a symbol if other punctuation is followed by
    the same structure at once ("<" and ">" before the same full stop). Everything else (continuing against ending)
    remains structure.
    """
    new: set[str] = set()
    for node in _nodes(samples):
        choices = [mask for mask in node.children if mask != stop]
        for mask in choices if len(node.children) > 1 else ():
            body = mask.strip()
            if MASK in mask or not body:
                continue
            is_word = any(c.isalnum() for c in body)
            reach = WORD_LOOKAHEAD if is_word else 1
            following = _structure_after(node.children[mask], reach)
            for other in choices:
                if other == mask or not (is_word or MASK not in other):
                    continue
                other_following = _structure_after(node.children[other], reach)
                if any(a & b for a, b in zip(following, other_following, strict=True)):
                    new.add(body)
    return new


def _signed(samples: Sequence[Sample]) -> set[str]:
    """Numbers with a sign: where the teacher writes a number or a minus, and behind the minus always a number."""
    new: set[str] = set()
    for node in _nodes(samples):
        for minus in ("-", " -"):
            signed = node.children.get(minus)
            if signed is None or not any(mask.endswith(MASK) for mask in node.children if mask != minus):
                continue
            numbers = all(s.isdigit() for s in signed.symbols) and set(signed.children) == {MASK}
            if numbers and MASK not in signed.children[MASK].children:
                new |= {f"-{s}" for s in signed.symbols}
    return new


def _numbers(samples: Sequence[Sample]) -> list[set[str]]:
    """Numbers that stand between the same units, and some of them between others too: a count that is used again.

    What is written before a count may fix it, so that the teacher never chooses.
    """
    between: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        texts = [MASK if _is_number(unit) else unit.mask for unit in sample.units]
        for i in range(sample.n_prompt, len(texts) - 1):
            if texts[i] == MASK:
                between.setdefault((texts[i - 1], texts[i + 1]), set()).add(sample.units[i].text.strip())
    groups = [numbers for numbers in between.values() if len(numbers) > 1]
    places = Counter(number for numbers in groups for number in numbers)
    return [numbers for numbers in groups if any(places[number] > 1 for number in numbers)]


def _is_number(unit: Unit) -> bool:
    return unit.text.strip().isdigit()


def _structure_after(node: _Node, reach: int) -> list[set[str]]:
    """Structure found one, two, ... ``reach`` units after a node."""
    levels, nodes = [], [node]
    for _ in range(reach):
        children = [(mask, child) for n in nodes for mask, child in n.children.items()]
        levels.append({mask for mask, _ in children if MASK not in mask})
        nodes = [child for _, child in children]
    return levels
