"""The symbolic suite's teacher and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.symbolic import FunctionTeacher, Pen, Task, _door, fresh_prompts, load_file, run_task, shipped, written
from m2kt.errors import ExtractionError, SpecError
from m2kt.probes import ProbeSpec, Slot
from m2kt.teacher import Forced, Skill, compare_rollouts, program_of

ROOT = Path(__file__).parents[2]


# -- the teacher -----------------------------------------------------------------------------------------------------
def chain(prompt: str, pen: Pen) -> None:
    """Adds digits modulo 10: ``3 4 5:`` -> `` 3+4=7 7+5=2 > 2``."""
    value, *rest = prompt.rstrip(":").split(" ")
    for x in rest:
        pen.t(" ")
        value = pen.s(value)
        pen.t("+")
        x = pen.s(x)
        pen.t("=")
        value = pen.s(str((int(value) + int(x)) % 10))
    pen.t(" > ")
    pen.s(value)


SPEC = ProbeSpec(
    name="chain", slots={"d": Slot(values=list("0123456789"))}, templates=["{d} {d} {d}:"], stop="\n", answer="> (.)"
)  # fmt: skip


def changed(fields: dict[str, object]) -> ProbeSpec:
    return ProbeSpec.model_validate(SPEC.model_dump() | fields)


PROMPT = ("3", " 4", " 5", ":")
ANSWER = (" 3", "+", "4", "=", "7", " 7", "+", "5", "=", "2", " >", " 2", "\n")


by_steps = written(chain)


def by_function(prompt: str) -> str:
    values = [int(v) for v in prompt.rstrip(":").split(" ")]
    a, b = (values[0] + values[1]) % 10, sum(values) % 10
    return f" {values[0]}+{values[1]}={a} {a}+{values[2]}={b} > {b}"


def forced(index: int, text: str) -> Forced:
    units = (*PROMPT, *ANSWER)
    return Forced((*units[:index], text, *units[index + 1 :]), len(PROMPT), index)


@pytest.fixture
def teacher() -> FunctionTeacher:
    teacher = FunctionTeacher(SPEC, by_function, chain)
    teacher.answer(SPEC.sample("probing", 400, seed=0))
    return teacher


def test_a_forced_result_is_what_later_steps_go_on_with(teacher: FunctionTeacher) -> None:
    (intended,) = teacher.intended([forced(8, "9")])  # the first sum
    assert intended == [None] * 4 + ["7", " 9", "+", "5", "=", "2", " >", " 2", "\n"]


def test_a_replaced_prompt_changes_what_is_read_from_the_prompt_alone(teacher: FunctionTeacher) -> None:
    (intended,) = teacher.intended([forced(1, " 8")])
    assert intended == [" 3", "+", "8", "=", "7", " 7", "+", "5", "=", "2", " >", " 2", "\n"]


def test_replaced_structure_ends_what_is_known(teacher: FunctionTeacher) -> None:
    (intended,) = teacher.intended([forced(9, ";")])
    assert intended == [None] * 5 + [" 7"] + [None] * 7


def test_without_a_writer_an_answer_is_known_until_it_differs() -> None:
    teacher = FunctionTeacher(SPEC, by_function)
    (changed, unknown) = teacher.intended([forced(2, " 6"), forced(8, "9")])
    assert changed == [" 3", "+", "4", "=", "7", " 7", "+", "6", None, None, None, None, None]
    assert unknown == [None] * len(ANSWER)


def test_numbers_of_several_units_and_of_other_lengths() -> None:
    """``12`` is two symbols where slots are digits. What is asked and what stands may differ in length."""

    def double(prompt: str, pen: Pen) -> None:
        value = pen.s(str(2 * int(prompt[0])))
        pen.t(";")
        pen.s(value)

    spec = changed({"templates": ["{d}:"]})
    teacher = FunctionTeacher(spec, lambda prompt: f"{2 * int(prompt[0])};{2 * int(prompt[0])}", double)
    teacher.answer(spec.sample("probing", 10, seed=0) + spec.sample("evaluation", 10, seed=0))
    ask = [
        Forced(("8", ":", "1", "2", ";", "1", "2", "\n"), 2, 0),  # asked 16, 12 stands
        Forced(("6", ":", "7", "2", ";", "1", "2", "\n"), 2, 2),  # 72 is taken up
        Forced(("3", ":", "1", "2", ";", "1", "2", "\n"), 2, 0),  # asked 6
        Forced(("6", ":", "8", ";", "8", "\n"), 2, 0),  # asked 12, 8 stands
    ]
    assert teacher.intended(ask) == [
        ["1", "6", ";", "1", "2", "\n"],
        ["1", None, ";", "7", None, "\n"],
        ["6", None, ";", "1", "2", "\n"],
        ["1", ";", "8", "\n"],
    ]


def test_a_word_of_several_symbols_and_a_sentence_that_begins_alike() -> None:
    def initials(prompt: str, pen: Pen) -> None:
        words = prompt.rstrip(":").split(" ")
        pen.t(" There is one" if words[0] == words[1] else " The initials are ")
        for word in words:
            pen.s(word[0])

    spec = changed({"slots": {"w": {"values": ["ann", "ben", "cleo"]}}, "templates": ["{w} {w}:"], "answer": None})
    teacher = FunctionTeacher(spec, written(initials), initials)
    teacher.answer(spec.sample("probing", 9, seed=0) + spec.sample("evaluation", 9, seed=0))
    ask = [
        Forced(("cleo", " ben", ":", " The", " initials", " are", " ab", "\n"), 3, 0),
        Forced(("ann", " ben", ":", " The", " initials", " are", " xb", "\n"), 3, 6),
        Forced(("ann", " ann", ":", " The", " initials", " are", " ab", "\n"), 3, 1),
    ]
    assert teacher.intended(ask) == [
        [" The", " initials", " are", " cb", "\n"],
        [None, None, None, " ab", "\n"],
        [" There", None, None, None, None],
    ]


@pytest.mark.parametrize(
    "function, writer, message",
    [
        (lambda _: 1 / 0, None, "ZeroDivisionError"),
        (lambda _: "a\nb", None, "stop string"),
        (lambda _: None, None, "got None"),
        (by_function, lambda _, pen: pen.t(" 1"), "disagree"),
    ],
)
def test_a_teacher_that_is_none_is_refused(function: object, writer: object, message: str) -> None:
    teacher = FunctionTeacher(SPEC, function, writer)  # type: ignore[arg-type]
    with pytest.raises(ExtractionError, match=message):
        teacher.answer(SPEC.sample("probing", 3, seed=0))


# -- the command -----------------------------------------------------------------------------------------------------
FILE = """
def copy(prompt):
    return prompt[:-1]
def wrong(prompt):
    print("noise")
    raise KeyError("no such thing")
def written(prompt, pen):
    pen.s(prompt[:-1])
SLOTS = {"d": ["0", "1", "2"]}
FORMATS = {
    "copy one": (SLOTS, ["{d}:"], ["{d}{d}:"], None, copy),
    "raises": (SLOTS, ["{d}:"], [], "(.)", wrong),
    "no tuple": 3,
    "bad slot": (SLOTS, ["{e}:"], [], None, copy),
}
WRITERS = {"copy one": written}
"""


def door(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.symbolic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_entry_of_a_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(FILE)
    for jobs in ("1", "2"):
        result = door(str(file), "--json", "--jobs", jobs)
        assert result.returncode == 0, result.stderr
        outcomes = json.loads(result.stdout)
        assert [o["name"] for o in outcomes] == ["copy one", "raises", "no tuple", "bad slot"]
        keys = ["name", "coverage", "agreement", "longer", "states", "rules", "seconds", "refusal"]
        assert all(list(o) == keys for o in outcomes)
        assert "KeyError" in outcomes[1]["refusal"] and "expected (slots" in outcomes[2]["refusal"]
        assert "'e' is not defined" in outcomes[3]["refusal"]
    table = door(str(file), "--only", "RAISES").stdout
    assert "KeyError" in table and "copy one" not in table


def test_a_worker_that_dies_takes_no_other_task_with_it(tmp_path: Path) -> None:
    file = tmp_path / "tasks.py"
    file.write_text(FILE.replace('print("noise")', "import os; os._exit(1)"))
    outcomes = json.loads(door(str(file), "--json", "--jobs", "2").stdout)
    assert [o["refusal"] == "its process died" for o in outcomes] == [False, True, False, False]


def test_coverage_agreement_and_longer_are_shares_of_fresh_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that lacks all rows with a 9, and is wrong about those that begin with a 1."""
    spec = changed({"templates": ["{d} {d}:", "{d} {d} {d}:"], "held_out": ["{d} {d} {d} {d} {d}:"]})
    learnt: list[Skill] = []

    def spoiled(*arguments: object) -> Skill:
        skill = program_of(*arguments)  # type: ignore[arg-type]
        (rule,) = skill.program.rules
        nine, one = (skill.program.symbols.index(s) for s in "91")
        for row, k in zip(rule.rows, rule.concepts, strict=True):
            skill.outputs[k] = nine if row[0] == one else skill.outputs[k]
        rule.rows = [(-1 - i, -1) if nine in row else row for i, row in enumerate(rule.rows)]
        learnt.append(skill)
        return skill

    task = Task("chain", spec, by_steps, chain)
    outcome = run_task(task)
    assert (outcome.coverage, outcome.agreement, outcome.longer, outcome.refusal) == (1.0, 1.0, 1.0, None)
    monkeypatch.setattr(_door, "program_of", spoiled)
    outcome = run_task(task)
    prompts = fresh_prompts(spec, 0, held_out=False)
    found = compare_rollouts(FunctionTeacher(spec, by_steps), learnt[0].program, learnt[0].outputs, prompts)
    assert outcome.coverage == pytest.approx(found.coverage, abs=1e-4) and 0.3 < found.coverage < 0.9
    assert outcome.agreement == pytest.approx(found.agreement, abs=1e-4) and 0.3 < found.agreement < 1
    assert outcome.longer is not None and outcome.longer < outcome.coverage
    assert (outcome.states, outcome.rules) == (len(learnt[0].program.states), 1)
    assert outcome.refusal is not None and "r0 has no row for" in outcome.refusal


def test_evaluation_has_prompts_of_equal_operands_and_of_tiny_templates() -> None:
    task = next(task for task in shipped() if task.name == "addition")
    assert task.spec is not None
    texts = {p.text for p in fresh_prompts(task.spec, 0, held_out=True)}
    assert {f"What is {d * 24} + {d * 24}?" for d in "0123456789"} <= texts
    tiny = changed({"slots": {"d": {"values": ["0"]}}, "templates": ["{d}:"]})
    assert len(fresh_prompts(tiny, 0, held_out=False)) == 1


def test_a_file_that_cannot_be_used_is_an_error_of_one_line(tmp_path: Path) -> None:
    for text, message in (
        ("x = (", "SyntaxError"),
        ("import no_such", "no_such"),
        ("", "FORMATS"),
        ("FORMATS = 1", "FORMATS"),
        (FILE + "WRITERS['other'] = written", "other"),
        ("raise SystemExit(0)", "SystemExit"),
    ):
        file = tmp_path / "bad.py"
        file.write_text(text)
        with pytest.raises(SpecError, match=message):
            load_file(file)
    result = door(str(tmp_path / "none.py"), "--json")
    assert result.returncode == 3 and result.stdout == "" and result.stderr.startswith("error: no file")


def test_a_task_of_any_name_and_values_becomes_a_spec() -> None:
    from benchmarks.symbolic._door import read_entry

    entry: object = ({"x": ["does not flip", "->"]}, ["{x}?"], [], None, str)
    task = read_entry("Übung: größer?", entry)
    assert isinstance(task, Task) and task.problem is None
