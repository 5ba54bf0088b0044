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

_KEPT_STATES = 2048
_START = 0


class FollowFeature(IntEnum):
    """Columns of ``Follower.features``; the first is that of ``TokenFeature``."""

    TOKEN = 0  # id; negative: padding
    HASH = 1  # of all tokens so far
    BOUNDARY = 2  # whether a pass of several tokens ends here
    CONTENT = 3  # row of [concepts; symbols; literals] to inject, or -1
    SLOT = 4  # head of phi


_TOKEN, _HASH, _BOUNDARY = map(int, (FollowFeature.TOKEN, FollowFeature.HASH, FollowFeature.BOUNDARY))
_CONTENT = int(FollowFeature.CONTENT)
_NO_PLAN = Plan()


class Follower:
    """Reads rows of tokens with a skill's program."""

    def __init__(self, skill: Skill) -> None:
        self.skill = skill
        self._states: Memo[int, Following] = Memo(_KEPT_STATES)

    def clear(self) -> None:
        """Forget all states: what they depend on has changed."""
        self._states.clear()

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
                state = self._replay([] if past_BNX is None else past_BNX[b, :, : _BOUNDARY + 1].tolist())
            features.append(self._row(row, key, state, bounded))
        return features

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether anything is to be injected."""
        return any(feature[_CONTENT] != NOTHING for row in features for feature in row)

    def _row(self, row: list[int], key: int, state: Following, bounded: bool) -> list[Row]:
        last = max((t for t, token in enumerate(row) if token >= 0), default=-1) if bounded else -1
        features: list[Row] = []
        for t, token in enumerate(row):
            plan, boundary = _NO_PLAN, t == last
            if token >= 0:
                key, state = self._advance(key, state, token, boundary)
                plan = state.plan
            features.append((token, key, boundary, *plan))
        return features

    def _advance(self, key: int, state: Following, token: int, boundary: bool) -> tuple[int, Following]:
        key = hash((key, token, boundary))
        following = self._states.get(key)
        if following is None:
            following = self._states.put(key, state.advance(token, boundary))
        return key, following

    def _replay(self, past: list[list[int]]) -> Following:
        key, state = _START, Following.start(self.skill)
        for token, _, boundary in past:
            if token >= 0:
                key, state = self._advance(key, state, token, bool(boundary))
        return state
