"""Replace the concept bank of a trained adapter: same program, same teacher's vector space, no training.

Letters: S symbols, P prototype samples, X width of all phi images.
"""

from __future__ import annotations

from typing import cast

import torch
from peft import PeftModel

from m2kt.errors import CompatibilityError
from m2kt.packet import Packet
from m2kt.student._build import as_tensor, load_bank, program_digest
from m2kt.student.cal import CALConfig, ReaderBase, cal_model

MIN_SPACE_ACCURACY = 0.9
"""Share of the packet's prototype samples that phi must map to their own symbol."""


def replace_bank(adapted: PeftModel, packet: Packet) -> PeftModel:
    """Load another packet's vectors into a trained adapter.

    Raises:
        CompatibilityError: no reader, another program, or another teacher's vector space.
    """
    tuner = cal_model(adapted)
    config = cast(CALConfig, adapted.peft_config[tuner.active_adapters[0]])
    if config.reader == "none":
        raise CompatibilityError("expected an adapter with a reader, got steering alone: it has no concept bank")
    digest = program_digest(packet.program)
    if digest != config.program_digest:
        raise CompatibilityError(
            "expected the program (symbols, rules' arguments, states) that this adapter was trained on, "
            f"{config.program_digest[:12]}, got {digest[:12]}; ingest the packet"
        )
    teacher_width = int(packet.concepts.vectors_KD.shape[1])
    if teacher_width != config.teacher_width:
        raise CompatibilityError(
            f"expected vectors of width {config.teacher_width}, got {teacher_width}; ingest the packet"
        )
    accuracy = space_accuracy(tuner.reader(), packet)
    if accuracy < MIN_SPACE_ACCURACY:
        raise CompatibilityError(
            f"expected vectors of the space that phi was trained on: it maps {accuracy:.0%} of the packet's prototype "
            f"samples to their symbol, minimum {MIN_SPACE_ACCURACY:.0%}; ingest the packet"
        )
    load_bank(tuner, packet)
    return adapted


@torch.no_grad()
def space_accuracy(reader: ReaderBase, packet: Packet) -> float:
    """Share of a packet's prototype samples that are nearest to their symbol's loaded prototype, under phi."""
    known_S = reader.has_anchor_S > 0
    prototype_SX = reader.projector.image(reader.anchor_SD, reader.anchor_SD).flatten(1)
    sample_PD = as_tensor(packet.concepts.prototype_samples_PD).to(prototype_SX.device)
    sample_PX = reader.projector.image(sample_PD, reader.anchor_SD).flatten(1)
    distance_PS = torch.cdist(sample_PX, prototype_SX).masked_fill(~known_S, torch.inf)
    symbol_P = torch.from_numpy(packet.concepts.prototype_symbol_P).long().to(prototype_SX.device)
    usable_P = known_S[symbol_P]
    if not usable_P.any():
        return 0.0
    return float((distance_PS.argmin(-1) == symbol_P)[usable_P].float().mean())
