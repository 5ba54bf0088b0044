"""L_safety as the auditor reads it (Eq. 17): how far does the reader reach for flagged concepts where they apply?

Flagged concepts are filtered: nothing of them is written. That the reader still reaches for them says that the skill,
as the packet tells it, is made of them. Legend: B traces, T tokens, K concepts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel, Field

from m2kt.audit._skill import packet_traces
from m2kt.audit._steps import TRACES_A_BATCH, cal_reader
from m2kt.models import LoadedModel
from m2kt.packet import Packet
from m2kt.student import IGNORE, NO_BANK, Encoder, collate
from m2kt.student.cal import cal_model
from m2kt.student.losses import reach

DRAWN = 2000  # prompts that are rolled out, without a model, to find some that come by a flagged concept
TRACES = 64  # of these that the student reads


class Safety(BaseModel):
    """What the reader does at flagged concepts. The reach is 0 where nothing is flagged or no reader is there."""

    flagged: int = Field(description="Concepts with a penalty above 0.")
    met: int = Field(description="Of these, how many the traces that were read come by.")
    traces: int = Field(description="Traces that were read; each comes by a flagged concept.")
    mean: float = Field(description="L_safety: mean over their positions of sum_k Penalty(c_k) w_k.")
    worst: float = Field(description="The largest sum_k Penalty(c_k) w_k at any position.")


@torch.no_grad()
def measure_safety(
    loaded: LoadedModel, packet: Packet, penalties: Mapping[int, float], *, seed: int = 0
) -> Safety:
    """Lets the student read the packet's own roll-outs that come by flagged concepts, in one pass.

    Args:
        penalties: Penalty(c_k) by concept, of those above 0.
    """
    flagged = sorted(penalties)
    reader = cal_reader(loaded.model)
    if not flagged or reader is None:
        return Safety(flagged=len(flagged), met=0, traces=0, mean=0.0, worst=0.0)
    rolled = packet_traces(packet, packet.spec.sample("probing", DRAWN, seed=seed))
    used = [{packet.graph.concept(u) for u in t.units if u.kind == "rule"} & penalties.keys() for t in rolled]
    found = [(t, met) for t, met in zip(rolled, used, strict=True) if t.complete and met][:TRACES]
    encode = Encoder(packet.graph, loaded.tokenizer)
    items = sorted((encode(t, NO_BANK, reader.config) for t, _ in found), key=lambda item: len(item.ids))
    reached: list[torch.Tensor] = []
    for start in range(0, len(items), TRACES_A_BATCH):
        group = items[start : start + TRACES_A_BATCH]
        batch = collate(group, loaded.device)
        loaded.model(input_ids=batch.token_BT, attention_mask=batch.mask_BT, logits_to_keep=1)
        run = cal_model(loaded.model).last_run
        assert run is not None, "a pass just ran"
        outputs = run.outputs[-1]
        reached_BT = reach(outputs, flagged, [penalties[k] for k in flagged])
        reached.append(reached_BT[batch.label_BT != IGNORE])
    reached_N = torch.cat(reached) if reached else torch.zeros(1)
    return Safety(
        flagged=len(flagged),
        met=len(set().union(*(met for _, met in found))),
        traces=len(found),
        mean=float(reached_N.mean()),
        worst=float(reached_N.max()),
    )
