"""Graphs from answers of plain functions: no model, no interventions, many formats.

Checked are the graph's rollouts on unseen prompts, and the size of its rules.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable

import pytest
import yaml

from m2kt.errors import PacketError
from m2kt.packet import Graph, GraphExecutor, Guard, extend, fixed_lookup
from m2kt.probes import ProbeSpec
from m2kt.teacher._condense import condense, write_graph
from m2kt.teacher._contexts import concept_contexts, prototype_contexts
from m2kt.teacher._corpus import Answer, Corpus
from tests.teacher.formats import DIGITS, FORMATS, LETTERS, folding, noisy, table, words


def spec(name: str, slots: dict[str, list[str]], templates: list[str], answer: str | None = None) -> ProbeSpec:
    data = {
        "name": name,
        "slots": {k: {"values": v} for k, v in slots.items()},
        "templates": templates,
        "stop": "\n",
    }
    return ProbeSpec.from_yaml(yaml.safe_dump(data | ({"answer": answer} if answer else {})))


def letters(text: str) -> tuple[int, ...]:
    """Token ends if every character is a token."""
    return tuple(range(1, len(text) + 1))


def learn(
    probes: ProbeSpec,
    answer: Callable[[str], str],
    n: int = 300,
    token_ends: Callable[[str], tuple[int, ...]] = letters,
) -> tuple[Graph, list[int], Corpus]:
    corpus = Corpus(probes)
    prompts = probes.sample("probing", n * probes.n_templates, seed=0)
    prompts += probes.sample("probing", n * probes.n_templates // 2, seed=0, skewed=True)
    corpus.add(Answer(p, completion, token_ends(completion)) for p in prompts for completion in [answer(p.text)])
    corpus.arrange()
    while corpus.discover(word for r in condense(corpus).resisted for word in r.words):
        pass
    graph, outputs = write_graph(corpus, condense(corpus))
    return graph, outputs, corpus


def agreement(probes: ProbeSpec, graph: Graph, outputs: list[int], answer: Callable[[str], str]) -> tuple[float, float]:
    """(coverage, agreement) on the evaluation split."""
    executor, table = GraphExecutor(graph), fixed_lookup(outputs, graph)
    prompts = probes.sample("evaluation", 400, seed=1)
    covered = [(p, t) for p in prompts if (t := executor(p, table)).complete]
    right = sum(t.completion == answer(p.text) + "\n" for p, t in covered)
    return len(covered) / len(prompts), right / max(1, len(covered))


def columns(prompt: str, swap: bool = False) -> str:
    """Schoolbook addition; with ``swap`` the digits 3 and 7 are exchanged in the written sums."""
    a, b = prompt[:-1].split("+")
    carry, steps, digits = 0, [], ""
    for x, y in zip(a[::-1], b[::-1], strict=True):
        total = int(x) + int(y) + carry
        ones = str(total % 10)
        ones = {"3": "7", "7": "3"}.get(ones, ones) if swap else ones
        steps.append(f"{x}+{y}+{carry}={total // 10}{ones}")
        digits, carry = ones + digits, total // 10
    return ";".join(steps) + ">" + ((str(carry) + digits).lstrip("0") or "0") + "."


@pytest.mark.parametrize("swap", [False, True])
def test_addition_is_one_column_shared_by_all_columns_and_lengths(swap: bool) -> None:
    probes = spec("addition", {"d": DIGITS}, ["{d}+{d}:", "{d}{d}+{d}{d}:", "{d}{d}{d}+{d}{d}{d}:"], "> ?(.+)\\.")
    graph, outputs, _ = learn(probes, lambda p: columns(p, swap))
    assert [(r.arity, len(r.rows)) for r in graph.rules] == [(3, 200), (3, 200)]
    assert {r.uses for r in graph.rules} == {6} and {r.family for r in graph.rules} == {0}
    coverage, agreed = agreement(probes, graph, outputs, lambda p: columns(p, swap))
    assert coverage >= 0.99 and agreed >= 0.99
    # the variable length of the answer needs a few guards and no table
    guards = [n.step for t in graph.templates for n in t.nodes if isinstance(n.step, Guard)]
    assert guards and sum(len(r.rows) for r in graph.rules) == 400


def formula(prompt: str) -> str:
    left, out = prompt[:-1].split(), ""
    while len(left) > 1:
        a, o, b = left[-3:]
        value = {"&": a == b == "T", "|": "T" in (a, b), "^": a != b}[o]
        out += f" {a} {o} {b} -> {'T' if value else 'F'} ,"
        left = [*left[:-3], "T" if value else "F"]
    return out + f" so {left[0]}"


def test_a_logic_with_its_connective_as_an_argument() -> None:
    slots = {"v": ["T", "F"], "o": ["&", "|", "^"]}
    probes = spec("logic", slots, ["{v} {o} {v} {o} {v}:", "{v} {o} {v} {o} {v} {o} {v}:"], "so (.+)")
    graph, outputs, _ = learn(probes, formula)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(3, 12, 5)]
    assert agreement(probes, graph, outputs, formula) == (1.0, 1.0)


def maximum(prompt: str) -> str:
    values = prompt[len("max ") : -1].split()
    best, out = values[0], ""
    for x in values[1:]:
        out += f" {best} {x} {max(best, x)};"
        best = max(best, x)
    return out + f" = {best}"


def test_a_choice_of_copies_stays_a_rule() -> None:
    """A maximum is always a copy of a unit; a guard that selects the unit would reveal the rule as structure."""
    probes = spec("max", {"d": DIGITS}, ["max {d} {d}:", "max {d} {d} {d}:"], "= (.+)")
    graph, outputs, _ = learn(probes, maximum)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(2, 100, 3)]
    assert agreement(probes, graph, outputs, maximum) == (1.0, 1.0)


def cipher(prompt: str) -> str:
    letters = "abcdefghij"
    key, word = prompt[:-1].split(" ")
    return " " + "".join(letters[(letters.index(c) + int(key)) % 10] for c in word)


def test_a_cipher_without_any_written_step() -> None:
    probes = spec("cipher", {"k": DIGITS, "c": list("abcdefghij")}, ["{k} {c}{c}:", "{k} {c}{c}{c}{c}:"])
    graph, outputs, _ = learn(probes, cipher)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(2, 100, 6)]
    assert agreement(probes, graph, outputs, cipher) == (1.0, 1.0)


def compare(prompt: str) -> str:
    out = ""
    values = prompt[:-1].split(" ")
    for a, b in itertools.pairwise(values):
        out += f" {a} is {'under' if a < b else 'over' if a > b else 'like'} {b},"
    return out + " done"


def test_words_that_the_teacher_chooses_become_symbols() -> None:
    probes = spec("compare", {"d": DIGITS[:5]}, ["{d} {d}:", "{d} {d} {d}:"], "(.+) done")
    graph, outputs, corpus = learn(probes, compare)
    assert set(corpus.discovered) == {"under", "over", "like"}
    assert [(r.arity, len(r.rows)) for r in graph.rules] == [(2, 25)]
    assert agreement(probes, graph, outputs, compare) == (1.0, 1.0)


@pytest.mark.parametrize("name", FORMATS)
def test_many_ways_to_write_a_trace(name: str) -> None:
    """Rules with exactly the skill's rows, and every unseen prompt of the probed templates is right."""
    f = FORMATS[name]
    probes = spec("format", f.slots, f.templates)
    graph, outputs, _ = learn(probes, f.answer)
    assert sorted((r.arity, len(r.rows), r.uses) for r in graph.rules) == f.rules
    assert agreement(probes, graph, outputs, f.answer) == (1.0, 1.0)


@pytest.mark.parametrize(
    "name", ["values that begin alike", "an answer that ends early", "three arguments", "a borrow and a sign"]
)
def test_longer_shapes_follow_from_those_that_were_asked(name: str) -> None:
    """Two sizes beyond the largest probed one, equal to the last character."""
    f = FORMATS[name]
    probes = spec("format", f.slots, f.templates)
    held_out = [longer(f.templates[-1]), longer(longer(f.templates[-1]))]
    probes = ProbeSpec.model_validate(probes.model_dump() | {"held_out": held_out})
    graph, outputs, _ = learn(probes, f.answer)
    tries = [extend(graph, probes, i) for i in range(2)]
    executor, lookup = (
        GraphExecutor(graph.model_copy(update={"templates": tries})),
        fixed_lookup(outputs, graph),
    )
    for prompt in probes.sample("evaluation", 100, seed=0, held_out=True):
        assert executor(prompt, lookup).completion == f.answer(prompt.text) + "\n"


def longer(template: str) -> str:
    """One symbol more in every sequence of symbols."""
    return re.sub(r"( ?\{.\})(?=[-:])", r"\1\1", template)


def test_longer_shapes_that_need_a_text_never_seen_are_refused() -> None:
    """The graph has no text ``4)``, although ``1)``, ``2)`` and ``3)`` suggest it."""
    f = FORMATS["numbered steps"]
    probes = spec("format", f.slots, f.templates)
    probes = ProbeSpec.model_validate(probes.model_dump() | {"held_out": ["{x} {x} {x} {x} {x}:"]})
    with pytest.raises(PacketError, match="write ' 3'"):
        extend(learn(probes, f.answer)[0], probes)


def test_going_on_and_ending_with_words_is_structure() -> None:
    """' so' is where the next digit would be: as a symbol it would merge skeletons of different length."""
    probes = spec("words", {"d": DIGITS[:5]}, ["{d} vs {d}:", "{d}{d} vs {d}{d}:", "{d}{d}{d} vs {d}{d}{d}:"])
    graph, outputs, corpus = learn(probes, words)
    assert {"equal", "less", "more"} <= set(corpus.discovered) and "so" not in corpus.discovered
    assert sum(len(r.rows) for r in graph.rules) <= 100
    coverage, agreed = agreement(probes, graph, outputs, words)
    assert coverage >= 0.98 and agreed == 1.0


@pytest.mark.parametrize("rate", [0.005, 0.01])
def test_rules_are_found_in_a_noisy_teacher(rate: float) -> None:
    """The graph is that of the noiseless teacher: no table learns an error."""
    perfect = folding(table(LETTERS, 9))
    probes = spec("noise", {"x": LETTERS}, ["{x} {x} {x}:", "{x} {x} {x} {x}:"])
    graph, outputs, corpus = learn(probes, noisy(perfect, rate))
    n_errors = sum(a.completion != perfect(a.prompt.text) for a in corpus.answers.values())
    assert n_errors >= 5
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(2, 36, 5)]
    assert agreement(probes, graph, outputs, perfect) == (1.0, 1.0)


def test_a_rare_exception_is_not_an_error() -> None:
    """One row in 144 differs from "the left argument", always for the same arguments: a rule and not noise."""
    values = [chr(ord("a") + i) for i in range(12)]
    operation = {(a, b): a for a in values for b in values} | {("c", "d"): "e"}
    probes = spec("exception", {"x": values}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    graph, outputs, _ = learn(probes, folding(operation))
    assert graph.rules, "the exception was taken for an error of a copy"
    assert agreement(probes, graph, outputs, folding(operation)) == (1.0, 1.0)


def test_tokens_that_span_structure_and_a_symbol() -> None:
    """A tokenizer that merges "=b" into one token: units are never finer than the teacher's tokens."""
    operation = table(LETTERS, 10)

    def answer(prompt: str) -> str:
        return folding(operation)(prompt).replace(" = ", "=")

    def token_ends(text: str) -> tuple[int, ...]:
        return tuple(i for i in range(1, len(text) + 1) if text[i - 1] != "=")

    probes = spec("straddling", {"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    graph, outputs, corpus = learn(probes, answer, token_ends=token_ends)
    assert {f"={x}" for x in LETTERS} & set(corpus.symbols)
    assert sorted((r.arity, len(r.rows)) for r in graph.rules) == [(1, 6), (2, 36)]
    assert agreement(probes, graph, outputs, answer) == (1.0, 1.0)


def test_symbols_that_only_rules_write_are_not_labelled_by_their_own_row() -> None:
    """Without copies, prototype samples are means over several rows, and a note says so."""
    operation = table(LETTERS, 11)

    def answer(prompt: str) -> str:
        value, *rest = prompt[:-1].split(" ")
        written = [value := operation[value, x] for x in rest]
        return " " + " ".join(written)

    probes = spec("bare", {"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    graph, outputs, corpus = learn(probes, answer)
    draft = condense(corpus)
    rng = random.Random(0)
    concepts = concept_contexts(corpus, draft, graph, rng)
    groups_of, notes = prototype_contexts(corpus, draft, concepts, outputs, rng)
    row_of = {(r.sample.text, r.unit): k for k, contexts in concepts.items() for r in contexts}
    for symbol, groups in groups_of.items():
        if outputs.count(symbol) > 1:
            assert all(len({row_of[r.sample.text, r.unit] for r in group}) > 1 for group in groups)
    assert any("written by rules only" in note for note in notes)


def test_steps_that_no_rule_fits_are_not_covered() -> None:
    """A hash of the whole prompt: every sample is a separate row, so that no row generalises."""

    def chaos(prompt: str) -> str:
        return f" {sum(ord(c) * 31**i for i, c in enumerate(prompt)) % 7}"

    probes = spec("chaos", {"d": DIGITS}, ["{d}{d}{d}{d}{d}{d}:"])
    graph, outputs, _ = learn(probes, chaos)
    coverage, _ = agreement(probes, graph, outputs, chaos)
    assert coverage < 0.5
