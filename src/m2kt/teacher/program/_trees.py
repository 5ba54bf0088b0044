"""Decision trees over yes-or-no questions: which structure is written, and which pointer is copied.

Letters: N rows, Q questions, L labels, X actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Case, Decision, Test
from m2kt.teacher.program._tests import Questions

MAX_DEPTH = 12
LOOKAHEAD = 60  # cheap questions that are tried in twos where none helps by itself
BITS_PER_COST = 1.0

Rows = NDArray[np.intp]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Branch:
    """A question and what follows on yes and on no."""

    question: int
    yes: Tree
    no: Tree


Tree = Branch | int  # an int is a leaf: a label
Leaf = Callable[[Rows], int | None]
"""The leaf for these rows; None: they must be split further."""


def entropy_bits(count_XL: Floats) -> NDArray[np.float64]:
    """Bits to say the label of each row of a node, by node (X,)."""
    total_X = count_XL.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits_XL = np.where(count_XL > 0, count_XL * (np.log2(total_X)[..., None] - np.log2(count_XL)), 0.0)
    return bits_XL.sum(-1)  # type: ignore[no-any-return]


@dataclass
class Grower:
    """Grows a tree from the top, always by the question that saves most.

    Args:
        leaf: the leaf of rows that agree.
    """

    questions: Questions
    leaf: Leaf
    saved: Callable[[Rows], NDArray[np.float64]]  # per question, what asking it at these rows saves
    max_leaves: int
    n_leaves: int = 1

    def grow(self, rows: Rows, depth: int = 0) -> Tree | None:
        """The tree for these rows; None where no question helps."""
        leaf = self.leaf(rows)
        if leaf is not None:
            return leaf
        if depth >= MAX_DEPTH or self.n_leaves >= self.max_leaves or not len(self.questions.list):
            return None
        question = self._best(rows)
        if question is None:
            return None
        self.n_leaves += 1
        yes_N = self.questions.answer_QN[question, rows] > 0
        yes = self.grow(rows[yes_N], depth + 1)
        if yes is None:
            return None
        no = self.grow(rows[~yes_N], depth + 1)
        return None if no is None else Branch(question, yes, no)

    def _best(self, rows: Rows) -> int | None:
        answer_QN = self.questions.answer_QN[:, rows]
        yes_Q = answer_QN.sum(1)
        splits_Q = (yes_Q > 0) & (yes_Q < len(rows))
        if not splits_Q.any():
            return None
        saved_Q = np.where(splits_Q, self.saved(rows), -np.inf)
        net_Q = saved_Q - BITS_PER_COST * self.questions.cost_Q
        best = int(net_Q.argmax())
        if saved_Q[best] > max(2.0, 0.03 * len(rows)):
            return best
        pair = self._pair(rows, splits_Q)
        if pair is not None:
            return pair
        best = int(saved_Q.argmax())
        return best if saved_Q[best] > 0 else None

    def _pair(self, rows: Rows, splits_Q: NDArray[np.bool_]) -> int | None:
        """The question after which another one helps most: for what no single question tells, such as a parity."""
        order = np.argsort(self.questions.cost_Q, kind="stable")
        cheap = [int(q) for q in order if splits_Q[q]][:LOOKAHEAD]
        best: tuple[float, int] | None = None
        for q in cheap:
            yes_N = self.questions.answer_QN[q, rows] > 0
            gains = [float(self.saved(part).max()) for part in (rows[yes_N], rows[~yes_N]) if len(part) > 3]
            net = sum(gains) - BITS_PER_COST * float(self.questions.cost_Q[q])
            if gains and (best is None or net > best[0]):
                best = net, q
        return best[1] if best is not None and best[0] > 0 else None


def entropy_saved(questions: Questions, onehot_NL: Floats) -> Callable[[Rows], NDArray[np.float64]]:
    """For labels: bits of entropy that a question saves."""

    def saved(rows: Rows) -> NDArray[np.float64]:
        label_NL = onehot_NL[rows]
        yes_QL = questions.answer_QN[:, rows] @ label_NL
        all_L = label_NL.sum(0)
        return entropy_bits(all_L[None])[0] - entropy_bits(yes_QL) - entropy_bits(all_L - yes_QL)  # type: ignore[no-any-return]

    return saved


def tree_cost(tree: Tree, questions: Questions) -> float:
    """What the questions of a tree cost together."""
    if not isinstance(tree, Branch):
        return 0.0
    own = float(questions.cost_Q[tree.question])
    return own + tree_cost(tree.yes, questions) + tree_cost(tree.no, questions)


def write_tree(tree: Tree, questions: Questions, leaf: Callable[[int], Decision]) -> Decision:
    """A tree as a decision; a question that is asked again about another value becomes one test with more cases."""
    if not isinstance(tree, Branch):
        return leaf(tree)
    yes, no = write_tree(tree.yes, questions, leaf), write_tree(tree.no, questions, leaf)
    return join(questions, tree.question, yes, no)


def join(questions: Questions, question: int, yes: Decision, no: Decision) -> Decision:
    """A test of a question; where ``no`` asks the same about another value, one test with more cases."""
    asked = questions.list[question]
    ask = asked.ask()
    case = Case(values=[asked.value], then=yes)
    if isinstance(no, Test) and no.ask == ask:
        same = next((c for c in no.cases if c.then == yes), None)
        if same is not None:
            cases = [c if c is not same else Case(values=[asked.value, *c.values], then=yes) for c in no.cases]
            return Test(ask=ask, cases=cases, otherwise=no.otherwise)
        return Test(ask=ask, cases=[case, *no.cases], otherwise=no.otherwise)
    return Test(ask=ask, cases=[case], otherwise=no)
