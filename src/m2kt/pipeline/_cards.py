"""README.md of adapters and checkpoints, with the metadata that the Hub reads; its figures are those of the receipt.

An adapter's card is part of its state, so its signed receipt covers the card. huggingface_hub's
``ModelCard.from_template`` needs jinja2, which the core does not depend on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel

from m2kt.packet import Statement, without_html
from m2kt.pipeline._receipt import Draft
from m2kt.pipeline._statements import Receipt
from m2kt.settings import StudentSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from m2kt.models import LoadedModel

_LICENCE_ID = re.compile(r"[a-z][a-z0-9.-]*")  # as in packet cards: no YAML parser reads it as a number
_LOAD_ADAPTER = """```python
import m2kt
from peft import AutoPeftModelForCausalLM, PeftModel

m2kt.register()                                       # without it peft raises KeyError: 'CAL'
model = AutoPeftModelForCausalLM.from_pretrained("{path}")
model = PeftModel.from_pretrained(base, "{path}")     # on a base that is loaded already
```

`m2kt verify {path}` compares the receipt with the files here, this page included."""
_LOAD_PLAIN = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{path}"{options})
tokenizer = AutoTokenizer.from_pretrained({words})
```"""
_CHANGED = "Its weights are changed: unlike an adapter it cannot be switched off."
_SHARED = (
    "The skill is the teacher's, with its errors.",
    "A signature names who vouches for it; it says nothing about quality.",
)


def adapter_card(draft: Draft, student: LoadedModel) -> str:
    """Card of an adapter that ingest accepted."""
    reader = StudentSettings.model_validate(draft.receipt.cal["student"]).reader.kind != "none"
    limits = [
        "The reader is custom code around a frozen base: it runs in transformers through peft, not in vLLM or "
        "llama.cpp, and is not merged. `m2kt consolidate` trains a checkpoint that imitates it."
        if reader
        else "`import m2kt.student` comes before loading; `m2kt export` merges it into an ordinary checkpoint.",
        "It fits this base alone, by digest.",
    ]
    loading = _LOAD_ADAPTER.format(path="ADAPTER")
    return _of_draft(draft, student, "peft", "adapter", {}, loading, limits)


def plain_card(draft: Draft, student: LoadedModel) -> str:
    """Card of a checkpoint written by consolidate."""
    rows = {"imitates the adapter": f"`{draft.receipt.cal['adapter']}`"}
    loading = _LOAD_PLAIN.format(path="DIR", words='"DIR"', options="")
    return _of_draft(draft, student, "transformers", "finetune", rows, loading, [_CHANGED])


def exported_card(
    signed_receipt: tuple[Statement, Receipt] | None,
    source: str,
    base: LoadedModel,
    aside: Path,
    *,
    changed: bool,
    left_out: list[str],
) -> str:
    """Card of an export, from the receipt of its source if there is one.

    Args:
        aside: the card's directory; a GGUF file in it names the options that transformers needs.
        changed: the weights differ from the base's.
        left_out: blocks whose reader is not in the checkpoint.
    """
    limits = [_CHANGED] if changed else []
    limits += [f"The reader after {name} is not in it, nor that reader's skill." for name in left_out]
    options, words = "", '"DIR"'
    file = next(aside.glob("*.gguf"), None)
    if file is not None:
        from m2kt.models import gguf_config_overrides

        words += f', gguf_file="{file.name}"'
        options = words.removeprefix('"DIR"') + "".join(f", {k}={v}" for k, v in gguf_config_overrides(file).items())
    rows, title = {"exported from": source}, base.name
    if signed_receipt is not None:
        statement, receipt = signed_receipt
        rows |= _of_receipt(receipt, statement.packet, statement.keyids)
        title, limits = f"{statement.name} in {receipt.base_model.name}", [*limits, *_SHARED]
    head = _metadata("transformers", base.hub_id, "finetune", None)
    # a receipt's measurements include the reader
    figures = None if signed_receipt is None or left_out else signed_receipt[1]
    loading = _LOAD_PLAIN.format(path="DIR", words=words, options=options)
    return _page(head, title, None, rows, figures, loading, limits)


def _of_draft(
    draft: Draft,
    student: LoadedModel,
    library: str,
    relation: str,
    further: dict[str, str],
    loading: str,
    limits: list[str],
) -> str:
    """The card of an adapter or a checkpoint that was made from a packet."""
    packet = draft.packet
    teacher, spec = packet.manifest.teacher, packet.spec
    signers = packet.signature.keyids or (packet.signature.keyid,) if packet.signature else ()
    rows = {
        "teacher": f"`{teacher.name}` ({teacher.architecture}), `{teacher.digest}`",
        "packet signed by": ", ".join(f"key `{k}`" for k in signers) or "nobody, it was not saved",
        **_of_receipt(draft.receipt, packet.digest, (draft.keyid,)),
        "licences": f"teacher: {teacher.licence or 'not stated'}; base: {student.licence or 'not stated'}",
        **further,
    }
    shapes = ", ".join(f"`{spec.template_text(i)}`" for i in range(spec.n_templates))
    limits = [*limits, f"Probed shapes: {shapes}. Other shapes are not guaranteed.", *_SHARED]
    head = _metadata(library, student.hub_id, relation, _common(teacher.licence, student.licence))
    title = f"{packet.manifest.name} {'on' if relation == 'adapter' else 'in'} {student.name}"
    return _page(head, title, spec.description, rows, draft.receipt, loading, limits)


def _metadata(library: str, base_model: str | None, relation: str, licence: str | None) -> str:
    """The YAML block that the Hub reads; a base that is not on the Hub is named in the text alone."""
    from huggingface_hub import ModelCardData

    tags = ["m2kt", "knowledge-packet"]
    if base_model is not None:
        tags.append(f"base_model:{relation}:{base_model}")
    data = ModelCardData(
        library_name=library,
        base_model=base_model,
        license=licence,
        pipeline_tag="text-generation",
        tags=tags,
    )
    return f"---\n{data.to_yaml()}\n---"


def _page(
    head: str,
    title: str,
    about: str | None,
    rows: dict[str, str],
    receipt: Receipt | None,
    loading: str,
    limits: list[str],
) -> str:
    """The card's text."""
    parts = [head, f"# {title}", about or "", _table(("", ""), rows.items())]
    if receipt is not None:
        parts += ["## Figures, from the receipt", _figures(receipt), "## Ledger", _ledger(receipt)]
    parts += ["## How to load it", loading]
    if limits:
        parts += ["## Limits", "\n".join(f"* {x}" for x in limits)]
    return without_html("\n\n".join(part for part in parts if part)) + "\n"


def _of_receipt(receipt: Receipt, packet: str, keyids: Iterable[str]) -> dict[str, str]:
    """Provenance, as a receipt records it."""
    origin = receipt.origin
    trust = "not checked" if origin is None else "trusted by its policy" if origin.trusted else "not trusted"
    return {
        "packet": f"`{packet}`",
        "packet's origin": trust,
        "base": f"`{receipt.base_model.name}`, `{receipt.base_model.digest}`",
        "verdict": receipt.verdict,
        "receipt signed by": ", ".join(f"key `{k}`" for k in keyids),
        "finished": receipt.finished,
    }


def _common(*licences: str | None) -> str | None:
    """The id of the licence that all parts share; None where they differ, state none, or it is no id."""
    if len(set(licences)) != 1 or licences[0] is None:
        return None
    name = licences[0].lower()
    return name if _LICENCE_ID.fullmatch(name) else None


class _Neutral(BaseModel):
    perplexity_before: float
    perplexity_after: float


class _Agreement(BaseModel):
    n: int
    as_packet: float | None


class _Confidence(BaseModel):
    sure: _Agreement | None
    unsure: _Agreement | None


class _Certificate(BaseModel):
    bound: float
    traces: int
    confidence: float


class _Shape(BaseModel):
    template: str
    held_out: bool = False
    accuracy: float | None
    n: int


class _Surrounding(BaseModel):
    """Receipts of earlier versions have no ``wrong`` and ``silent``."""

    name: str
    expected: str = "right"
    accuracy: float
    wrong: int | None = None
    silent: int = 0
    n: int

    def says(self) -> str:
        """Its figures."""
        said = f"{_percent(self.accuracy)} of {self.n}"
        if self.wrong is not None and self.accuracy < 1:
            said += f", {self.wrong} wrong, {self.silent} silent"
        return said + (" (another question: silence is right)" if self.expected == "silent" else "")


class _Figures(BaseModel):
    """What a card shows of a receipt's measurements. Fields with a default are not in receipts of earlier versions."""

    accuracy: float | None
    interval: tuple[float | None, float | None]
    n: int
    reference: str
    retention: float | None
    gap_recovered: float | None
    neutral: _Neutral
    confidence: _Confidence | None = None
    certificate: _Certificate | None = None
    surroundings: list[_Surrounding] = []
    shapes: list[_Shape]
    held_out: list[_Shape]


def _figures(receipt: Receipt) -> str:
    after = _Figures.model_validate(receipt.after)
    low, high = after.interval
    rows = {
        "accuracy before": _percent(receipt.before.accuracy),
        "accuracy after": f"{_percent(after.accuracy)} [{_percent(low)}, {_percent(high)}] of {after.n} prompts",
        "reference": after.reference,
        "retention": _percent(after.retention),
        "gap recovered": _percent(after.gap_recovered),
    }
    neutral = after.neutral
    rows["perplexity on neutral text"] = f"{neutral.perplexity_before:.4g} before, {neutral.perplexity_after:.4g} after"
    if after.confidence:
        kinds = (("high", after.confidence.sure), ("low", after.confidence.unsure))
        rows["agreement with the packet"] = ", ".join(
            f"{_percent(part.as_packet)} of {part.n} prompts of {kind} teacher confidence"
            for kind, part in kinds
            if part
        )
    if certificate := after.certificate:
        rows["certificate"] = (
            f"P(right) at least {_percent(certificate.bound)} ({certificate.traces} traces, confidence "
            f"{_percent(certificate.confidence)})"
        )
    else:
        rows["certificate"] = "none"
    for surrounding in after.surroundings[1:]:
        rows[f"accuracy, asked {surrounding.name}"] = surrounding.says()
    for shape in (*after.shapes, *after.held_out):
        kind = "never probed" if shape in after.held_out else "probed"
        rows[f"shape `{shape.template}` ({kind})"] = f"{_percent(shape.accuracy)} of {shape.n}"
    return _table(("measure", "value"), rows.items())


def _ledger(receipt: Receipt) -> str:
    rows = {k.replace("_", " "): f"{v:,}" for k, v in receipt.ledger.items() if isinstance(v, int)}
    return _table(("used", ""), rows.items())


def _table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    body = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join([f"| {heads[0]} | {heads[1]} |", "| --- | --- |", *body])


def _percent(value: float | None) -> str:
    """``0.995`` as ``99.5 %``."""
    return "not measured" if value is None else f"{100 * value:.1f} %"
