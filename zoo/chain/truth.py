"""Evaluation only: the value of ``3+4-2+9:``, always with its sign and two digits: ``+14``, ``-03``."""

import re


def answer(prompt: str) -> str:
    return f"{sum(int(term) for term in re.findall(r'[+-]?[0-9]', prompt)):+03d}"
