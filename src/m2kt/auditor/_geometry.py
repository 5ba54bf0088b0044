"""Where do the packet's vectors lie in the student? phi(c_k) compared with the frozen student's states for each symbol.

The student's states are measured anew, with the adapter off, behind the block that the reader writes to, where the
frozen student is about to write each symbol, in traces that it reads twice. Lengths are ignored: they differ by
construction.

Local letter: J token index within a unit. JSON names: ``own`` and ``others`` are student states, ``anchor`` prototypes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt._shapes import Float, Float64, Int, Shaped
from m2kt.auditor._traces import cal_reader
from m2kt.models import LoadedModel, special_prefix
from m2kt.packet import Packet, Trace, decode_outputs
from m2kt.student import phi_targets, student_chat, student_targets, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A mean over few contexts depends on them: with 8 traces a third of phi(c_k) is nearest to a wrong symbol.
MIN_TRACES = 16
MIN_OCCURRENCES = 3  # of each symbol, where the traces have so many


class Geometry(BaseModel):
    """L_geo on the packet's true vectors."""

    concepts: int = Field(description="Concepts whose symbol occurs in the traces.")
    distance: float = Field(
        description="Mean squared distance of phi(c_k) and the student's state for its symbol, both of length one: 0 "
        "for the same direction, 2 for unrelated ones."
    )
    others: float | None = Field(description="The same for the states of all other symbols; null: there are none.")
    nearest: float = Field(description="Share of phi(c_k) whose nearest student state is that of the right symbol.")


@dataclass
class _Comparison:
    """phi(c_k) and the student's states, of length one at each token index."""

    image_KJE: Float[Tensor, "K J E"]
    state_SJE: Float[Tensor, "S J E"]
    known_SJ: Shaped[Tensor, "S J"]
    output_K: Int[Tensor, " K"]


def measure_geometry(loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]) -> Geometry | None:
    """Measure distances under phi; None if the adapter has no phi, or ``traces`` hold no symbol of a concept.

    Args:
        traces: rollouts of the packet in which the student's states are measured; a few of the complete ones are used.
    """
    comparison = _compare(loaded, packet, traces)
    if comparison is None:
        return None
    cosine_KSJ = torch.einsum("kje,sje->ksj", comparison.image_KJE, comparison.state_SJE)
    n_indices_S = comparison.known_SJ.sum(-1)
    distance_KS = ((2 - 2 * cosine_KSJ) * comparison.known_SJ).sum(-1) / n_indices_S.clamp(min=1)
    present_S = n_indices_S > 0
    present_K = present_S[comparison.output_K]
    if not present_K.any():
        return None
    distance_KS, output_K = distance_KS[present_K], comparison.output_K[present_K]
    right_KS = torch.nn.functional.one_hot(output_K, len(present_S)).bool()
    other_KS = present_S & ~right_KS
    nearest_K = distance_KS.masked_fill(~present_S, torch.inf).argmin(-1)
    return Geometry(
        concepts=len(output_K),
        distance=float(distance_KS[right_KS].mean()),
        others=float(distance_KS[other_KS].mean()) if other_KS.any() else None,
        nearest=float((nearest_K == output_K).float().mean()),
    )


def concept_map(
    loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]
) -> dict[str, list[str] | list[list[float]]] | None:
    """Concepts in two dimensions, in the teacher and in the student, for a figure; None if there is no phi.

    Returns:
        ``teacher_xy`` (the K vectors) and ``anchor_xy`` (prototypes) under one projection; ``image_xy`` (phi of the K
        vectors) and ``own_xy`` (the student's states) under another. ``label`` is the symbol that each concept decodes
        to, ``anchor_label`` and ``own_label`` are those of the others. Lists, for JSON.
    """
    comparison = _compare(loaded, packet, traces)
    if comparison is None:
        return None
    symbols = packet.program.symbols
    vectors_KD = np.asarray(packet.concepts.vectors_KD, dtype=np.float64)
    with_prototype_S = np.flatnonzero(np.asarray(packet.concepts.prototype_count_S) > 0)
    prototype_SD = np.asarray(packet.concepts.prototypes_SD, dtype=np.float64)[with_prototype_S]
    present_S = torch.nonzero(comparison.known_SJ.sum(-1))[:, 0]
    image_KX, state_SX = (
        x.flatten(1).double().numpy() for x in (comparison.image_KJE, comparison.state_SJE[present_S])
    )
    teacher_xy, anchor_xy = _project(vectors_KD, prototype_SD)
    image_xy, own_xy = _project(image_KX, state_SX)
    return {
        "teacher_xy": teacher_xy,
        "anchor_xy": anchor_xy,
        "image_xy": image_xy,
        "own_xy": own_xy,
        "label": [symbols[s] for s in comparison.output_K.tolist()],
        "anchor_label": [symbols[s] for s in with_prototype_S],
        "own_label": [symbols[s] for s in present_S.tolist()],
    }


def _compare(loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]) -> _Comparison | None:
    reader = cal_reader(loaded.model)
    chosen = _cover([t for t in traces if t.complete])
    if reader is None or not chosen:
        return None
    config = reader.config
    tokenisation = tokenise(loaded.tokenizer, packet.program, chosen, student_chat(loaded.tokenizer, packet.spec))
    prefix = len(special_prefix(loaded.tokenizer))
    with loaded.peft_model.disable_adapter():
        states = student_targets(
            cast("PreTrainedModel", loaded.model),  # a PeftModel forwards what is read of it
            tokenisation.sequences,
            config.read_layers,
            config.write_layer,
            prefix=prefix,
            required=(),
        )
    states.unembedding = 0.0  # states alone: the closed-form start of phi may use the unembedding
    state_SJE, known_SJ = phi_targets(states.by_token, tokenisation, config)
    with torch.no_grad():
        image_KJE = reader.projector.image(reader.bank_KD, reader.anchor_SD).float().cpu()
    return _Comparison(
        torch.nn.functional.normalize(image_KJE, dim=-1),
        torch.nn.functional.normalize(state_SJE, dim=-1),
        known_SJ,
        torch.tensor(decode_outputs(packet.program, packet.concepts)),
    )


def _cover(traces: list[Trace]) -> list[Trace]:
    """The first traces, and those that write a symbol which occurs too rarely in the chosen ones."""
    count: Counter[int] = Counter()
    chosen: list[Trace] = []
    for trace in traces:
        written = [u.symbol for u in trace.units[trace.n_prompt :] if u.symbol is not None]
        if len(chosen) < MIN_TRACES or any(count[symbol] < MIN_OCCURRENCES for symbol in written):
            chosen.append(trace)
            count.update(written)
    return chosen


def _project(
    first_NX: Float64[np.ndarray, "_ X"], second_NX: Float64[np.ndarray, "_ X"]
) -> tuple[list[list[float]], list[list[float]]]:
    """Both sets on the first two principal axes of their union."""
    union_NX = np.concatenate([first_NX, second_NX])
    union_NX = union_NX - union_NX.mean(0)
    axes = np.linalg.svd(union_NX, full_matrices=False)[2][:2]
    xy = (union_NX @ axes.T).round(4).tolist()
    return xy[: len(first_NX)], xy[len(first_NX) :]
