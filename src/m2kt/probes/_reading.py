"""How an answer is read from a completion: by a regular expression, or by one of a few forms that people write.

last number     the last number of the text, without thousands separators: 1,234.5 is 1234.5
last line       the last line that is not blank, without outer spaces
boxed           what the last \\boxed{...} holds
json a.b[0]     a value in the last JSON object or list that has it; texts, numbers, true, false, null as written
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from m2kt.probes._answer import TEXT, compile_answer

FORMS = "last number, last line, boxed, json PATH"
Read = Callable[[str], str | None]

_NUMBER = re.compile(r"(?<![\w.])[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?!\w)")
_KEY, _INDEX = r"[^\s.\[\]()]+", r"\[-?[0-9]{1,6}\]"
_PATH = re.compile(rf"json(?: ((?:{_KEY}|{_INDEX})(?:\.{_KEY}|{_INDEX})*))?")
_STEP = re.compile(r"\[(-?\d+)\]|([^\s.\[\]]+)")
_MAX_PATH = 256


def answer_reader(answer: str | None) -> Read:
    """A function from a completion, without its end, to the answer in it; None where there is none.

    Args:
        answer: a form, a regular expression whose first group is the answer, or None for the whole text.

    Raises:
        ValueError: neither a form nor an allowed expression.
    """
    if answer is None:
        return lambda text: text.strip() or None
    if (form := {"last number": _last_number, "last line": _last_line, "boxed": _boxed}.get(answer)) is not None:
        return lambda text: form(text[:TEXT])
    if len(answer) <= _MAX_PATH and (path := _PATH.fullmatch(answer)):
        steps = [int(index) if index else key for index, key in _STEP.findall(path.group(1) or "")]
        return lambda text: _in_json(text[:TEXT], steps)
    if "(" not in answer:
        raise ValueError(
            f"expected {FORMS}, or a regular expression with a group; write one of these, such as 'last number', "
            "'json result', or '> (.+)\\\\.'"
        )
    pattern = compile_answer(answer)

    def read(text: str) -> str | None:
        match = pattern.search(text, 0, TEXT)
        return match.group(1) if match else None

    return read


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "").removeprefix("+") if numbers else None


def _last_line(text: str) -> str | None:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def _boxed(text: str) -> str | None:
    """Braces within it are its own."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    begin = start + len("\\boxed{")
    depth = 1
    for at in range(begin, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[begin:at].strip() or None
    return None


def _in_json(text: str, steps: list[int | str]) -> str | None:
    decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
    found, at = None, 0
    while (begin := _next_bracket(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            at = begin + 1
            continue
        found = _value(value, steps) or found
    return found


def _next_bracket(text: str, at: int) -> int | None:
    return min((i for i in (text.find("{", at), text.find("[", at)) if i >= 0), default=None)


def _value(value: object, steps: list[int | str]) -> str | None:
    """What stands at a path, as JSON writes it but texts without quotes; None: nothing, or no single value."""
    for step in steps:
        if isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
            continue
        if not (isinstance(value, dict) and isinstance(step, str) and step in value):
            return None
        value = value[step]
    if isinstance(value, str):
        return value or None
    return json.dumps(value) if value is None or isinstance(value, bool) else None
