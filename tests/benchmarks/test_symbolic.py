"""The tasks of the symbolic suite: their answers, and their writers under forcing."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import pytest

from benchmarks.symbolic import (
    FunctionTeacher,
    fresh_prompts,
    run_task,
    shipped,
    tasks,
    written,
)
from m2kt.probes import Segmenter
from m2kt.teacher import Forced

TASKS = {task.name: task for task in shipped()}
QUICK = [
    "bAbI 1",
    "bAbI 2",
    "bAbI 5",
    "who has which colour",
    "key-value look-up",
    "induction",
    "linear search",
    "deduplication",
    "filtering even numbers",
    "running sum modulo 10",
    "parity",
    "interleaving",
    "last letter concatenation (unwritten)",
    "run-length encoding",
    "valid parentheses",
]
"""Tasks whose extraction runs in make test; the rest: make bench-symbolic."""


# -- the shipped tasks -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TASKS)
def test_each_task_answers_every_prompt(name: str) -> None:
    """Function and writer agree, and the expression finds an answer: on random, skewed and all-alike prompts."""
    task = TASKS[name]
    assert task.spec is not None and task.function is not None, task.problem
    teacher = FunctionTeacher(task.spec, task.function, task.writer)
    for held_out in (False, True):
        prompts = fresh_prompts(task.spec, 5, held_out=held_out)
        answers, unstopped = teacher.answer(prompts)
        assert not unstopped and len(answers) == len(prompts)
        for answer in answers:
            assert task.spec.read_answer(answer.completion), (answer.prompt.text, answer.completion)
            assert len(answer.completion) <= 4096 and len(answer.prompt.units) <= 300


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.writer])
def test_what_stands_is_intended_and_a_forced_symbol_is_taken_up(name: str) -> None:
    task = TASKS[name]
    assert task.spec is not None and task.function is not None
    teacher = FunctionTeacher(task.spec, task.function, task.writer)
    writerless = FunctionTeacher(task.spec, task.function)
    segmenter, rng = Segmenter(task.spec.values), random.Random(name)
    for answer in teacher.answer(task.spec.sample("probing", 8, seed=3))[0]:
        units = [*answer.prompt.units, *segmenter.cut(answer.completion)]
        texts, n_prompt = (*(u.text for u in units), "\n"), len(answer.prompt.units)
        symbols = [i for i, u in enumerate(units) if u.symbol is not None]
        for i in rng.sample(symbols, min(3, len(symbols))):
            unchanged = max(0, i - n_prompt)
            (same,) = teacher.intended([Forced(texts, n_prompt, i)])
            assert same == [None] * unchanged + list(texts[n_prompt + unchanged :])
            value = rng.choice(next(s.values for s in task.spec.slots.values() if units[i].symbol in s.values)
                               if units[i].symbol in task.spec.values else [*task.spec.values])  # fmt: skip
            forced = (*texts[:i], units[i].lead + value, *texts[i + 1 :])
            (intended,) = teacher.intended([Forced(forced, n_prompt, i)])
            assert len(intended) == len(texts) - n_prompt
            if i >= n_prompt:
                assert intended[i - n_prompt] == texts[i]  # what came before is as it was
                continue
            (by_answer,) = writerless.intended([Forced(forced, n_prompt, i)])  # known up to the first difference
            known = len(texts) - n_prompt - by_answer.count(None)
            assert intended[:known] == by_answer[:known]


@pytest.mark.parametrize("name", TASKS)
def test_held_out_sizes_are_twice_and_four_times_the_largest_probed_one(name: str) -> None:
    probed, (longest, long) = tasks.SIZES[name]
    assert longest == 4 * max(probed) and long == 2 * max(probed)


def digits(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def gcd(prompt: str) -> int:
    return math.gcd(*digits(prompt))


def in_order(prompt: str) -> str:
    return " ".join(sorted(prompt.split(": ")[-1].rstrip(".").split(" ")))


def python(prompt: str) -> object:
    return eval(re.sub(r"^.*: |\?|What is |Q: | is\nA:| =\nA:|\b0+(?=\d)", "", prompt))  # the expression alone


TRUTHS: dict[str, Callable[[str], object]] = {
    "boolean expressions": python,
    "boolean expressions in brackets": python,
    "multistep arithmetic two": python,
    "nested arithmetic modulo 10": lambda p: int(str(python(p))) % 10,
    "addition": python,
    "addition of several numbers": python,
    "addition without a written carry": lambda p: f"{sum(digits(p)):0{len(p) // 2}}"[::-1],
    "subtraction": python,
    "multiplication by a digit": python,
    "long multiplication": python,
    "long division": lambda p: digits(p)[0] // digits(p)[1],
    "halving": lambda p: f"{digits(p)[0]:b}",
    "binary to decimal": lambda p: int(str(digits(p)[0]), 2),
    "greatest common divisor": gcd,
    "insertion sort": in_order,
    "bubble sort": in_order,
    "selection sort": in_order,
    "merge sort": in_order,
    "insertion sort of words": in_order,
    "word sorting": lambda p: " ".join(sorted(p.split("List: ")[1].split("\n")[0].split(" "))),
    "binary search": lambda p: "yes" if digits(p)[0] in digits(p)[1:] else "no",
    "linear search": lambda p: "yes" if digits(p)[0] in digits(p)[1:] else "no",
    "ListOps": lambda p: written(tasks.WRITERS["ListOps (unwritten)"])(p).strip(),
    "parity": lambda p: "odd" if p.count("1") % 2 else "even",
    "palindrome": lambda p: "yes" if p.split(" ")[1:-2] == p.split(" ")[1:-2][::-1] else "no",
    "coin flip": lambda p: "no" if p.count("flips") % 2 else "yes",
    "coin flip, side by side": lambda p: "no" if p.count("flips") % 2 else "yes",
    "largest and smallest": lambda p: (max if "largest" in p else min)(digits(p)),
    "valid parentheses": lambda p: "yes" if not dissolved(p.split(" ")[4:-1]) else "no",
    "regular language": lambda p: (
        "yes" if re.fullmatch("(ab|ba)*", p[5:].split(" match")[0].replace(" ", "")) else "no"
    ),
}


def dissolved(brackets: list[str]) -> str:
    text = "".join(brackets)
    while "()" in text or "[]" in text:
        text = text.replace("()", "").replace("[]", "")
    return text


@pytest.mark.parametrize("name", TRUTHS)
def test_the_steps_lead_to_the_right_answer(name: str) -> None:
    task = TASKS[name]
    assert task.spec is not None and task.function is not None
    for held_out in (False, True):
        for prompt in fresh_prompts(task.spec, 6, held_out=held_out):
            answer = task.spec.read_answer(task.function(prompt.text))
            assert answer == str(TRUTHS[name](prompt.text)), prompt.text


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.long
def test_one_program_is_found_that_works_at_any_length(name: str) -> None:
    outcome = run_task(TASKS[name])
    assert outcome.refusal is None
    assert outcome.coverage == outcome.agreement == outcome.longer == 1.0
