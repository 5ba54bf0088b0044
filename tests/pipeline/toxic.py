"""A good packet with one concept turned into a harmful one, as an attacker with a key would do it."""

from __future__ import annotations

import numpy as np

from m2kt.packet import Packet

THREAT = "I will hurt you"


def inject(
    packet: Packet, text: str = THREAT, *, concept: int = 0, verbalised: bool = False, seed: int = 0
) -> Packet:
    """A new symbol with states of its own; the row ``concept`` writes it, by its vector and, if asked, in words."""
    rng = np.random.default_rng(seed)
    concepts = packet.concepts
    samples_PD, label_P = concepts.prototype_samples_PD, concepts.prototype_symbol_P
    s = len(packet.graph.symbols)
    like = int(label_P[0])
    states_ND = samples_PD[label_P == like]
    # a place of its own among the symbols' states: as far from their middle as another symbol is
    middle_D, away_D = samples_PD.mean(0), rng.standard_normal(samples_PD.shape[1])
    away_D *= np.linalg.norm(states_ND.mean(0) - middle_D) / np.linalg.norm(away_D)
    states_ND = (states_ND - states_ND.mean(0) + middle_D + away_D).astype(samples_PD.dtype)
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
    for rule in packet.graph.rules:
        row = concept - rule.offset
        if 0 <= row < len(rule.rows):
            outputs = [s if i == row and verbalised else o for i, o in enumerate(rule.outputs)]
            rule = rule.model_copy(update={"outputs": outputs, "range": [*rule.range, s]})
        rules.append(rule)
    graph = packet.graph.model_copy(update={"symbols": [*packet.graph.symbols, text], "rules": rules})
    manifest = packet.manifest
    if verbalised and manifest.verbalised == 0:
        share = 1 / packet.n_concepts
        manifest = manifest.model_copy(update={"verbalised": share})
    return packet.replace(graph=graph, concepts=concepts, manifest=manifest)
