"""What readers get of each token from token ids alone: the symbols and literals that end there, and those before.

Letters: B batch, T tokens of this pass, N tokens so far, X features.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import chain
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from m2kt._shapes import Bool, Int
from m2kt.student.cal._memo import Memo

_PREFIX = -1  # a token sequence that is only the beginning of a unit
N_LAST_UNITS = 4  # units that a reader gets at each position: the one that ends there and those before
Row = Sequence[int]
"""Features of one token, by ``TokenFeature``."""


class TokenFeature(IntEnum):
    """Features computed from token ids alone; columns of ``UnitMatcher``'s result."""

    TOKEN = 0  # id; negative: padding
    SYMBOL = 1  # symbol that ends here; n_symbols: none
    POSITION = 2  # without padding
    ORDINAL = 3  # number of symbols that ended so far
    IN_DOMAIN = 4  # whether the types of the last units occur in the packet's traces
    PARTIAL = 5  # tokens of an incomplete unit, if none ends here
    UNITS = 6  # the last units, the one that ends here first; n_units: none
    # unit types: 0 for any symbol, 1 for a symbol with a leading space, then one for each literal
    TYPES = UNITS + N_LAST_UNITS


N_FEATURES = TokenFeature.TYPES + N_LAST_UNITS
# Plain numbers: a generation step uses them dozens of times.
_TOKEN, _POSITION, _ORDINAL, _IN_DOMAIN = map(
    int, (TokenFeature.TOKEN, TokenFeature.POSITION, TokenFeature.ORDINAL, TokenFeature.IN_DOMAIN)
)
_UNITS_BUT_LAST = slice(int(TokenFeature.UNITS), TokenFeature.TYPES - 1)
_TYPES_BUT_LAST = slice(int(TokenFeature.TYPES), N_FEATURES - 1)
_KEPT_MATCHES = 1 << 14
_Match = tuple[int, int, int, int]


@runtime_checkable
class TokenMatcher(Protocol):
    """Computes what a reader gets of each token from token ids alone; column 0 is ``TokenFeature.TOKEN``."""

    def features(
        self,
        token_BT: Int[Tensor, "B T"],
        past_BNX: Int[Tensor, "B N X"] | None = None,
        real_BT: Bool[Tensor, "B T"] | None = None,
    ) -> Sequence[Sequence[Row]]:
        """The features of each token, by row; see :meth:`UnitMatcher.features`."""
        ...

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether the reader may inject something in this pass."""
        ...


def token_rows(token_BT: Int[Tensor, "B T"], real_BT: Bool[Tensor, "B T"] | None) -> list[list[int]]:
    """Ids by row, -1 where ``real_BT`` says padding."""
    rows: list[list[int]] = token_BT.tolist()
    if real_BT is None or real_BT.all():
        return rows
    return [
        [token if real else -1 for token, real in zip(*row, strict=True)]
        for row in zip(rows, real_BT.tolist(), strict=True)
    ]


class UnitMatcher:
    """Finds the symbol or literal that ends at each token, and the units before it.

    Matching is by suffix: the longest match wins, and a symbol wins over a literal with the same tokens.

    Args:
        symbol_tokens: tokenisations of each symbol.
        literal_tokens: tokenisation of each literal.
        spaces: first tokens of symbols with a leading space.
        context_whitelist: types of the last units that count as in-domain; empty: all do. ``CALConfig.trails``.
    """

    def __init__(
        self,
        symbol_tokens: Sequence[Sequence[Sequence[int]]],
        literal_tokens: Sequence[Sequence[int]] = (),
        spaces: Sequence[int] = (),
        context_whitelist: Sequence[Sequence[int]] = (),
    ) -> None:
        self.spaces = frozenset(spaces)
        self.context_whitelist = frozenset(map(tuple, context_whitelist))
        self.n_symbols = len(symbol_tokens)
        self.n_units = self.n_symbols + len(literal_tokens)
        symbols = {tuple(form): s for s, forms in enumerate(symbol_tokens) for form in forms}
        literals = {tuple(form): self.n_symbols + u for u, form in enumerate(literal_tokens) if form}
        units = literals | symbols
        self._prefixes = {form[:n] for form in units for n in range(1, len(form))}
        self.longest = max(map(len, units), default=1)
        self._unit_of = {form: units.get(form, _PREFIX) for form in self._prefixes | units.keys()}
        no_units = (self.n_units,) * N_LAST_UNITS
        self._start: Row = (-1, self.n_symbols, -1, 0, 0, 0, *no_units, *map(self._literal_type, no_units))
        self._matches: Memo[tuple[int, ...], _Match] = Memo(_KEPT_MATCHES)

    def __call__(
        self, token_BT: Int[Tensor, "B T"], past_BNX: Int[Tensor, "B N X"] | None = None
    ) -> Int[Tensor, "B T X"]:
        """The features of :meth:`features` as a tensor on the CPU."""
        return as_tensor(self.features(token_BT, past_BNX))

    def features(
        self,
        token_BT: Int[Tensor, "B T"],
        past_BNX: Int[Tensor, "B N X"] | None = None,
        real_BT: Bool[Tensor, "B T"] | None = None,
    ) -> list[list[Row]]:
        """The features of each token, by row.

        Args:
            token_BT: ids; negative ones are padding, which matches no unit.
            past_BNX: features of earlier tokens, at least of the last ``longest`` ones.
            real_BT: which tokens are no padding, if ids do not tell.
        """
        # Python, because a generation step has one token a row: a dictionary is faster than dozens of small tensor ops.
        rows = token_rows(token_BT, real_BT)
        tails = [[]] * len(rows) if past_BNX is None else past_BNX[:, -self.longest :].tolist()
        return [self._row_features(row, tail) for row, tail in zip(rows, tails, strict=True)]

    def has_content(self, features: Sequence[Sequence[Row]]) -> bool:
        """Whether some token is in-domain."""
        return any(feature[_IN_DOMAIN] for row in features for feature in row)

    def _row_features(self, row: list[int], tail: list[Row]) -> list[Row]:
        tokens, features = [feature[_TOKEN] for feature in tail], list(tail)
        for token in row:
            tokens.append(token)
            last = features[-1] if features else self._start
            suffix = tuple(tokens[-self.longest :])
            match = self._matches.get(suffix) or self._matches.put(suffix, self._match_suffix(suffix))
            symbol, unit, length, unit_type = match
            # earlier units are those before the first token of this unit, complete or not
            earlier = features[-length] if length <= len(features) else self._start
            types = (unit_type, *earlier[_TYPES_BUT_LAST])
            features.append(
                (
                    token,
                    symbol,
                    last[_POSITION] + (token >= 0),
                    last[_ORDINAL] + (symbol < self.n_symbols),
                    not self.context_whitelist or types in self.context_whitelist,
                    length if unit == self.n_units else 0,
                    unit,
                    *earlier[_UNITS_BUT_LAST],
                    *types,
                )
            )
        return features[len(tail) :]

    def _match_suffix(self, tokens: tuple[int, ...]) -> _Match:
        """Symbol and unit that end at the last token, the number of the unit's tokens, and its type."""
        literal, length, partial, end = self.n_units, 1, 0, len(tokens)
        for n in range(end, 0, -1):
            form = tokens[end - n :]
            unit = self._unit_of.get(form)
            if unit is None:
                continue
            if form in self._prefixes:
                partial = max(partial, n)
            if 0 <= unit < self.n_symbols:
                return unit, unit, n, int(form[0] in self.spaces)
            if unit != _PREFIX and literal == self.n_units:
                literal, length = unit, n
        if literal == self.n_units:
            length = max(1, partial)
        return self.n_symbols, literal, length, self._literal_type(literal)

    def _literal_type(self, unit: int) -> int:
        return unit - self.n_symbols + 2


def as_tensor(features: Sequence[Sequence[Row]]) -> Int[Tensor, "B T X"]:
    """Features by row and token."""
    rows, tokens = len(features), len(features[0]) if features else 0
    width = len(features[0][0]) if tokens else N_FEATURES
    numbers = chain.from_iterable(chain.from_iterable(features))
    feature_X = np.fromiter(numbers, dtype=np.int64, count=rows * tokens * width)
    return torch.from_numpy(feature_X.reshape(rows, tokens, width))
