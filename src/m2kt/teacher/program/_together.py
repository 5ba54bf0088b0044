"""States that go on from where one another looked: a loop over several steps, such as an item and then its number.

None of them can be explained alone, for where the other looked is not known. So each is guessed from the steps whose
beginning is known, followed through the others, and guessed again where it goes wrong; all hold, or none.
Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Decision, WriteCopy
from m2kt.teacher.program._filters import FILTER_ROWS, LEAST_BEGUN, next_past
from m2kt.teacher.program._looks import UNKNOWN, Looks
from m2kt.teacher.program._state import StateRows
from m2kt.teacher.program._traces import Ints

MAX_ROUNDS = 24  # steps of a loop that are followed
MAX_GUESSES = 8  # of one state


@dataclass
class Guess:
    """A state that waits, and what it may do."""

    index: NDArray[np.intp]
    decision: Decision | None = None
    n_guesses: int = 0
    known_N: NDArray[np.bool_] = field(init=False)
    """Steps before which the last look is known."""
    looked_N: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.known_N = np.zeros(len(self.index), dtype=bool)
        self.looked_N = np.full(len(self.index), UNKNOWN, dtype=np.int32)


class Together:
    """Explains states that wait for each other.

    Args:
        state_rows: the rows of some steps, with where the last step before each looked.
        explain: a light explanation of rows; None where there is none.
    """

    def __init__(
        self,
        looks: Looks,
        state_rows: Callable[[NDArray[np.intp], Ints | None], StateRows],
        explain: Callable[[StateRows], Decision | None],
        rng: np.random.Generator,
    ) -> None:
        self.looks, self.state_rows, self.explain, self.rng = looks, state_rows, explain, rng

    def explained(self, waiting: Sequence[NDArray[np.intp]], allowed: Callable[[int], int]) -> list[Guess] | None:
        """What each of the states does, with where the steps before looked; None where that cannot be said of all."""
        kept_N = self.looks.own_N.copy()
        guesses = [Guess(index) for index in waiting]
        try:
            for _ in range(MAX_ROUNDS):
                if not self._round(guesses):
                    break
            return guesses if all(self._holds(guess, allowed(len(guess.index))) for guess in guesses) else None
        finally:
            self.looks.own_N = kept_N

    def _round(self, guesses: list[Guess]) -> bool:
        """Guess, and follow by one step. False: nothing was learnt."""
        moved = False
        for guess in guesses:
            before_N = self.looks.before()[guess.index]
            new_N = (before_N != UNKNOWN) & ~guess.known_N
            if not new_N.any():
                continue
            guess.known_N |= new_N
            guess.looked_N = np.where(new_N, before_N, guess.looked_N)
            known = np.flatnonzero(guess.known_N)
            rows = self.state_rows(guess.index[known], guess.looked_N[known])
            if guess.decision is None or len(rows.wrong(guess.decision)):
                guess.decision = self._guess(guess, rows)
            if guess.decision is None:
                return False
            moved = True
            place_N = rows.looks(guess.decision)
            place_N[rows.wrong(guess.decision)] = UNKNOWN
            self.looks.own_N[guess.index[known]] = place_N
        return moved

    def _guess(self, guess: Guess, rows: StateRows) -> Decision | None:
        guess.n_guesses += 1
        if len(rows.rows) < LEAST_BEGUN or guess.n_guesses > MAX_GUESSES:
            return None
        found = self.explain(rows)
        if found is not None or len(rows.labels) > 1 or not rows.is_symbol_L[0]:
            return found
        some = self.rng.permutation(len(rows.rows))[:FILTER_ROWS]
        looked_N = rows.looked[None][0]
        pointer = next_past(rows.traces, rows.rows.take(some), looked_N[some]) if (looked_N >= 0).all() else None
        copy = None if pointer is None else WriteCopy(source=pointer, lead=" " if rows.labels[0][0] == " " else "")
        return copy if copy is not None and not len(rows.wrong(copy)) else None

    def _holds(self, guess: Guess, allowed: int) -> bool:
        """Whether a decision was found that accounts for all steps."""
        if guess.decision is None or not guess.known_N.all():
            return False
        return len(self.state_rows(guess.index, guess.looked_N).wrong(guess.decision)) <= allowed
