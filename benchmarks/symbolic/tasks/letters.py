"""Words and letters: last letter concatenation, Caesar cipher, reversal, palindromes, run-length encoding."""

from __future__ import annotations

from itertools import groupby
from string import ascii_lowercase

from benchmarks.symbolic._pens import Pen
from benchmarks.symbolic.tasks._family import Family, each, group, groups, line, repeat

FAMILY = Family()
FORMATS, WRITERS = FAMILY.formats, FAMILY.writers

FIRST = [
    "Elon", "Larry", "Sergey", "Bill", "Amy", "Ian", "Jack", "Nora", "Otto", "Greta", "Ines", "Ruth", "Caleb", "Yusuf",
    "Alex", "Liz",
]  # fmt: skip
WORDS = ["cat", "horse", "lamp", "window", "sky", "tree", "iron", "bed", "echo", "radio", "comb", "loud"]
LETTERS = list("abcdefghij")


def names_of(n: int) -> str:
    return f'Q: Take the last letters of each word in "{repeat("{name}", n)}" and concatenate them.\nA:'


def _quoted(prompt: str) -> list[str]:
    return group(r'"(.*)"', prompt).split(" ")


def _joined(pen: Pen, letters: list[str]) -> None:
    pen.t(" Concatenating them is ")
    pen.t('"')
    letters = line(pen, letters, "")
    pen.t('". The answer is ')
    line(pen, letters, "")
    pen.t(".")


@FAMILY.task("last letter concatenation", {"name": FIRST}, names_of, r"The answer is (\w+)\.")
def last_letters(prompt: str, pen: Pen) -> None:
    """As in the chain-of-thought paper: the letter is taken out of the word as a whole."""
    letters = []
    for name in _quoted(prompt):
        pen.t(' The last letter of "')
        name = pen.s(name)
        pen.t('" is "')
        letters.append(pen.s(name[-1]))
        pen.t('".')
    _joined(pen, letters)


@FAMILY.task("last letter concatenation (spelled)", {"name": FIRST}, names_of, r"The answer is ([\w ]+)\.")
def last_letters_spelled(prompt: str, pen: Pen) -> None:
    """Each word is spelled first; letters stand apart."""
    letters = []
    for name in _quoted(prompt):
        pen.t(" ")
        name = pen.s(name)
        pen.t(" is spelled ")
        spelled = line(pen, name.lower())
        pen.t(", which ends with ")
        letters.append(pen.s(spelled[-1]))
        pen.t(".")
    pen.t(" The answer is ")
    line(pen, letters)
    pen.t(".")


@FAMILY.task("last letter concatenation (unwritten)", {"name": FIRST}, names_of, r"The answer is (\w+)\.")
def last_letters_unwritten(prompt: str, pen: Pen) -> None:
    """The answer alone."""
    pen.t(" The answer is ")
    line(pen, [name[-1] for name in _quoted(prompt)], "")
    pen.t(".")


@FAMILY.task(
    "last letters of letter strings",
    {"l": LETTERS},
    lambda n: (
        f'Q: Take the last letters of each word in "{each(n, lambda i: "{l}" * (2 + i % 3))}" and concatenate them.\nA:'
    ),
    r"The answer is (\w+)\.",
    held_out=(24, 12),
)
def last_letters_of_strings(prompt: str, pen: Pen) -> None:
    """Words of two to four random letters, each letter a slot."""
    letters = []
    for word in _quoted(prompt):
        pen.t(' The last letter of "')
        word = "".join(line(pen, word, ""))
        pen.t('" is "')
        letters.append(pen.s(word[-1]))
        pen.t('".')
    _joined(pen, letters)


@FAMILY.task(
    "Caesar cipher",
    {"l": list(ascii_lowercase), "k": [str(i) for i in range(1, 6)]},
    lambda n: f"Shift every letter of {repeat('{l}', n, '')} by {{k}}:",
    r"The answer is (\w+)\.",
)
def caesar(prompt: str, pen: Pen) -> None:
    """Letter by letter."""
    word, shift = groups(r"of (\w+) by (\d):", prompt)
    letters = []
    for letter in word:
        pen.t(" ")
        letter = pen.s(letter)
        pen.t(" + ")
        shift = pen.s(shift)
        pen.t(" = ")
        letters.append(pen.s(ascii_lowercase[(ascii_lowercase.index(letter) + int(shift)) % 26]))
        pen.t(";")
    pen.t(" The answer is ")
    line(pen, letters, "")
    pen.t(".")


@FAMILY.task(
    "Caesar cipher (unwritten)", {"l": list(ascii_lowercase)}, lambda n: f"ROT13: {repeat('{l}', n, '')} =", r"(\w+)"
)
def rot13(prompt: str, pen: Pen) -> None:
    """The shifted letters alone."""
    pen.t(" ")
    line(pen, [ascii_lowercase[(ascii_lowercase.index(letter) + 13) % 26] for letter in prompt[7:-2]], "")


@FAMILY.task("reversal", {"w": WORDS}, lambda n: f"Reverse the list: {repeat('{w}', n, ', ')}.", r"Reversed: (.+)\.")
def reversal(prompt: str, pen: Pen) -> None:
    """From the last word to the first."""
    pen.t(" Reversed: ")
    line(pen, reversed(prompt.split(": ")[1].rstrip(".").split(", ")), ", ")
    pen.t(".")


@FAMILY.task("reversal of a string", {"l": LETTERS}, lambda n: f"{repeat('{l}', n, '')} backwards is", r"(\w+)")
def reversed_string(prompt: str, pen: Pen) -> None:
    """Letters without spaces."""
    pen.t(" ")
    line(pen, reversed(prompt.split(" ")[0]), "")


@FAMILY.task("palindrome", {"l": ["a", "b"]}, lambda n: f"Is {repeat('{l}', n)} a palindrome?", r"So (yes|no)\.")
def palindrome(prompt: str, pen: Pen) -> None:
    """From outside in until two letters differ. All letters alike is a palindrome: the evaluation has it."""
    letters = prompt[3:].split(" a palindrome")[0].split(" ")
    for i in range(len(letters) // 2):
        pen.t(" ")
        a = pen.s(letters[i])
        pen.t(" and ")
        b = pen.s(letters[-1 - i])
        if a != b:
            pen.t(" differ. So no.")
            return
        pen.t(" match.")
    pen.t(" So yes.")


@FAMILY.task("run-length encoding", {"l": ["a", "b", "c"]}, lambda n: f"Encode {repeat('{l}', n)}:", r"> (.+)\.")
def run_length(prompt: str, pen: Pen) -> None:
    """Each letter is counted up within its run. A run as long as the string is in the evaluation."""
    pen.t(" ")
    runs = []
    for i, (_, run) in enumerate(groupby(prompt[7:-1].split(" "))):
        pen.t("; " if i else "")
        count = "0"
        for j, letter in enumerate(run):
            pen.t(", " if j else "")
            letter = pen.s(letter)
            pen.t(" ")
            count = pen.s(str(int(count) + 1))
        runs.append((letter, count))
    pen.t(" >")
    for letter, count in runs:
        pen.t(" ")
        pen.s(letter)
        pen.t(" ")
        pen.s(count)
    pen.t(".")
