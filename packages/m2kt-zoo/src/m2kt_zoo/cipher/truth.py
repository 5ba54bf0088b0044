"""Evaluation only: Caesar's cipher with a key letter. ``h a n d by d:`` moves each letter on by three (a is zero)."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TABLE = {
    (key, letter): LETTERS[(place + LETTERS.index(key)) % 26]
    for key in LETTERS
    for place, letter in enumerate(LETTERS)
}


def answer(prompt: str) -> str:
    word, key = prompt.rstrip(":").split(" by ")
    return " ".join(TABLE[key, letter] for letter in word.split())
