"""Evaluation only: the secret table, drawn once by ``random.Random(7)``, and the fold over it."""

LETTERS = "abcdefghij"
ROWS = (
    "fcgabibfja",  # a
    "idabggbdbi",  # b
    "gajbdjajjg",  # c
    "adaicegcib",  # d
    "jeicbjjdfb",  # e
    "ibjajdhigf",  # f
    "hjhfedcdbj",  # g
    "eihfhejbbi",  # h
    "gcfchgabij",  # i
    "fffjhjhbbe",  # j
)
TABLE = {(x, y): ROWS[i][j] for i, x in enumerate(LETTERS) for j, y in enumerate(LETTERS)}


def answer(prompt: str) -> str:
    state, *symbols = prompt.rstrip(":").split()
    for symbol in symbols:
        state = TABLE[state, symbol]
    return state
