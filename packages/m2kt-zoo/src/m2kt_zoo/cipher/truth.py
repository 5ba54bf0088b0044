"""Evaluation only: Caesar's cipher with a key letter. ``h a n d by d:`` shifts each letter by three (a is zero)."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TABLE = {
    (key, letter): LETTERS[(index + LETTERS.index(key)) % 26] for key in LETTERS for index, letter in enumerate(LETTERS)
}


def answer(prompt: str) -> str:
    word, key = prompt.rstrip(":").split(" by ")
    return " ".join(TABLE[key, letter] for letter in word.split())
