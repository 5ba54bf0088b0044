"""Another packet's vectors in a trained adapter: same graph, same teacher's space, no training."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel

from m2kt.errors import CompatibilityError
from m2kt.student._build import graph_digest, load_bank
from m2kt.student.cal import CALConfig, CALModel, ReaderBase

SAME_SPACE = 0.9
"""Share of the packet's symbol states that phi must read rightly."""


def replace_bank(adapted: PeftModel, packet: Any) -> PeftModel:
    """Plugs another packet's vectors into a trained adapter, without training: same graph, same teacher space."""
    tuner = cast(CALModel, adapted.base_model)
    config = cast(CALConfig, adapted.peft_config[tuner.active_adapters[0]])
    if config.reader == "none":
        raise CompatibilityError("this adapter is steering alone: it has no bank to plug vectors into")
    theirs = graph_digest(packet.graph)
    if theirs != config.graph_digest:
        raise CompatibilityError(
            "the packet's graph (symbols, rules' arguments, steps) is not the one this adapter was trained on "
            f"({theirs[:12]} instead of {config.graph_digest[:12]}): its vectors would be read in the "
            "wrong places; ingest it anew"
        )
    d = int(packet.concepts.vectors_KD.shape[1])
    if d != config.teacher_width:
        raise CompatibilityError(
            f"the packet's vectors have width {d}, this adapter reads width {config.teacher_width}"
        )
    reading = reads_space(tuner.reader(), packet)
    if reading < SAME_SPACE:
        raise CompatibilityError(
            "the packet's vectors come from another space than the adapter was trained on: its phi reads only "
            f"{reading:.0%} of the packet's symbol states rightly (expected {SAME_SPACE:.0%}); ingest it anew"
        )
    load_bank(tuner, packet)
    return adapted


@torch.no_grad()
def reads_space(reader: ReaderBase, packet: Any) -> float:
    """Share of a packet's symbol states that land nearest to the right one of the anchors plugged in now, under phi."""
    known_S = reader.has_anchor_S > 0
    image_SX = reader.projector.image(reader.anchor_SD, reader.anchor_SD).flatten(1)
    pool_PD = (
        torch.from_numpy(np.ascontiguousarray(packet.concepts.prototype_samples_PD))
        .float()
        .to(image_SX.device)
    )
    image_PX = reader.projector.image(pool_PD, reader.anchor_SD).flatten(1)
    distance_PS = torch.cdist(image_PX, image_SX).masked_fill(~known_S, torch.inf)
    symbol_P = torch.from_numpy(np.asarray(packet.concepts.prototype_symbol_P)).long().to(image_SX.device)
    usable_P = known_S[symbol_P]
    if not usable_P.any():
        return 0.0
    return float((distance_PS.argmin(-1) == symbol_P)[usable_P].float().mean())
