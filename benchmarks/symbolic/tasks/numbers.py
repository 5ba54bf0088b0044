"""Runs over digits and numbers: sums, extremes, parity, counts, bases, divisors, word problems."""

from __future__ import annotations

import math
import re

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import DIGITS, NAMES, Family, group, groups, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

BITS = {"b": ["0", "1"]}
HEXADECIMAL = list("0123456789abcdef")


def _after_colon(prompt: str) -> list[str]:
    return prompt.split(": ")[1].rstrip(".?").split(" ")


@FAMILY.task("running sum modulo 10", {"d": DIGITS}, lambda n: f"Running sums modulo 10: {repeat('{d}', n)}.", r"(\d)$")
def running_sum(prompt: str, pen: Pen) -> None:
    """The sums alone."""
    total = "0"
    for digit in _after_colon(prompt):
        pen.t(" ")
        total = pen.s(str((int(total) + int(digit)) % 10))


@FAMILY.task("largest and smallest", {"d": DIGITS, "which": ["largest", "smallest"]},
             lambda n: f"What is the {{which}} of these: {repeat('{d}', n)}?", r"So the answer is (\d)\.")  # fmt: skip
def extremes(prompt: str, pen: Pen) -> None:
    """The best so far after each number."""
    choose = max if "largest" in prompt else min
    best, *others = _after_colon(prompt)
    pen.t(" ")
    best = pen.s(best)
    pen.t(" so far.")
    for digit in others:
        pen.t(" ")
        digit = pen.s(digit)
        pen.t(": ")
        best = pen.s(choose(best, digit))
        pen.t(" so far.")
    pen.t(" So the answer is ")
    pen.s(best)
    pen.t(".")


@FAMILY.task("parity", BITS, lambda n: f"Is the number of ones even or odd: {repeat('{b}', n)}?", r"So (even|odd)\.")
def parity(prompt: str, pen: Pen) -> None:
    """The parity after each bit."""
    value = "even"
    for bit in _after_colon(prompt):
        pen.t(" ")
        bit = pen.s(bit)
        pen.t(": ")
        value = pen.s(value if bit == "0" else "odd" if value == "even" else "even")
        pen.t(".")
    pen.t(" So ")
    pen.s(value)
    pen.t(".")


@FAMILY.task("parity (unwritten)", BITS, lambda n: f"Parity of {repeat('{b}', n, '')}:", r"(even|odd)")
def parity_unwritten(prompt: str, pen: Pen) -> None:
    """One word, which depends on every bit."""
    pen.t(" ")
    pen.s("odd" if prompt.count("1") % 2 else "even")


@FAMILY.task("binary to decimal", BITS, lambda n: f"Convert the binary number {repeat('{b}', n, '')} to decimal.",
             r"The answer is (\d+)\.", probed=(2, 3, 4), held_out=(16, 8))  # fmt: skip
def binary_to_decimal(prompt: str, pen: Pen) -> None:
    """Twice the number so far, plus the next bit. Long inputs lead to numbers that short ones never reach."""
    first, *others = re.findall(r"[01]", prompt)
    pen.t(" Start with ")
    number = pen.s(first)
    pen.t(".")
    for bit in others:
        pen.t(" 2 * ")
        number = pen.s(number)
        pen.t(" + ")
        bit = pen.s(bit)
        pen.t(" = ")
        number = pen.s(str(2 * int(number) + int(bit)))
        pen.t(".")
    pen.t(" The answer is ")
    pen.s(number)
    pen.t(".")


@FAMILY.task("hexadecimal to binary", {"h": HEXADECIMAL}, lambda n: f"Convert 0x{repeat('{h}', n, '')} to binary:",
             r"0b([01]+)")  # fmt: skip
def hexadecimal_to_binary(prompt: str, pen: Pen) -> None:
    """Four bits for each digit."""
    pen.t(" 0b")
    for digit in group(r"0x(\w+)", prompt):
        line(pen, f"{int(digit, 16):04b}", "")


@FAMILY.task("binary to hexadecimal", BITS, lambda n: f"Convert 0b{repeat('{b}{b}{b}{b}', n, '')} to hexadecimal:",
             r"0x(\w+)\.", probed=(1, 2, 3), held_out=(12, 6))  # fmt: skip
def binary_to_hexadecimal(prompt: str, pen: Pen) -> None:
    """Each group of four bits, then the digits together."""
    bits, digits = group(r"0b([01]+)", prompt), []
    for i in range(0, len(bits), 4):
        pen.t(" ")
        four = "".join(line(pen, bits[i : i + 4], ""))
        pen.t(" = ")
        digits.append(pen.s(f"{int(four, 2):x}"))
        pen.t(";")
    pen.t(" 0x")
    line(pen, digits, "")
    pen.t(".")


@FAMILY.task("counting", {"l": list("abc")}, lambda n: f"How many times does {{l}} occur: {repeat('{l}', n)}?",
             r"So (\d+)\.")  # fmt: skip
def counting(prompt: str, pen: Pen) -> None:
    """The count after each letter."""
    asked = group(r"does (\w) occur", prompt)
    count = "0"
    for letter in _after_colon(prompt):
        pen.t(" ")
        letter = pen.s(letter)
        pen.t(": ")
        count = pen.s(str(int(count) + (letter == asked)))
        pen.t(".")
    pen.t(" So ")
    pen.s(count)
    pen.t(".")


@FAMILY.task("majority", {"v": ["yes", "no", "maybe"]}, lambda n: f"Votes: {repeat('{v}', n)}.", r"So (\w+)\.")
def majority(prompt: str, pen: Pen) -> None:
    """The majority vote of Boyer and Moore: a candidate and a count. All votes alike are in the evaluation."""
    candidate, count = "nobody", "0"
    for vote in _after_colon(prompt):
        pen.t(" ")
        vote = pen.s(vote)
        if count == "0":
            new, change = vote, 1
        else:
            new, change = candidate, 1 if vote == candidate else -1
        pen.t(": ")
        candidate = pen.s(new)
        pen.t(" ")
        count = pen.s(str(int(count) + change))
        pen.t(";")
    pen.t(" So ")
    pen.s(candidate)
    pen.t(".")


@FAMILY.task("greatest common divisor", {"n": [str(i) for i in range(1, 31)]},
             lambda n: f"What is the greatest common divisor of {repeat('{n}', n, ', ')}?", r"So the answer is (\d+)\.",
             probed=(2, 3, 4), held_out=(16, 8))  # fmt: skip
def greatest_common_divisor(prompt: str, pen: Pen) -> None:
    """Euclid, number after number. Equal numbers are in the evaluation."""
    divisor, *others = re.findall(r"\d+", prompt)
    for number in others:
        a, b = number, divisor
        while b != "0":
            pen.t(" ")
            a = pen.s(a)
            pen.t(" mod ")
            b = pen.s(b)
            pen.t(" = ")
            a, b = b, pen.s(str(int(a) % int(b)))
            pen.t(".")
        pen.t(" The divisor is ")
        divisor = pen.s(a)
        pen.t(".")
    pen.t(" So the answer is ")
    pen.s(divisor)
    pen.t(".")


@FAMILY.task("least common multiple of pairs", {"n": [str(i) for i in range(1, 13)]},
             lambda n: f"Least common multiples: {repeat('{n} and {n}', n, ', ')}.", r"> (.+)\.")  # fmt: skip
def common_multiples(prompt: str, pen: Pen) -> None:
    """A known table for each pair, without steps."""
    pen.t(" > ")
    pairs = re.findall(r"(\d+) and (\d+)", prompt)
    line(pen, [str(math.lcm(int(a), int(b))) for a, b in pairs], ", ")
    pen.t(".")


@FAMILY.task("word problem (apples)", {"name": NAMES[:8], "n": [str(i) for i in range(1, 6)], "does": ["buys", "eats"]},
             lambda n: f"Q: {{name}} has {{n}} apples. {repeat('Then the child {does} {n} apples.', n)} "
             "How many apples are there now?\nA:", r"The answer is (-?\d+)\.")  # fmt: skip
def apples(prompt: str, pen: Pen) -> None:
    """A grade-school story: more is bought than eaten or less, so that the number leaves the probed range."""
    name, number = groups(r"Q: (\w+) has (\d+)", prompt)
    pen.t(" ")
    pen.s(name)
    pen.t(" started with ")
    number = pen.s(number)
    pen.t(" apples.")
    for does, n in re.findall(r"child (buys|eats) (\d+)", prompt):
        pen.t(" ")
        number = pen.s(number)
        pen.t(" + " if does == "buys" else " - ")
        n = pen.s(n)
        pen.t(" = ")
        number = pen.s(str(int(number) + int(n) * (1 if does == "buys" else -1)))
        pen.t(".")
    pen.t(" The answer is ")
    pen.s(number)
    pen.t(".")
