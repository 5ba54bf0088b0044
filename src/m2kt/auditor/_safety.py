"""L_safety on a trained adapter (Eq. 17): the reader's weight on flagged concepts in traces that use them.

Flagged concepts are filtered, so none is injected. A reader that still selects them shows that the packet's skill
depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel, Field

from m2kt.auditor._skill import packet_traces
from m2kt.auditor._traces import cal_reader, teacher_forced
from m2kt.models import LoadedModel
from m2kt.packet import Packet
from m2kt.student import IGNORE
from m2kt.student.cal import cal_model
from m2kt.student.losses import penalised_weight

DRAWN = 2000  # prompts that are rolled out without a model, to find traces with a flagged concept
TRACES = 64  # of these, how many the student reads


class Safety(BaseModel):
    """The reader's weight on flagged concepts; 0 if nothing is flagged or there is no reader."""

    flagged: int = Field(description="Concepts with a penalty above 0.")
    met: int = Field(description="Flagged concepts in the traces that were read.")
    traces: int = Field(description="Traces that were read; each has a flagged concept.")
    mean: float = Field(description="L_safety: mean of sum_k Penalty(c_k) w_k over their positions.")
    worst: float = Field(description="Maximum of sum_k Penalty(c_k) w_k over their positions.")


@torch.no_grad()
def measure_safety(loaded: LoadedModel, packet: Packet, penalties: Mapping[int, float], *, seed: int = 0) -> Safety:
    """Run the student, teacher-forced, on rollouts of the packet that have flagged concepts.

    Args:
        penalties: Penalty(c_k) by concept, where above 0.
    """
    flagged = sorted(penalties)
    reader = cal_reader(loaded.model)
    if not flagged or reader is None:
        return Safety(flagged=len(flagged), met=0, traces=0, mean=0.0, worst=0.0)
    drawn = packet_traces(packet, packet.spec.sample("probing", DRAWN, seed=seed))
    used = [{packet.program.concept(u) for u in t.units if u.kind == "rule"} & penalties.keys() for t in drawn]
    traces = [(t, concepts) for t, concepts in zip(drawn, used, strict=True) if t.complete and concepts][:TRACES]
    weights: list[torch.Tensor] = []
    for _, batch in teacher_forced(loaded, packet, [t for t, _ in traces]):
        with cal_model(loaded.model).observed() as runs:
            loaded.model(input_ids=batch.token_BT, attention_mask=batch.mask_BT, logits_to_keep=1)
        weight_BT = penalised_weight(runs[-1].outputs[-1], flagged, [penalties[k] for k in flagged])
        weights.append(weight_BT[batch.label_BT != IGNORE])
    weight_N = torch.cat(weights) if weights else torch.zeros(1)
    return Safety(
        flagged=len(flagged),
        met=len(set().union(*(concepts for _, concepts in traces))),
        traces=len(traces),
        mean=float(weight_N.mean()),
        worst=float(weight_N.max()),
    )
