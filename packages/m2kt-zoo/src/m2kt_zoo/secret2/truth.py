"""Evaluation only: the secret table, drawn once by ``random.Random(11)``, and the fold over it."""

LETTERS = "abcdefghij"
ROWS = (
    "hihhijdcih",  # a
    "jcbhecbiaj",  # b
    "ghjcjaibaa",  # c
    "ddjahfhjdi",  # d
    "dehabhegib",  # e
    "efdieabjbg",  # f
    "begbaaddah",  # g
    "gggbjdefbe",  # h
    "fagbcdbaah",  # i
    "hcidhidcgg",  # j
)
TABLE = {(x, y): ROWS[i][j] for i, x in enumerate(LETTERS) for j, y in enumerate(LETTERS)}


def answer(prompt: str) -> str:
    state, *symbols = prompt.rstrip(":").split()
    for symbol in symbols:
        state = TABLE[state, symbol]
    return state
