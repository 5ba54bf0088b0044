"""Machine-readable descriptions: of one packet (``m2kt inspect --json``), and of the format (JSON schemas)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from m2kt.probes import ProbeSpec

from ._alike import unseen
from ._check import KINDS
from ._decode import decode_outputs
from ._describe_merged import MergedDescription, describe_merged, supporters
from ._envelope import Envelope
from ._format1 import Graph
from ._json import JSONObject
from ._manifest import Embedding, Fidelity, Ledger, Manifest, TeacherCard
from ._policy import TrustPolicy
from ._program import Granularity, Program, State

if TYPE_CHECKING:
    from ._packet import Packet

_COMPUTED = ("equality", "teacher_tokens", "teacher_tokens_shared")
OPTIONAL = {"public", "word", "where", "rank", "merged", "base", *_COMPUTED}  # fields that canonical JSON leaves out


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RowDescription(_Model):
    """One row of a rule: a concept."""

    arguments: list[str] = Field(description="Symbols.")
    output: str | None = Field(description="The symbol that travels as text; null: as a vector only.")
    decoded: str | None = Field(description="The symbol that the vector decodes to; null without prototypes.")
    support: int = Field(description="Contexts in the vector's mean.")
    confidence: float | None = Field(
        description="The teacher's probability of what it writes at this row; null: not measured."
    )
    supporters: list[int] | None = Field(
        default=None,
        exclude_if=lambda supporters: supporters is None,
        description="Of a merged packet: indices of the sources that hold this output.",
    )


class RuleDescription(_Model):
    """A rule with its rows."""

    name: str = Field(description="Name within the packet.")
    arity: int = Field(description="Number of arguments.")
    family: int = Field(description="Rules of one family read the same arguments.")
    uses: int = Field(description="Leaves of the program that apply the rule.")
    range: list[str] = Field(description="Symbols that the rule writes.")
    rows: list[RowDescription] = Field(description="Rows, in concept order.")


class AttentionDescription(_Model):
    """Edges by the effect of their ablation. An attended edge without effect is not causal, and counted as such."""

    edges: int = Field(description="Steps and the units they read, with the teacher's attention.")
    causal_share: float | None = Field(description="Share of edges whose ablation changes the step.")
    causal: int | None = Field(default=None, description="Edges whose ablation changed the step.")
    not_causal: int | None = Field(default=None, description="Edges whose ablation changed nothing.")
    not_tested: int | None = Field(default=None, description="Edges that were not ablated.")

    @model_serializer(mode="wrap")
    def _without_unmeasured(self, serialise: SerializerFunctionWrapHandler) -> JSONObject:
        """Counts are left out where the packet has none."""
        data: JSONObject = serialise(self)
        return data if self.causal is not None else {n: data[n] for n in ("edges", "causal_share")}


class PacketDescription(_Model):
    """All of a packet but its numbers."""

    name: str = Field(description="Name of the packet.")
    digest: str = Field(description="Digest of its manifest.")
    signer: str | None = Field(description="Key id of the writer; null: not verified.")
    created: str = Field(description="Time of extraction.")
    teacher: TeacherCard = Field(description="The model that the skill comes from.")
    embedding: Embedding = Field(description="Where the concept vectors were recorded.")
    verbalised: float = Field(description="Share of rows whose output travels as text.")
    fallback: bool = Field(description="Plain traces travel instead of a program.")
    fallback_reason: str | None = Field(description="Why.")
    fidelity: Fidelity = Field(description="Measurements on unseen prompts.")
    ledger: Ledger = Field(description="What the extraction used.")
    attention: AttentionDescription = Field(description="Edges from steps to the units that they read.")
    symbols: list[str] = Field(description="All symbols.")
    rules: list[RuleDescription] = Field(description="All rules.")
    classes: list[int] = Field(description="The class of each symbol.")
    granularity: Granularity = Field(description="What slot values are cut into.")
    states: list[State] = Field(description="The program: what to write in each state.")
    leaves: int = Field(description="Leaves of all states.")
    stop: str = Field(description="The stop string; U+0004: a model's own end token.")
    seed: int = Field(description="Seed of the extraction.")
    libraries: dict[str, str] = Field(description="Library versions.")
    notes: list[str] = Field(description="Remarks for people.")
    merged: MergedDescription | None = Field(description="The packets that it was merged from; null: it was extracted.")
    unseen: list[str] = Field(description="What people do not see: invisible characters, look-alikes, other tensors.")


def read_outputs(packet: Packet) -> list[int | None]:
    """The symbol that each of the K rows writes, decoded by the packet's prototypes.

    Without prototypes: the verbalised symbol, None for a row that is not verbalised.
    """
    program = packet.program
    if not program.n_concepts:
        return []
    if not len(packet.concepts.prototype_symbol_P):
        return [output for rule in program.rules for output in rule.outputs]
    return list(decode_outputs(program, packet.concepts))


def describe(packet: Packet) -> PacketDescription:
    """Everything that ``m2kt inspect`` shows."""
    program, manifest, concepts = packet.program, packet.manifest, packet.concepts
    decoded, confidence_K = read_outputs(packet), packet.confidence_K
    held_by = supporters(packet)

    def symbol(index: int | None) -> str | None:
        return None if index is None else program.symbols[index]

    rules = [
        RuleDescription(
            name=rule.name,
            arity=rule.arity,
            family=rule.family,
            uses=rule.uses,
            range=[program.symbols[s] for s in rule.range],
            rows=[
                RowDescription(
                    arguments=[program.symbols[a] for a in row],
                    output=symbol(rule.outputs[i]),
                    decoded=symbol(decoded[k]),
                    support=int(concepts.support_K[k]),
                    confidence=None if confidence_K is None else round(float(confidence_K[k]), 4),
                    supporters=None if held_by is None else held_by[k],
                )
                for i, (k, row) in enumerate(zip(rule.concepts, rule.rows, strict=True))
            ],
        )
        for rule in program.rules
    ]
    copied = ("name", "created", "teacher", "embedding", "verbalised", "fallback", "fallback_reason")
    more = ("fidelity", "ledger", "seed", "libraries", "notes")
    return PacketDescription(
        digest=packet.digest,
        signer=packet.signature.keyid if packet.signature else None,
        attention=_attention(packet),
        symbols=list(program.symbols),
        rules=rules,
        classes=program.classes,
        granularity=program.granularity,
        states=program.states,
        leaves=program.n_leaves,
        stop=program.stop,
        merged=describe_merged(packet, decoded),
        unseen=unseen(program.symbols, [n for arrays in packet._tensors().values() for n in arrays], KINDS),
        **{name: getattr(manifest, name) for name in (*copied, *more)},
    )


def _attention(packet: Packet) -> AttentionDescription:
    causal_M = packet.attention.get("causal_M")
    edges = next((len(a) for n, a in packet.attention.items() if n.startswith("edges_M")), 0)
    described = AttentionDescription(edges=edges, causal_share=packet.manifest.fidelity.causal_edge_share)
    if causal_M is not None:
        described.causal = int((causal_M == 1).sum())
        described.not_causal = int((causal_M == 0).sum())
        described.not_tested = int((causal_M < 0).sum())
    return described


def schemas() -> dict[str, JSONObject]:
    """JSON schemas of the parts and of the trust policy, as they are checked in under docs/schemas.

    Canonical JSON has all fields; files that people write may leave out those with defaults.
    """
    canonical: dict[str, type[BaseModel]] = {"manifest": Manifest, "program": Program, "signature": Envelope}
    canonical["graph"] = Graph  # of format 1
    by_people: dict[str, type[BaseModel]] = {"probe-spec": ProbeSpec, "trust-policy": TrustPolicy}
    return {
        **{name: _all_required(model.model_json_schema()) for name, model in canonical.items()},
        **{name: model.model_json_schema() for name, model in by_people.items()},
    }


def _all_required(schema: JSONObject) -> JSONObject:
    for part in (schema, *schema.get("$defs", {}).values()):
        if "properties" in part:
            part["required"] = [name for name in part["properties"] if name not in OPTIONAL]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
