"""The flat reader: the state queries one key per concept, the frozen student's own state on that concept's cue.

The simplest reader that works where cues look different; it fails to tell apart many similar ones. Kept as an option and as
a baseline. Copies and literals are left to the student itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2kt.student.cal.config import CALConfig
from m2kt.student.cal.context import ReaderOutputs, Run
from m2kt.student.cal.reader import ReaderBase


class FlatReader(ReaderBase):
    """w = softmax over concepts of q(h) . key(cue_k), with one entry for none."""

    cue_KE: Tensor
    has_cue_K: Tensor

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        self.query = nn.Linear(student_width, config.gather_width)
        self.key = nn.Linear(student_width, config.gather_width)
        self.phase = nn.Linear(student_width, config.phases)
        self.none = nn.Parameter(torch.zeros(()))
        self.register_buffer("cue_KE", torch.zeros(self.n_concepts, student_width))
        self.register_buffer("has_cue_K", torch.zeros(self.n_concepts))

    def forward(self, h_BTE: Tensor, run: Run, slot: int) -> Tensor:
        x_BTE = self.normalise(h_BTE)
        key_KW = self.key(self.normalise(self.cue_KE))
        logit_BTK = self.query(x_BTE) @ key_KW.T / self.config.gather_width**0.5
        usable_K = (self.has_cue_K > 0) & (self.allowed_K > 0)
        logit_BTK = logit_BTK.masked_fill(~usable_K, -1e4)
        none_BT1 = self.none.expand(*logit_BTK.shape[:2], 1)
        log_w_BTK1 = torch.cat([logit_BTK, none_BT1], -1).log_softmax(-1)
        log_phase_BTJ = self.phase(x_BTE).log_softmax(-1)
        w_BTK = log_w_BTK1[..., :-1].exp()
        teaching = run.teaching
        if teaching is not None:
            nothing = log_w_BTK1.new_zeros(*x_BTE.shape[:2], 0)
            run.outputs.append(
                ReaderOutputs(nothing, log_phase_BTJ, nothing[:, None], w_BTK, retrieval_BTK=log_w_BTK1)
            )
        concept_KF, _ = self.features(teaching)
        no_copy_BTS = w_BTK.new_zeros(*w_BTK.shape[:2], self.n_symbols)
        no_class_BTC = w_BTK.new_zeros(*w_BTK.shape[:2], self.config.n_classes)
        out_BTE = self.inject(w_BTK @ concept_KF, w_BTK.sum(-1), no_class_BTC, no_copy_BTS, log_phase_BTJ.exp())
        return h_BTE + out_BTE.to(h_BTE.dtype)
