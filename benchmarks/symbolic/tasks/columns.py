"""Arithmetic by columns, with the steps that schools teach. Numbers of any length, a digit a slot."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, Family, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

D = {"d": DIGITS, "n": DIGITS[1:]}
ANSWER = r"The answer is (-?\d+)\."


def pair(sign: str) -> Callable[[int], str]:
    return lambda n: f"What is {repeat('{d}', n, '')} {sign} {repeat('{d}', n, '')}?"


def numbers(prompt: str) -> list[str]:
    """The numbers of a question."""
    return [word for word in prompt.rstrip("?.:").split(" ") if word.isdigit()]


def conclude(pen: Pen, digits: list[str]) -> None:
    """The number, without leading zeros."""
    while len(digits) > 1 and digits[0] == "0":
        digits = digits[1:]
    pen.t(" The answer is ")
    line(pen, digits, "")
    pen.t(".")


def add_columns(pen: Pen, a: str, b: str, *, brief: bool = False) -> list[str]:
    """From right to left; the carry is written. The digits of the sum. ``brief``: without "write 2 carry 1"."""
    carry = "0"
    digits: list[str] = []
    for x, y in zip_longest(a[::-1], b[::-1], fillvalue="0"):
        pen.t(" ")
        x = pen.s(x)
        pen.t(" + ")
        y = pen.s(y)
        pen.t(" + ")
        carry = pen.s(carry)
        pen.t(" = ")
        carry, digit = _two_digits(pen, int(x) + int(y) + int(carry))
        if not brief:
            pen.t(", write ")
            digit = pen.s(digit)
            pen.t(" carry ")
            carry = pen.s(carry)
        digits.insert(0, digit)
        pen.t(".")
    return [carry, *digits]


def _two_digits(pen: Pen, value: int) -> tuple[str, str]:
    """``7`` or ``12``, as it stands; as carry and digit."""
    standing = pen.s(str(value))
    return standing[:-1] or "0", standing[-1]


@FAMILY.task("addition", D, pair("+"), ANSWER)
def addition(prompt: str, pen: Pen) -> None:
    """Operands of equal digits (999 + 999) and carries through all columns occur in the evaluation."""
    a, b = numbers(prompt)
    conclude(pen, add_columns(pen, a, b))


@FAMILY.task("addition of several numbers", D, lambda n: f"What is {repeat('{d}{d}{d}', n, ' + ')}?", ANSWER,
             probed=(2, 3, 4), held_out=(16, 8))  # fmt: skip
def addition_of_several(prompt: str, pen: Pen) -> None:
    """One number after the other is added to the sum."""
    total, *others = numbers(prompt)
    for number in others:
        pen.t(" Add ")
        total = "".join(line(pen, total, ""))
        pen.t(" and ")
        number = "".join(line(pen, number, ""))
        pen.t(":")
        total = "".join(add_columns(pen, total, number, brief=True)).lstrip("0") or "0"
    conclude(pen, list(total))


@FAMILY.task(
    "addition without a written carry",
    D,
    lambda n: f"{repeat('{d}', n, '')}+{repeat('{d}', n, '')}=",
    r"(\d+)",
)
def addition_unwritten(prompt: str, pen: Pen) -> None:
    """The sum alone, least significant digit first. The carry follows from all columns before."""
    a, b = prompt.rstrip("=").split("+")
    carry = 0
    for x, y in zip(a[::-1], b[::-1], strict=True):
        carry, digit = divmod(int(x) + int(y) + carry, 10)
        pen.s(str(digit))
    pen.s(str(carry))


@FAMILY.task(
    "subtraction",
    D,
    lambda n: f"What is {{n}}{repeat('{d}', n, '')} - {repeat('{d}', n, '')}?",
    ANSWER,
)
def subtraction(prompt: str, pen: Pen) -> None:
    """The first number has one digit more, so that the difference is positive."""
    a, b = numbers(prompt)
    borrow = "0"
    digits: list[str] = []
    for x, y in zip_longest(a[::-1], b[::-1], fillvalue="0"):
        pen.t(" ")
        x = pen.s(x)
        pen.t(" - ")
        y = pen.s(y)
        pen.t(" - ")
        borrow = pen.s(borrow)
        value = int(x) - int(y) - int(borrow)
        if value < 0:
            pen.t(" is negative, borrow 1: write ")
        else:
            pen.t(", borrow 0: write ")
        borrow = "1" if value < 0 else "0"
        digits.insert(0, pen.s(str(value % 10)))
        pen.t(".")
    conclude(pen, digits)


def times_digit(pen: Pen, a: str, y: str) -> list[str]:
    """The digits of ``a`` times ``y``, from right to left with written carries."""
    carry = "0"
    digits: list[str] = []
    for x in a[::-1]:
        pen.t(" ")
        x = pen.s(x)
        pen.t(" * ")
        y = pen.s(y)
        pen.t(" + ")
        carry = pen.s(carry)
        pen.t(" = ")
        carry, digit = _two_digits(pen, int(x) * int(y) + int(carry))
        digits.insert(0, digit)
        pen.t(".")
    return [carry, *digits]


@FAMILY.task("multiplication by a digit", D, lambda n: f"What is {repeat('{d}', n, '')} * {{d}}?", ANSWER)
def multiplication_by_digit(prompt: str, pen: Pen) -> None:
    """School multiplication by one digit."""
    a, y = numbers(prompt)
    conclude(pen, times_digit(pen, a, y))


def factors(n: int) -> list[str]:
    """As long as each other, and one a digit shorter."""
    long, short = repeat("{d}", n, ""), repeat("{d}", n - 1, "")
    return [f"What is {a} * {b}?" for a, b in ((long, long), (long, short), (short, long)) if a and b]


@FAMILY.task("long multiplication", D, factors, ANSWER, probed=(1, 2), held_out=(8, 4))
def long_multiplication(prompt: str, pen: Pen) -> None:
    """A partial product for each digit, shifted and added to the sum."""
    a, b = numbers(prompt)
    total = ["0"]
    for shift, y in enumerate(b[::-1]):
        pen.t(" Multiply by ")
        y = pen.s(y)
        pen.t(":")
        partial = times_digit(pen, a, y)
        pen.t(" Partial product ")
        partial = line(pen, [*partial, *"0" * shift], "")
        pen.t(". Add:")
        total = add_columns(pen, "".join(total).lstrip("0"), "".join(partial).lstrip("0"), brief=True)
    conclude(pen, total)


@FAMILY.task("long division", D, lambda n: f"Divide {repeat('{d}', n, '')} by {{n}}.",
             r"The answer is (\d+) remainder \d\.")  # fmt: skip
def long_division(prompt: str, pen: Pen) -> None:
    """Bring down a digit, divide, keep the remainder."""
    a, divisor = numbers(prompt)
    remainder, digits = "0", []
    for x in a:
        pen.t(" Bring down ")
        x = pen.s(x)
        pen.t(": ")
        remainder = pen.s(remainder)
        x = pen.s(x)
        pen.t(" / ")
        divisor = pen.s(divisor)
        pen.t(" = ")
        quotient, rest = divmod(int(remainder + x), int(divisor))
        digits.append(pen.s(str(quotient)))
        pen.t(" remainder ")
        remainder = pen.s(str(rest))
        pen.t(".")
    while len(digits) > 1 and digits[0] == "0":
        digits = digits[1:]
    pen.t(" The answer is ")
    line(pen, digits, "")
    pen.t(" remainder ")
    pen.s(remainder)
    pen.t(".")


@FAMILY.task(
    "comparison of numbers",
    D,
    lambda n: f"Which is larger, {repeat('{d}', n, '')} or {repeat('{d}', n, '')}?",
    r"So (?:the )?(first|second|they are equal)",
)
def comparison(prompt: str, pen: Pen) -> None:
    """Digit by digit from the left until two differ. Equal numbers occur in the evaluation."""
    a, b = numbers(prompt.replace(",", ""))
    for x, y in zip(a, b, strict=True):
        pen.t(" ")
        x = pen.s(x)
        pen.t(" and ")
        y = pen.s(y)
        if x != y:
            pen.t(" differ: ")
            x = pen.s(x)
            pen.t(" is ")
            relation = pen.s("larger" if x > y else "smaller")
            pen.t(". So the ")
            pen.s("first" if relation == "larger" else "second")
            pen.t(" number is larger.")
            return
        pen.t(" are equal.")
    pen.t(" So they are equal.")


@FAMILY.task("halving", D, lambda n: f"Convert {{n}}{repeat('{d}', n - 1, '')} to binary.",
             r"The answer is ([01]+)\.", probed=(1, 2, 3), held_out=(12, 6))  # fmt: skip
def to_binary(prompt: str, pen: Pen) -> None:
    """Decimal to binary: the whole number is halved until nothing is left; remainders from last to first."""
    number = numbers(prompt)[0]
    bits: list[str] = []
    while number != "0":
        pen.t(" ")
        digits = line(pen, number, "")
        pen.t(" / 2 = ")
        remainder, half = "0", []
        for i, x in enumerate(digits):
            quotient, rest = divmod(int(remainder + x), 2)
            remainder = str(rest)
            if quotient or i or len(digits) == 1:
                half.append(pen.s(str(quotient)))
        pen.t(" remainder ")
        bits.insert(0, pen.s(remainder))
        pen.t(".")
        number = "".join(half)
    pen.t(" The answer is ")
    line(pen, bits, "")
    pen.t(".")
