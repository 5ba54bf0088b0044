"""Evaluation only: the convention that composes family relations, and its reduction along a chain.

``COMPOSE[a, b]`` is the word for "a of my b". "Great-" and "grand-" beyond the words below are dropped (a
great-uncle is an uncle, the son of a cousin a cousin); in-laws count as blood relatives (the uncle of my son is my
brother); every other relation is a "relative", and so are all of its relations.
"""

SLOTS = ("father", "mother", "brother", "sister", "son", "daughter", "uncle", "aunt")
DERIVED = (
    "grandfather", "grandmother", "nephew", "niece", "cousin", "grandson", "granddaughter", "relative",
)  # fmt: skip
RELATIONS = SLOTS + DERIVED

# For each relation b: the male (parent, sibling, child, parent's sibling) of b. The female word follows from it.
MALE_OF = {
    "father": ("grandfather", "uncle", "brother", "uncle"),
    "mother": ("grandfather", "uncle", "brother", "uncle"),
    "brother": ("father", "brother", "nephew", "uncle"),
    "sister": ("father", "brother", "nephew", "uncle"),
    "son": ("relative", "son", "grandson", "brother"),
    "daughter": ("relative", "son", "grandson", "brother"),
    "uncle": ("grandfather", "uncle", "cousin", "uncle"),
    "aunt": ("grandfather", "uncle", "cousin", "uncle"),
    "grandfather": ("grandfather", "uncle", "uncle", "relative"),
    "grandmother": ("grandfather", "uncle", "uncle", "relative"),
    "nephew": ("brother", "nephew", "nephew", "brother"),
    "niece": ("brother", "nephew", "nephew", "brother"),
    "cousin": ("uncle", "cousin", "cousin", "uncle"),
    "grandson": ("son", "grandson", "grandson", "son"),
    "granddaughter": ("son", "grandson", "grandson", "son"),
    "relative": ("relative", "relative", "relative", "relative"),
}
FEMALE = {
    "father": "mother", "brother": "sister", "son": "daughter", "uncle": "aunt", "grandfather": "grandmother",
    "nephew": "niece", "grandson": "granddaughter", "cousin": "cousin", "relative": "relative",
}  # fmt: skip
COMPOSE = {
    (word, b): male_words[i // 2] if i % 2 == 0 else FEMALE[male_words[i // 2]]
    for b, male_words in MALE_OF.items()
    for i, word in enumerate(SLOTS)
}


def answer(prompt: str) -> str:
    """Reduce ``son of brother of mother:`` from the right: uncle, then cousin."""
    *rest, state = prompt.rstrip(":").split(" of ")
    for word in reversed(rest):
        state = COMPOSE[word, state]
    return state
