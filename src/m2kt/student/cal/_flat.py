"""The flat reader, a baseline: the state queries one key for each concept, the frozen student's state at its cue.

It works if cues differ clearly and confuses many similar ones. It writes neither copies nor literals.

Letters: B batch, T tokens, K concepts, X width of the states read, Y content, U literals; local: W key width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2kt._shapes import Float
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import ReaderOutputs, Run


class FlatReader(ReaderBase):
    """w = softmax over concepts of q(h) . key(cue_k), with one entry for none."""

    cue_KX: Tensor
    has_cue_K: Tensor

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        self.query = nn.Linear(self.read_width, config.gather_width)
        self.key = nn.Linear(self.read_width, config.gather_width)
        self.going = nn.Linear(self.read_width, 1)  # whether the unit in progress continues
        self.none = nn.Parameter(torch.zeros(()))
        self.register_buffer("cue_KX", torch.zeros(self.n_concepts, self.read_width))
        self.register_buffer("has_cue_K", torch.zeros(self.n_concepts))

    def gating(self, run: Run) -> Float[Tensor, ""]:
        return self.retrieve(self.read(run))[..., -1].mean()

    def null_mass(self, run: Run) -> Float[Tensor, "B T"]:
        log_w_BTK1 = run.outputs[-1].retrieval_BTK
        assert log_w_BTK1 is not None
        return log_w_BTK1[..., -1].exp()

    def retrieve(self, x_BTX: Float[Tensor, "B T X"]) -> Float[Tensor, "B T _"]:
        """Log weights of the concepts, and of none in the last column."""
        key_KW = self.key(self.normalise(self.cue_KX))
        logit_BTK = self.query(x_BTX) @ key_KW.T / self.config.gather_width**0.5
        logit_BTK = logit_BTK.masked_fill(self.has_cue_K == 0, -1e4)
        none_BT1 = self.none.expand(*logit_BTK.shape[:2], 1)
        return torch.cat([logit_BTK, none_BT1], -1).log_softmax(-1)

    def write(self, run: Run) -> Float[Tensor, "B T E"]:
        x_BTX = self.read(run)
        log_w_BTK1 = self.retrieve(x_BTX)
        usage_BTK = log_w_BTK1[..., :-1].exp()
        w_BTK = usage_BTK * self.allowed_K
        supervision = run.supervision
        continue_BT = self.going(x_BTX)[..., 0] > 0
        empty_BTC = log_w_BTK1.new_zeros(*x_BTX.shape[:2], 0)
        run.outputs.append(
            ReaderOutputs(empty_BTC, empty_BTC[:, None], None, usage_BTK, log_w_BTK1, self.going(x_BTX)[..., 0])
        )
        if supervision is not None:
            continue_BT = supervision.class_BT == CALConfig.CONTINUE
        concept_KY, _ = self.contents(supervision)
        literal_BTU = w_BTK.new_zeros(*w_BTK.shape[:2], self.literal_UJE.shape[0])
        return self.inject(run, torch.cat([w_BTK @ concept_KY, literal_BTU], -1), continue_BT)
