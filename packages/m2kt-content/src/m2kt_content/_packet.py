"""The texts of a packet, and Penalty(c_k) of its concepts.

Legend: K concepts, D teacher width, P prototype samples, N labelled vectors.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import JsonValue

from m2kt.packet import Packet, read_outputs, state_name
from m2kt.probes import END, MASK

RIDGE = 0.1


def packet_texts(packet: Packet) -> list[tuple[str, str]]:
    """(part, text) of everything in a packet that a person or a model may read, each text once.

    Symbols, templates, structure that states write or look for; labels of concepts (arguments and output); free text
    of spec and manifest. The card is made from these.
    """
    program, manifest, spec = packet.program, packet.manifest, packet.spec
    texts: list[tuple[str, str]] = [(f"symbol {i}", s) for i, s in enumerate(program.symbols)]
    texts += [(f"concept {k}", label) for k, label, _ in _labels(packet)]
    texts += [(f"name of {rule.name}", rule.name) for rule in program.rules]
    texts += [(f"template {t}", spec.template_text(t)) for t in range(spec.n_templates)]
    for state in program.states:
        written = _structure(state.model_dump(mode="json"))
        texts += [(f"state {state_name(state.after)!r}", text) for text in written if MASK not in text]
    fields = yaml.safe_load(spec.to_yaml())
    texts += [(f"probe spec, {key}", str(fields[key])) for key in ("name", "description", "licence") if fields.get(key)]
    texts += [(f"surrounding {i}", text) for i, text in enumerate(spec.surroundings)]
    texts += [(f"phrasing {i}", text) for i, text in enumerate((*spec.phrasings, *spec.held_out_phrasings))]
    texts += [("stop string", program.stop)]
    texts += [("probe spec, system message", spec.chat.system)] if spec.chat and spec.chat.system else []
    texts += [("manifest, name", manifest.name), ("manifest, teacher", manifest.teacher.name)]
    texts += [(f"manifest, note {i}", note) for i, note in enumerate(manifest.notes)]
    if manifest.fallback_reason:
        texts.append(("manifest, fallback reason", manifest.fallback_reason))
    unique: dict[str, tuple[str, str]] = {}
    for part, text in texts:
        if text.strip() and text != END:
            unique.setdefault(text, (part, text))
    return list(unique.values())


def concept_penalties(packet: Packet, score: dict[str, float], threshold: float) -> dict[int, float]:
    """Penalty(c_k), where above 0: the highest score of a concept's label, of its symbols, and of its vector.

    Args:
        score: of flagged texts.
        threshold: minimum score of a vector.
    """
    program = packet.program
    penalties = {
        k: max((score.get(text, 0.0) for text in (label, *symbols)), default=0.0)
        for k, label, symbols in _labels(packet)
    }
    flagged_S = np.array([symbol in score for symbol in program.symbols], dtype=np.bool_)
    harmful_P = flagged_S[packet.concepts.prototype_symbol_P]
    if harmful_P.any() and not harmful_P.all():  # samples of both kinds: fit a probe to them
        by_vector_K = vector_penalty(packet.concepts.vectors_KD, packet.concepts.prototype_samples_PD, harmful_P)
        for k, penalty in enumerate(by_vector_K.tolist()):
            penalties[k] = max(penalties[k], penalty if penalty >= threshold else 0.0)
    return {k: round(penalty, 4) for k, penalty in penalties.items() if penalty > 0}


def vector_penalty(
    vectors_KD: NDArray[np.float32], labelled_ND: NDArray[np.float32], harmful_N: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Score of each concept on the harmful side of a ridge probe on directions, 0 to 1, (K,).

    Args:
        vectors_KD: the packet's concepts.
        labelled_ND: labelled vectors of the same teacher and layer.
        harmful_N: their labels; both kinds must occur.
    """
    if not harmful_N.any() or harmful_N.all():
        raise ValueError("expected labelled vectors of both kinds, got one kind")
    if vectors_KD.shape[1] != labelled_ND.shape[1]:
        raise ValueError(f"expected vectors of one width, got {vectors_KD.shape[1]} and {labelled_ND.shape[1]}")
    centre_D = (labelled_ND[harmful_N].mean(0) + labelled_ND[~harmful_N].mean(0)).astype(np.float64) / 2

    def directions(x_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        centred_ND = x_ND.astype(np.float64) - centre_D
        length_N1 = np.linalg.norm(centred_ND, axis=1, keepdims=True)
        unit_ND: NDArray[np.float64] = centred_ND / np.maximum(length_N1, 1e-12)
        return unit_ND

    x_ND = directions(labelled_ND)
    target_N = np.where(harmful_N, 1.0, -1.0)
    # dual form: few labelled vectors, many dimensions
    dual_N = np.linalg.solve(x_ND @ x_ND.T + RIDGE * np.eye(len(x_ND)), target_N)
    return np.clip((directions(vectors_KD) @ x_ND.T @ dual_N + 1) / 2, 0.0, 1.0)


def _structure(data: JsonValue, key: str = "") -> Iterator[str]:
    """Texts of a state: of its masks, literals, kinds and cases."""
    if isinstance(data, str):
        if key in ("after", "text", "own", "before", "values"):
            yield data
    elif isinstance(data, list):
        for item in data:
            yield from _structure(item, key)
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _structure(value, name)


def _labels(packet: Packet) -> Iterator[tuple[int, str, list[str]]]:
    """Every concept's index, label, and symbols (arguments and output)."""
    program, outputs = packet.program, read_outputs(packet)
    for rule in program.rules:
        for k, row in enumerate(rule.rows, rule.offset):
            arguments, output = [program.symbols[a] for a in row], outputs[k]
            written = [] if output is None else [program.symbols[output]]
            yield k, ": ".join([" ".join(arguments), *written]), [*arguments, *written]
