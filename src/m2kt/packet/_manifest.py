"""M, the metadata of a packet: provenance, fidelity, cost."""

from __future__ import annotations

from importlib import metadata
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import PacketError, explain

from ._json import JSONObject, check_canonical, parse_json
from ._json import canonical_json as canonical_json
from ._merged import Merged

FORMAT_VERSION = 2
VERSIONS = (1, FORMAT_VERSION)
# What the manifest of format 1 holds: a field that came later is not in its canonical form.
_TOP = "format_version name created teacher embedding verbalised ledger seed config libraries fallback fallback_reason"
_FIDELITY = "agreement coverage probe_accuracy causal_edge_share floor shapes other"
_LEDGER = "labelled_examples teacher_passes teacher_tokens_in_traces concepts packet_bytes seconds"
FIELDS_1: dict[str, bool | dict[str, bool]] = {
    **dict.fromkeys((*_TOP.split(), "notes", "files"), True),
    "ledger": dict.fromkeys(_LEDGER.split(), True),
    "fidelity": dict.fromkeys(_FIDELITY.split(), True),
}

ConceptSource = Literal["interrogation", "clustering", "gradient", "probe"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TeacherCard(_Model):
    """The model that the skill comes from."""

    name: str = Field(description="Name it was loaded by: zoo:addition, a directory, a Hub id.")
    digest: str = Field(description="sha256 over weights, configuration and tokenizer.")
    tokenizer_digest: str = Field(description="sha256 over the tokenizer's files.")
    architecture: str = Field(description="Model class, such as LlamaForCausalLM.")
    parameters: int = Field(ge=0, description="Number of parameters.")
    width: int = Field(ge=1, description="D, width of the hidden states and of the concept vectors.")
    layers: int = Field(ge=1, description="Number of decoder blocks.")
    licence: str | None = Field(default=None, description="Licence of the teacher's weights, where known.")
    base: str | None = Field(
        default=None,
        exclude_if=lambda base: base is None,
        description="The model that the teacher was tuned from, as its model card says. Left out where it says none.",
    )


class Embedding(_Model):
    """Where in the teacher the concept vectors were recorded."""

    layer: int = Field(ge=0, description="0: the input of the first block; i: the output of block i-1.")
    source: ConceptSource = Field(default="interrogation", description="Method that found and embedded the concepts.")


class ShapeFidelity(_Model):
    """Fidelity on one template."""

    template: str = Field(description="Template text.")
    n: int = Field(ge=0, description="Number of fresh prompts.")
    agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of covered prompts on which the rollout is the teacher's answer.",
    )
    coverage: float = Field(ge=0, le=1, description="Share of prompts that the program rolls out to the end.")


class SizeFidelity(_Model):
    """Fidelity at a size that was not probed."""

    template: str = Field(description="Template text.")
    units: int = Field(ge=0, description="Units of its prompts.")
    coverage: float = Field(ge=0, le=1, description="Share of prompts that the program rolls out to the end.")
    asked: int = Field(default=0, ge=0, description="Prompts that the teacher answered; 0: it was not asked there.")
    agreed: int = Field(default=0, ge=0, description="Of these, rollouts that are the teacher's answer.")
    confirmed: bool = Field(
        default=False,
        description="The program accounts for the teacher's answers; false though asked: the teacher breaks there, "
        "or writes in another way.",
    )


class Fidelity(_Model):
    """Measured on prompts never used for extraction (DESIGN section 3, step 8)."""

    agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of covered prompts on which the rollout is the teacher's answer.",
    )
    coverage: float | None = Field(
        default=None, ge=0, le=1, description="Share of prompts that the program rolls out to the end."
    )
    probe_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Cross-validated accuracy of the linear probe that predicts a step from the state.",
    )
    causal_edge_share: float | None = Field(
        default=None, ge=0, le=1, description="Share of attention edges whose ablation changes the step."
    )
    floor: float | None = Field(default=None, description="Agreement times coverage below which extraction refuses.")
    shapes: list[ShapeFidelity] = Field(default_factory=list, description="The same by template.")
    sizes: list[SizeFidelity] = Field(default_factory=list, description="The same at sizes that were not probed.")
    other: dict[str, float] = Field(default_factory=dict, description="Further measurements by name.")


class Equality(_Model):
    """How the teacher was computed, against the plain path: a prompt at a time, in fp32, nothing padded or cached."""

    dtype: str = Field(description="Data type in which the teacher was computed, such as bfloat16.")
    tokens: int = Field(ge=1, description="Positions compared, along answers of the teacher.")
    greedy: float = Field(ge=0, le=1, description="Share of tokens written that the plain path chooses too.")
    total_variation: float = Field(ge=0, le=1, description="Mean distance of two distributions of the next token.")
    total_variation_max: float = Field(ge=0, le=1, description="The largest such distance.")
    cosine: float = Field(ge=-1, le=1, description="Smallest cosine of two states, of a middle or the last layer.")


class Ledger(_Model):
    """What the extraction used: the count behind "data-free"."""

    labelled_examples: int = Field(default=0, ge=0, description="Labelled examples seen.")
    teacher_passes: int = Field(default=0, ge=0, description="Sequences sent through the teacher at extraction.")
    teacher_tokens: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda tokens: tokens is None,
        description="Tokens that the teacher computed. Left out where nobody counted.",
    )
    teacher_tokens_shared: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda tokens: tokens is None,
        description="Tokens that it would have computed besides without prefixes that are computed once.",
    )
    teacher_tokens_in_traces: int = Field(default=0, ge=0, description="Tokens of teacher text in the packet.")
    concepts: int = Field(default=0, ge=0, description="K, rows of the packet's rules.")
    packet_bytes: int = Field(default=0, ge=0, description="Bytes of all parts except manifest, card and signature.")
    seconds: float = Field(default=0.0, ge=0, description="Wall-clock time of the extraction.")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that matter, from package metadata: nothing heavy is imported."""
    versions = {}
    for name in ("m2kt", "torch", "transformers", "tokenizers", "numpy", "safetensors"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


class Manifest(_Model):
    """``manifest.json``."""

    format_version: Literal[1, 2] = Field(default=2, description="Version of the packet format.")
    name: str = Field(min_length=1, description="Name of the packet, usually that of the probe spec.")
    created: str = Field(description="Time of extraction, ISO 8601 in UTC; supplied by the caller.")
    teacher: TeacherCard = Field(description="The model that the skill comes from.")
    embedding: Embedding = Field(description="Where the concept vectors were recorded.")
    equality: Equality | None = Field(
        default=None,
        exclude_if=lambda equality: equality is None,
        description="How the teacher was computed, against the plain path. Left out where nobody compared.",
    )
    verbalised: float = Field(default=0.0, ge=0, le=1, description="v, share of rows whose output travels as text.")
    fidelity: Fidelity = Field(default_factory=Fidelity, description="Measurements on unseen prompts.")
    ledger: Ledger = Field(default_factory=Ledger, description="What the extraction used.")
    seed: int = Field(default=0, description="Seed of the extraction.")
    config: JSONObject = Field(default_factory=dict, description="The resolved configuration of the extraction.")
    libraries: dict[str, str] = Field(default_factory=library_versions, description="Library versions.")
    fallback: bool = Field(default=False, description="True: no program was found; the packet holds plain traces.")
    fallback_reason: str | None = Field(default=None, description="Why no program was found.")
    notes: list[str] = Field(default_factory=list, description="Remarks for people.")
    merged: Merged | None = Field(
        default=None,
        exclude_if=lambda merged: merged is None,
        description="The packets that this one was merged from. Left out where it was extracted from one teacher.",
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        description="sha256 of every part except this manifest and the signature; set when the packet is saved.",
    )


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Manifest from its bytes. An unknown version is reported before anything else is checked."""
    what = f"{where}: manifest.json"
    data = parse_json(raw, what)
    version = data.get("format_version") if isinstance(data, dict) else None
    if version not in VERSIONS or type(version) is not int:
        raise PacketError(
            f"{where}: expected packet format version 1 or {FORMAT_VERSION}, got {version!r}; "
            "extract it again, or use the release of m2kt that wrote it"
        )
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        raise PacketError(f"{what} is not valid: {explain(error)}") from error
    fields = FIELDS_1 if version == 1 else None
    check_canonical(raw, lambda: manifest.model_dump(mode="json", include=fields), what)
    return manifest
