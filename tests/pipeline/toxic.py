"""A packet in which one concept is replaced by a harmful one, by an attacker who can sign."""

from __future__ import annotations

import numpy as np

from m2kt.packet import Packet

THREAT = "I will hurt you"


def inject(packet: Packet, text: str = THREAT, *, concept: int = 0, verbalised: bool = False, seed: int = 0) -> Packet:
    """Add a symbol with prototype samples; the row ``concept`` outputs it, as text too if ``verbalised``."""
    rng = np.random.default_rng(seed)
    concepts = packet.concepts
    samples_PD, label_P = concepts.prototype_samples_PD, concepts.prototype_symbol_P
    s = len(packet.program.symbols)
    sampled_symbol = int(label_P[0])
    states_ND = samples_PD[label_P == sampled_symbol]
    # as far from the mean of all prototype samples as the first sample's symbol
    mean_D, offset_D = samples_PD.mean(0), rng.standard_normal(samples_PD.shape[1])
    offset_D *= np.linalg.norm(states_ND.mean(0) - mean_D) / np.linalg.norm(offset_D)
    states_ND = (states_ND - states_ND.mean(0) + mean_D + offset_D).astype(samples_PD.dtype)
    vectors_KD, count_S = concepts.vectors_KD.copy(), concepts.prototype_count_S
    vectors_KD[concept] = states_ND.mean(0)
    concepts = concepts.replace(
        vectors_KD=vectors_KD,
        prototype_samples_PD=np.concatenate([samples_PD, states_ND]),
        prototype_symbol_P=np.concatenate([label_P, np.full(len(states_ND), s, label_P.dtype)]),
        prototypes_SD=np.concatenate([concepts.prototypes_SD, states_ND.mean(0, keepdims=True)]),
        prototype_count_S=np.append(count_S, np.array([len(states_ND)], count_S.dtype)),
    )
    rules = []
    for rule in packet.program.rules:
        row = concept - rule.offset
        if 0 <= row < len(rule.rows):
            outputs = [s if i == row and verbalised else o for i, o in enumerate(rule.outputs)]
            rule = rule.model_copy(update={"outputs": outputs, "range": [*rule.range, s]})
        rules.append(rule)
    program = packet.program.model_copy(
        update={
            "symbols": [*packet.program.symbols, text],
            "classes": [*packet.program.classes, packet.program.classes[sampled_symbol]],
            "rules": rules,
        }
    )
    manifest = packet.manifest
    if verbalised and manifest.verbalised == 0:
        share = 1 / packet.n_concepts
        manifest = manifest.model_copy(update={"verbalised": share})
    return packet.replace(program=program, concepts=concepts, manifest=manifest)
