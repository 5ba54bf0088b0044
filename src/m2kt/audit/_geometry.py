"""Where do the packet's vectors lie in the student? phi(c_k) held against the student's own symbol states.

The student's own states are measured afresh, with the adapter off: the state behind the block that the reader writes
to, where the frozen student is about to write each symbol, in traces that it reads twice. Lengths are left out: how
strongly a stream must be pushed is another question, and phi and state differ in it by construction.

Legend: K concepts, J phases (tokens of a symbol), E student width, S symbols, D teacher width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt.audit._steps import cal_reader
from m2kt.models import LoadedModel, special_prefix
from m2kt.packet import Packet, Trace, decode_outputs
from m2kt.student import student_targets, tokenise, unit_targets

# An average over few contexts still holds much of the contexts: with 8 traces a third of phi(c_k) seems misplaced.
FEWEST_TRACES = 16
FEWEST_MEETINGS = 3  # of each symbol, where the traces have them


class Geometry(BaseModel):
    """L_geo as the auditor sees it, on the packet's true vectors."""

    concepts: int = Field(description="Concepts whose symbol the student was seen about to write.")
    distance: float = Field(
        description="Mean squared distance of phi(c_k) to the student's own state for its symbol, both at length one: "
        "0 same direction, 2 unrelated."
    )
    others: float | None = Field(description="The same to the states of all other symbols, if there are any.")
    nearest: float = Field(description="Share of phi(c_k) that lie nearest to the right symbol's own state.")


@dataclass
class _Sides:
    """Both sides of phi, at length one a phase."""

    image_KJE: Tensor
    own_SJE: Tensor
    known_SJ: Tensor
    output_K: Tensor


def measure_geometry(loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]) -> Geometry | None:
    """Distances under phi; None where the adapter has no phi, or no symbol is met in ``traces``.

    Args:
        traces: complete roll-outs of the packet in which the student's own states are measured; a few are used.
    """
    sides = _sides(loaded, packet, traces)
    if sides is None:
        return None
    cosine_KSJ = torch.einsum("kje,sje->ksj", sides.image_KJE, sides.own_SJE)
    phases_S = sides.known_SJ.sum(-1)
    distance_KS = ((2 - 2 * cosine_KSJ) * sides.known_SJ).sum(-1) / phases_S.clamp(min=1)
    met_S = phases_S > 0
    met_K = met_S[sides.output_K]
    if not met_K.any():
        return None
    distance_KS, output_K = distance_KS[met_K], sides.output_K[met_K]
    right_KS = torch.nn.functional.one_hot(output_K, len(met_S)).bool()
    other_KS = met_S & ~right_KS
    nearest_K = distance_KS.masked_fill(~met_S, torch.inf).argmin(-1)
    return Geometry(
        concepts=len(output_K),
        distance=float(distance_KS[right_KS].mean()),
        others=float(distance_KS[other_KS].mean()) if other_KS.any() else None,
        nearest=float((nearest_K == output_K).float().mean()),
    )


def concept_map(loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]) -> dict[str, Any] | None:
    """Concepts in two dimensions, in the teacher and in the student, for a picture; None where there is no phi.

    Returns:
        ``teacher_xy`` (the K vectors) and ``anchor_xy`` (symbol anchors) under one projection; ``image_xy`` (phi of the
        K vectors) and ``own_xy`` (the student's own symbol states) under another. ``label`` names the symbol that each
        concept decodes to, ``anchor_label`` and ``own_label`` those of the others. All JSON-ready.
    """
    sides = _sides(loaded, packet, traces)
    if sides is None:
        return None
    symbols = packet.graph.symbols
    vectors_KD = np.asarray(packet.concepts.vectors_KD, dtype=np.float64)
    anchored_S = np.flatnonzero(np.asarray(packet.concepts.prototype_count_S) > 0)
    anchors_SD = np.asarray(packet.concepts.prototypes_SD, dtype=np.float64)[anchored_S]
    met_S = torch.nonzero(sides.known_SJ.sum(-1))[:, 0]
    image_KX, own_SX = (x.flatten(1).double().numpy() for x in (sides.image_KJE, sides.own_SJE[met_S]))
    teacher_xy, anchor_xy = _project(vectors_KD, anchors_SD)
    image_xy, own_xy = _project(image_KX, own_SX)
    return {
        "teacher_xy": teacher_xy,
        "anchor_xy": anchor_xy,
        "image_xy": image_xy,
        "own_xy": own_xy,
        "label": [symbols[s] for s in sides.output_K.tolist()],
        "anchor_label": [symbols[s] for s in anchored_S],
        "own_label": [symbols[s] for s in met_S.tolist()],
    }


def _sides(loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]) -> _Sides | None:
    reader = cal_reader(loaded.model)
    chosen = _cover([t for t in traces if t.complete])
    if reader is None or not chosen:
        return None
    model: Any = loaded.model
    config = reader.config
    spelling = tokenise(loaded.tokenizer, packet.graph, chosen)
    prefix = len(special_prefix(loaded.tokenizer))
    with model.disable_adapter():
        own = student_targets(
            model, spelling.traces, config.read_layers, config.write_layer, prefix=prefix, wanted=()
        )
    own.unembedding = 0.0  # the states alone: phi may have been started from the unembedding
    own_SJE, known_SJ = unit_targets(own.by_token, spelling.written, config.phases)
    with torch.no_grad():
        image_KJE = reader.projector.image(reader.bank_KD, reader.anchor_SD).float().cpu()
    return _Sides(
        torch.nn.functional.normalize(image_KJE, dim=-1),
        torch.nn.functional.normalize(own_SJE, dim=-1),
        known_SJ,
        torch.tensor(decode_outputs(packet.graph, packet.concepts)),
    )


def _cover(traces: list[Trace]) -> list[Trace]:
    """A few traces, and whichever others write a symbol that those before hardly do."""
    met: Counter[int] = Counter()
    chosen: list[Trace] = []
    for trace in traces:
        written = [u.symbol for u in trace.units[trace.n_prompt :] if u.symbol is not None]
        if len(chosen) < FEWEST_TRACES or any(met[symbol] < FEWEST_MEETINGS for symbol in written):
            chosen.append(trace)
            met.update(written)
    return chosen


def _project(
    one_NX: NDArray[np.float64], other_MX: NDArray[np.float64]
) -> tuple[list[list[float]], list[list[float]]]:
    """Both sets on the first two principal axes of their union."""
    both_X = np.concatenate([one_NX, other_MX])
    both_X = both_X - both_X.mean(0)
    axes = np.linalg.svd(both_X, full_matrices=False)[2][:2]
    xy = (both_X @ axes.T).round(4).tolist()
    return xy[: len(one_NX)], xy[len(one_NX) :]
