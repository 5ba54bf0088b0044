"""Token features of the executed reader: the state of every row, kept in the generation cache.

A row's state is a function of its tokens. The cache stores a hash of them behind each token, so beams, selections and
crops carry the states along; a state that is not at hand is found again by reading the row's tokens once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from torch import Tensor

from m2kt._shapes import Bool, Int
from m2kt.student.cal._follow import NOTHING, Following, Plan, Skill
from m2kt.student.cal._matcher import Row, token_rows
from m2kt.student.cal._memo import Memo
from m2kt.student.cal._phrase import Asked

_KEPT_STATES = 2048
_START = 0


class FollowFeature(IntEnum):
    """Columns of ``Follower.features``; the first is that of ``TokenFeature``."""

    TOKEN = 0  # id; negative: padding
    HASH = 1  # of all tokens so far
    BOUNDARY = 2  # whether a pass of several tokens ends here
    CONTENT = 3  # row of [concepts; symbols; literals] to inject, or -1
    SLOT = 4  # head of phi
    PHRASE = 5  # how a sentence that ends here is read: a column, ``NOTHING``, or ``PENDING``


_TOKEN, _HASH, _BOUNDARY = map(int, (FollowFeature.TOKEN, FollowFeature.HASH, FollowFeature.BOUNDARY))
_CONTENT, _PHRASE = int(FollowFeature.CONTENT), int(FollowFeature.PHRASE)
PENDING = -2
"""Of a sentence that may be a question in other words: the student's states are not asked yet."""
_NO_PLAN = Plan()


class Follower:
    """Reads rows of tokens with a skill's program."""

    def __init__(self, skill: Skill) -> None:
        self.skill = skill
        self._states: Memo[int, Following] = Memo(_KEPT_STATES)
        self._asked: Memo[int, Asked] = Memo(_KEPT_STATES)
        self._columns: Memo[int, int] = Memo(_KEPT_STATES)

    def clear(self) -> None:
        """Forget all states: what they depend on has changed."""
        self._states.clear()
        self._asked.clear()
        self._columns.clear()

    def at(self, row: list[Row]) -> Following:
        """The point of a text behind its last token.

        Args:
            row: features of all its tokens.
        """
        return self._replay(row)

    def asked(self, key: int) -> Asked:
        """What a sentence that is pending may ask, by its hash."""
        asked = self._asked.get(key)
        assert asked is not None, "it was read in this pass"
        return asked

    def decide(self, key: int, column: int) -> None:
        """How a pending sentence is read; ``NOTHING``: it is no question of the skill."""
        self._columns.put(key, column)

    def features(
        self,
        token_BT: Int[Tensor, "B T"],
        past_BNX: Int[Tensor, "B N X"] | None = None,
        real_BT: Bool[Tensor, "B T"] | None = None,
    ) -> list[list[Row]]:
        """The features of each token, by row.

        Args:
            token_BT: ids; negative ones are padding.
            past_BNX: features of all earlier tokens.
            real_BT: which tokens are no padding, if ids do not tell.
        """
        rows = token_rows(token_BT, real_BT)
        hashes = [_START] * len(rows) if past_BNX is None else past_BNX[:, -1, _HASH].tolist()
        bounded = len(rows[0]) > 1 or past_BNX is None if rows else False
        features = []
        for b, (row, key) in enumerate(zip(rows, hashes, strict=True)):
            state = self._states.get(key)
            if state is None:
                state = self._replay([] if past_BNX is None else past_BNX[b].tolist())
            features.append(self._row(row, key, state, bounded))
        return features

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether anything is to be injected."""
        return any(feature[_CONTENT] != NOTHING or feature[_PHRASE] == PENDING for row in features for feature in row)

    def _row(self, row: list[int], key: int, state: Following, bounded: bool) -> list[Row]:
        last = max((t for t, token in enumerate(row) if token >= 0), default=-1) if bounded else -1
        features: list[Row] = []
        for t, token in enumerate(row):
            plan, boundary, column = _NO_PLAN, t == last, NOTHING
            if token >= 0:
                key, state, column = self._advance(key, state, token, boundary)
                plan = state.plan
            features.append((token, key, boundary, *plan, column))
        return features

    def _advance(
        self, key: int, state: Following, token: int, boundary: bool, column: int = PENDING
    ) -> tuple[int, Following, int]:
        """The state behind one more token, its hash, and how a sentence that ends there is read."""
        key = hash((key, token, boundary))
        following = self._states.get(key)
        if following is None:
            following = self._states.put(key, state.advance(token, boundary))
        if following.asked is None:
            return key, following, NOTHING
        known = self._columns.get(key, column) if column == PENDING else column
        if known < 0:
            self._asked.put(key, following.asked)
            return key, following, known
        key = hash((key, known))
        read = self._states.get(key)
        return key, read or self._states.put(key, state.advance(token, boundary, known)), known

    def _replay(self, past: Sequence[Row]) -> Following:
        key, state = _START, Following.start(self.skill)
        for feature in past:
            if feature[_TOKEN] >= 0:
                column = max(feature[_PHRASE], NOTHING)
                key, state, _ = self._advance(key, state, feature[_TOKEN], bool(feature[_BOUNDARY]), column)
        return state
