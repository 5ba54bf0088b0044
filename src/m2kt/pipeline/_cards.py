"""README.md of what is written: for people, with the block of metadata that the Hub reads. Quotes receipts alone.

An adapter's card is part of its state, so the signed receipt vouches for it; it is written from that receipt's draft.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from m2kt.packet import Statement, without_html
from m2kt.pipeline._receipt import Draft
from m2kt.pipeline._statements import Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from m2kt.models import LoadedModel

_LICENCE_ID = re.compile(r"[a-z][a-z0-9.-]*")  # as packet cards have it: no YAML reader takes it for a number
_LOAD_ADAPTER = """```python
import m2kt
from peft import AutoPeftModelForCausalLM, PeftModel

m2kt.register()                                       # without it peft raises KeyError: 'CAL'
model = AutoPeftModelForCausalLM.from_pretrained("{here}")
model = PeftModel.from_pretrained(base, "{here}")     # the same, on a base that is loaded already
```

`m2kt verify {here}` holds the receipt against what lies here, this page included."""
_LOAD_PLAIN = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{here}"{options})
tokenizer = AutoTokenizer.from_pretrained({words})
```"""
_CHANGED = "Its weights are changed: unlike an adapter it cannot be switched off."
_SHARED = (
    "The skill is what the teacher does, its errors included.",
    "A signature says who vouches for it, not that it is good.",
)


def adapter_card(draft: Draft, student: LoadedModel) -> str:
    """Card of an adapter that ingest accepted."""
    reader = draft.receipt.cal["student"]["reader"]["kind"] != "none"
    limits = [
        "The reader is custom code around a frozen base: it runs in transformers through peft, not in vLLM or "
        "llama.cpp, and is not merged. `m2kt consolidate` trains a checkpoint that imitates it."
        if reader
        else "`import m2kt.student` comes before loading; `m2kt export` merges it into an ordinary checkpoint.",
        "It belongs to this base, by digest.",
    ]
    loading = _LOAD_ADAPTER.format(here="ADAPTER")
    return _of_draft(draft, student, "peft", "adapter", {}, loading, limits)


def plain_card(draft: Draft, student: LoadedModel) -> str:
    """Card of a checkpoint that consolidate wrote."""
    rows = {"imitates the adapter": f"`{draft.receipt.cal['adapter']}`"}
    loading = _LOAD_PLAIN.format(here="DIR", words='"DIR"', options="")
    return _of_draft(draft, student, "transformers", "finetune", rows, loading, [_CHANGED])


def exported_card(
    said: tuple[Statement, Receipt] | None,
    source: str,
    base: LoadedModel,
    aside: Path,
    *,
    changed: bool,
    left_out: list[str],
) -> str:
    """Card of an export, from the receipt beside its source where there is one.

    Args:
        aside: the directory that the card will lie in; a GGUF in it is asked what transformers must be told.
        changed: the weights are not those of a model that somebody else made.
        left_out: blocks behind which a reader was.
    """
    limits = [_CHANGED] if changed else []
    limits += [f"The reader behind {name} is not in it, nor what that reader knows." for name in left_out]
    options, words = "", '"DIR"'
    file = next(aside.glob("*.gguf"), None)
    if file is not None:
        from m2kt.models import gguf_config_overrides

        words += f', gguf_file="{file.name}"'
        options = words.removeprefix('"DIR"') + "".join(f", {k}={v}" for k, v in gguf_config_overrides(file).items())
    rows, title = {"exported from": source}, base.name
    if said is not None:
        rows |= _of_receipt(said[1], said[0].packet, said[0].keyids)
        title, limits = f"{said[0].name} in {said[1].base_model.name}", [*limits, *_SHARED]
    head = _metadata("transformers", base.hub_id, "finetune", None)
    # what a receipt measured, it measured with the reader
    figures = None if said is None or left_out else said[1]
    loading = _LOAD_PLAIN.format(here="DIR", words=words, options=options)
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
    """The card of what a packet was taken in by, while the packet is at hand."""
    packet = draft.packet
    teacher, spec = packet.manifest.teacher, packet.spec
    signers = packet.signature.keyids or (packet.signature.keyid,) if packet.signature else ()
    rows = {
        "teacher": f"`{teacher.name}` ({teacher.architecture}), `{teacher.digest}`",
        "packet signed by": ", ".join(f"key `{k}`" for k in signers) or "nobody: it was not saved",
        **_of_receipt(draft.receipt, packet.digest, (draft.keyid,)),
        "licences": f"teacher: {teacher.licence or 'not stated'}; base: {student.licence or 'not stated'}",
        **further,
    }
    shapes = ", ".join(f"`{spec.template_text(i)}`" for i in range(spec.n_templates))
    limits = [*limits, f"Shapes that were probed: {shapes}. Others are not promised.", *_SHARED]
    head = _metadata(library, student.hub_id, relation, _common(teacher.licence, student.licence))
    title = f"{packet.manifest.name} {'on' if relation == 'adapter' else 'in'} {student.name}"
    return _page(head, title, spec.description, rows, draft.receipt, loading, limits)


def _metadata(library: str, base_model: str | None, relation: str, licence: str | None) -> str:
    """The block of YAML that the Hub reads; it takes ids alone: a base that is not there is left to the text."""
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
    """The card's text from its parts."""
    parts = [head, f"# {title}", about or "", _table(("", ""), rows.items())]
    if receipt is not None:
        parts += ["## Figures, from the receipt", _figures(receipt), "## Ledger", _ledger(receipt)]
    parts += ["## How to load it", loading]
    if limits:
        parts += ["## What it cannot do", "\n".join(f"* {x}" for x in limits)]
    return without_html("\n\n".join(part for part in parts if part)) + "\n"


def _of_receipt(receipt: Receipt, packet: str, keyids: Iterable[str]) -> dict[str, str]:
    """What a receipt says of where something comes from."""
    asked = receipt.origin
    trust = "not asked" if asked is None else "trusted by its policy" if asked.trusted else "not trusted"
    return {
        "packet": f"`{packet}`",
        "packet's origin, by whoever took it in": trust,
        "base": f"`{receipt.base_model.name}`, `{receipt.base_model.digest}`",
        "verdict": receipt.verdict,
        "receipt signed by": ", ".join(f"key `{k}`" for k in keyids),
        "finished": receipt.finished,
    }


def _common(*licences: str | None) -> str | None:
    """The id of a licence that all parts share; None where they differ, are silent, or it is no id."""
    if len(set(licences)) != 1 or licences[0] is None:
        return None
    name = licences[0].lower()
    return name if _LICENCE_ID.fullmatch(name) else None


def _figures(receipt: Receipt) -> str:
    after = receipt.after
    low, high = after["interval"]
    rows = {
        "accuracy before": _percent(receipt.before.accuracy),
        "accuracy after": f"{_percent(after['accuracy'])} [{_percent(low)}, {_percent(high)}] of {after['n']} prompts",
        "held against": after["reference"],
        "retention": _percent(after["retention"]),
        "gap recovered": _percent(after["gap_recovered"]),
    }
    neutral = after["neutral"]
    rows["perplexity on neutral text"] = (
        f"{neutral['perplexity_before']:.4g} before, {neutral['perplexity_after']:.4g} after"
    )
    if confidence := after.get("confidence"):  # receipts of earlier versions have none
        kinds = (("sure", confidence["sure"]), ("in doubt", confidence["unsure"]))
        rows["as the packet says"] = ", ".join(
            f"{_percent(part['as_packet'])} of {part['n']} prompts of which the teacher is {kind}"
            for kind, part in kinds
            if part
        )
    certificate = after.get("certificate")
    if certificate:
        rows["certificate"] = (
            f"P(right) at least {_percent(certificate['bound'])} ({certificate['traces']} traces, confidence "
            f"{_percent(certificate['confidence'])})"
        )
    else:
        rows["certificate"] = "none"
    for shape in (*after["shapes"], *after["held_out"]):
        kind = "never probed" if shape in after["held_out"] else "probed"
        rows[f"shape `{shape['template']}` ({kind})"] = f"{_percent(shape['accuracy'])} of {shape['n']}"
    return _table(("measure", "value"), rows.items())


def _ledger(receipt: Receipt) -> str:
    rows = {k.replace("_", " "): f"{v:,}" for k, v in receipt.ledger.items() if isinstance(v, int)}
    return _table(("used", ""), rows.items())


def _table(heads: tuple[str, str], rows: Any) -> str:
    body = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join([f"| {heads[0]} | {heads[1]} |", "| --- | --- |", *body])


def _percent(value: float | None) -> str:
    """``0.995`` as ``99.5 %``."""
    return "not measured" if value is None else f"{100 * value:.1f} %"
