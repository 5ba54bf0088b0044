"""The packet card: README.md, for people. It shows no output of a rule that is not verbalised."""

from __future__ import annotations

import re

from m2kt.probes import ProbeSpec

from ._manifest import Manifest, SizeFidelity
from ._program import Program

_LICENCE_ID = re.compile(r"[a-z][a-z0-9.-]*")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")  # the beginning of an HTML tag


def write_card(manifest: Manifest, program: Program, spec: ProbeSpec) -> str:
    """Markdown text of the card."""
    sections = [
        _metadata(manifest),
        _head(manifest, spec),
        _teacher(manifest),
        _rules(manifest, program),
        _fidelity(manifest),
        _ledger(manifest),
        _limits(manifest, spec),
    ]
    return without_html("\n\n".join(sections)) + "\n"


def without_html(text: str) -> str:
    """The text with every ``<`` escaped that could begin a tag."""
    return _TAG.sub("&lt;", text)


def _metadata(manifest: Manifest) -> str:
    """Metadata for the Hub. The licence is the teacher's, because the packet holds its states."""
    lines = ["---", "library_name: m2kt", "tags:", "- m2kt", "- knowledge-packet"]
    licence = (manifest.teacher.licence or "").lower()
    if _LICENCE_ID.fullmatch(licence):
        lines.append(f"license: {licence}")
    return "\n".join([*lines, "---"])


def _head(manifest: Manifest, spec: ProbeSpec) -> str:
    lines = [f"# Knowledge packet: {manifest.name}", ""]
    if spec.description:
        lines += [spec.description, ""]
    if manifest.fallback:
        lines += [f"**Fallback, not a full extraction**: {manifest.fallback_reason or 'no reason given'}", ""]
    lines.append(
        "A skill of a teacher language model, for a frozen student of another family (M2KT, arXiv 2511.17638). "
        "`m2kt ingest STUDENT PACKET --out ADAPTER` trains it into a student; `m2kt inspect PACKET` shows it."
    )
    return "\n".join(lines)


def _teacher(manifest: Manifest) -> str:
    teacher = manifest.teacher
    return "\n".join(
        [
            "## Teacher",
            "",
            f"* name: `{teacher.name}` ({teacher.architecture}, {teacher.parameters:,} parameters, "
            f"{teacher.layers} blocks of width {teacher.width})",
            f"* digest: `{teacher.digest}`",
            f"* licence: {teacher.licence or 'not stated'}",
            f"* extracted: {manifest.created}, seed {manifest.seed}, concepts by {manifest.embedding.source}, "
            f"recorded at layer {manifest.embedding.layer}",
        ]
    )


def _rules(manifest: Manifest, program: Program) -> str:
    lines = [
        "## Rules",
        "",
        f"{len(program.symbols)} symbols, {program.n_concepts} concepts, verbalised share {manifest.verbalised:g} "
        + ("(no rule output travels as text)." if manifest.verbalised == 0 else "."),
        "",
        "| rule | arguments | rows | used at |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {r.name} | {r.arity} | {len(r.rows)} | {r.uses} leaves |" for r in program.rules]
    return "\n".join(lines)


def _fidelity(manifest: Manifest) -> str:
    fidelity = manifest.fidelity
    lines = ["## Fidelity", "", "Measured on prompts never used for extraction.", ""]
    lines += ["| measure | value |", "| --- | --- |"]
    named = {
        "rollout agreement": fidelity.agreement,
        "coverage": fidelity.coverage,
        "probe accuracy": fidelity.probe_accuracy,
        "causal attention edges": fidelity.causal_edge_share,
    }
    lines += [f"| {name} | {_percent(value)} |" for name, value in named.items()]
    lines += [f"| {name} | {value:.4g} |" for name, value in sorted(fidelity.other.items())]
    if manifest.equality is not None:
        equality = manifest.equality
        lines += [
            f"| greedy tokens as in fp32 ({equality.dtype}) | {_percent(equality.greedy)} |",
            f"| distance from fp32, total variation | {equality.total_variation:.4f} |",
            f"| smallest cosine with a state in fp32 | {equality.cosine:.4f} |",
        ]
    if fidelity.shapes:
        lines += ["", "| template | agreement | coverage | prompts |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{s.template}` | {_percent(s.agreement)} | {_percent(s.coverage)} | {s.n} |" for s in fidelity.shapes
        ]
    if fidelity.sizes:
        lines += ["", "At sizes that were not probed:", "", "| template | rolled out to the end | teacher agreed |"]
        lines += ["| --- | --- | --- |"]
        lines += [f"| `{s.template}` | {_percent(s.coverage)} | {_confirmed(s)} |" for s in fidelity.sizes]
    return "\n".join(lines)


def _confirmed(size: SizeFidelity) -> str:
    if not size.asked:
        return "not asked"
    return f"{size.agreed} of {size.asked}" + ("" if size.confirmed else ": it breaks here, or writes in another way")


def _ledger(manifest: Manifest) -> str:
    ledger = manifest.ledger
    rows = {
        "labelled examples": ledger.labelled_examples,
        "teacher passes at extraction": ledger.teacher_passes,
        "teacher text in traces (tokens)": ledger.teacher_tokens_in_traces,
        "concepts": ledger.concepts,
        "bytes": ledger.packet_bytes,
    }
    if ledger.teacher_tokens is not None:
        rows["teacher tokens computed"] = ledger.teacher_tokens
    if ledger.teacher_tokens_shared:
        rows["teacher tokens saved by shared prefixes"] = ledger.teacher_tokens_shared
    lines = ["## Data ledger", "", "| used | |", "| --- | --- |"]
    lines += [f"| {name} | {value:,} |" for name, value in rows.items()]
    return "\n".join([*lines, f"| seconds | {ledger.seconds:.1f} |"])


def _limits(manifest: Manifest, spec: ProbeSpec) -> str:
    lines = [
        "## Limits",
        "",
        "* The skill is what the teacher does, errors included; it was not compared with the truth.",
        f"* Probed shapes: {', '.join(f'`{spec.template_text(i)}`' for i in range(spec.n_templates))}. "
        "Other shapes are untested.",
        "* The signature shows who made the packet and that it is unchanged, not whether to trust its maker.",
    ]
    return "\n".join([*lines, *(f"* {note}" for note in manifest.notes)])


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"
