"""What a merged packet says of the packets it was made of: who they are, which rows each supports, where they differ.

The packets themselves travel in ``traces.safetensors`` (``packets_x``), so that any of them can be taken out again. At
v = 0 no output stands here as text: a conflict names its row and who is on which side; what each side writes is decoded
from vectors, as that of any row.

N sources, K concepts, Q sides of conflicts that lost, D width of the space.
"""

from __future__ import annotations

import hashlib
import io
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import PacketError

from ._parts import MANIFEST, SIGNATURE, read_zip
from ._sign import verify_files
from ._tensors import Array, Arrays

Method = Literal["confidence", "vote", "dawid-skene", "prefer", "keep"]
Digest = str
MAX_SOURCES = 16
PACKETS, SUPPORTERS, ORIGIN, DISSENT = "packets_x", "supporters_KN", "origin_K", "dissent_QD"
ABSENT, SUPPORTS, CONTRADICTS, LOW = 0, 1, 2, 3
"""What a source has to do with a row: it lacks it, holds it, holds another output, or was not counted as unsure."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SpaceFit(_Model):
    """How a source's vectors came into the merged packet's space."""

    method: Literal["same", "ridge"] = Field(
        description="same: it is the source's own space; ridge: a linear map, fitted on prototype samples and rows."
    )
    shared_symbols: int = Field(ge=0, description="Symbols with prototypes in both spaces, on which the map is fitted.")
    new_symbols: int = Field(ge=0, description="Symbols of the source alone, which got a direction of their own.")
    error: float = Field(
        ge=0,
        le=1,
        description="Cross-validated: share of left-out prototype samples and rows that decode to another symbol.",
    )
    residual: float = Field(ge=0, description="Cross-validated: error of the mapped samples by their deviation.")
    moved: int = Field(ge=0, description="Rows that decode to another symbol than in their own space.")


class MergedSource(_Model):
    """One of the packets that a merged packet was made of."""

    digest: Digest = Field(description="Digest of the packet.")
    name: str = Field(description="Its name.")
    teacher: str = Field(description="Name of its teacher.")
    teacher_digest: str = Field(description="Digest of its teacher.")
    licence: str | None = Field(description="Licence of its teacher's weights, where known.")
    signers: list[str] = Field(min_length=1, description="Key ids of its signers, its author first.")
    lineage: int = Field(ge=0, description="Sources of one lineage have one number, and one vote.")
    kin: str | None = Field(description="Why it is of the lineage of a source before it; null: it is not.")
    space: SpaceFit = Field(description="How its vectors came into this space.")
    bytes: int = Field(ge=1, description="Size of its single-file form in packets_x.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its single-file form.")


class Conflict(_Model):
    """A row for which sources write different symbols."""

    rule: str = Field(description="Name of the rule.")
    arguments: list[str] = Field(description="Symbols of the row.")
    sides: list[list[int]] = Field(
        min_length=2, description="Indices of sources by what they write; the row has that of the first."
    )
    decided: bool = Field(description="False: kept as a dissent; the row is what most lineages write, undecided.")
    confidence: float = Field(ge=0, le=1, description="Probability of the first side, by the method.")


class StateDifference(_Model):
    """A state in which the merged program writes otherwise than a source's own, on rare texts."""

    state: str = Field(description="Name of the state.")
    source: int = Field(ge=0, description="Index of the source.")
    texts: int = Field(ge=0, description="Of the source's own rollouts, those that come out otherwise.")
    of: int = Field(ge=0, description="Rollouts that were compared.")


class Merged(_Model):
    """How a packet was merged. The same packets and options always give the same packet."""

    resolve: Method = Field(description="How conflicts were decided.")
    prefer: Digest | None = Field(description="The source that has its way under 'prefer'; null otherwise.")
    min_confidence: float = Field(ge=0, le=1, description="Rows below it are left to another source that has them.")
    declared: list[list[Digest]] = Field(description="Sources that the merger declared to be of one lineage.")
    sources: list[MergedSource] = Field(
        min_length=2,
        max_length=MAX_SOURCES,
        description="The packets, in order of the axis N; the first one's space is this packet's.",
    )
    states: list[StateDifference] = Field(description="Where the program differs from a source's, on rare texts.")
    shared_rows: int = Field(ge=0, description="Rows that several sources hold.")
    yielded: int = Field(ge=0, description="Rows below the confidence, left to another source.")
    conflicts: list[Conflict] = Field(description="Rows in conflict, in order of the rows.")


def check_merged(merged: Merged | None, n_concepts: int, traces: Arrays, where: str) -> None:
    """Raise PacketError where a merged packet's tensors are not what its manifest says."""
    if merged is None:
        return
    n = len(merged.sources)
    wanted = {PACKETS: 1, SUPPORTERS: 2, ORIGIN: 1, DISSENT: 2}
    for name, axes in wanted.items():
        if name not in traces or traces[name].ndim != axes:
            raise PacketError(f"{where}: traces.safetensors lacks {name}, which a merged packet has; get it again")
    supporters_KN, origin_K = traces[SUPPORTERS], traces[ORIGIN]
    if supporters_KN.shape != (n_concepts, n) or len(origin_K) != n_concepts:
        raise PacketError(
            f"{where}: supporters_KN has shape {supporters_KN.shape}, expected {(n_concepts, n)}: rows, sources"
        )
    if supporters_KN.size and (supporters_KN.min() < ABSENT or supporters_KN.max() > LOW):
        raise PacketError(f"{where}: supporters_KN holds more than {ABSENT}..{LOW}")
    if origin_K.size and (origin_K.min() < 0 or origin_K.max() >= n):
        raise PacketError(f"{where}: origin_K names a source that does not exist; expected 0..{n - 1}")
    indices = [i for conflict in merged.conflicts for side in conflict.sides for i in side]
    if any(not 0 <= i < n for i in indices):
        raise PacketError(f"{where}: a conflict names a source that does not exist; expected 0..{n - 1}")
    _check_conflicts(merged, where)
    lost = sum(len(conflict.sides) - 1 for conflict in merged.conflicts)
    if len(traces[DISSENT]) != lost:
        raise PacketError(f"{where}: dissent_QD has {len(traces[DISSENT])} vectors, expected {lost}, one a side lost")
    for source, content in zip(merged.sources, split_packets(merged, traces[PACKETS], where), strict=True):
        if hashlib.sha256(content).hexdigest() != source.sha256:
            raise PacketError(f"{where}: the packet {source.digest} in it is not the one that was merged; get it again")


def _check_conflicts(merged: Merged, where: str) -> None:
    for conflict in merged.conflicts:
        listed = [i for side in conflict.sides for i in side]
        if not all(conflict.sides) or len(set(listed)) < len(listed):
            raise PacketError(f"{where}: a conflict has a side without sources, or a source on two sides")


def split_packets(merged: Merged, packets_x: Array, where: str = "packet") -> list[bytes]:
    """The single-file forms of the sources."""
    sizes = [source.bytes for source in merged.sources]
    if packets_x.dtype != np.uint8 or len(packets_x) != sum(sizes):
        raise PacketError(f"{where}: packets_x has {len(packets_x)} bytes, expected {sum(sizes)} of its sources")
    ends = np.cumsum([0, *sizes])
    return [packets_x[a:b].tobytes() for a, b in pairwise(ends)]


def check_sources(merged: Merged | None, traces: Arrays, where: str) -> None:
    """Raise PacketError unless each source is signed by whom the manifest says, and has the digest it says."""
    if merged is None:
        return
    for source, parts in zip(merged.sources, parts_within(merged, traces[PACKETS]), strict=True):
        what = f"{where}: the packet {source.digest} in it"
        signature = verify_files({n: c for n, c in parts.items() if n != SIGNATURE}, parts[SIGNATURE], what)
        digest = "sha256:" + hashlib.sha256(parts[MANIFEST]).hexdigest()
        signers = [signature.keyid, *sorted(set(signature.keyids) - {signature.keyid})]
        if (digest, signers) != (source.digest, source.signers):
            raise PacketError(f"{what} is {digest} by {signers[0][:12]}, another packet or signer; get it again")


def parts_within(merged: Merged, packets_x: Array) -> list[dict[str, bytes]]:
    """The parts of each source, unverified: :meth:`Packet.from_parts` verifies them."""
    files = split_packets(merged, packets_x)
    names = [f"the packet {source.digest} in it" for source in merged.sources]
    return [read_zip(io.BytesIO(file), len(file), name) for file, name in zip(files, names, strict=True)]
