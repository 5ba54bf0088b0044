"""Audit: findings in the texts of a packet, or in any texts, and rows that contradict each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from m2kt._yaml import read_yaml_file
from m2kt.errors import SpecError, explain
from m2kt.packet import VERDICT, Packet
from m2kt.pipeline._adapters import check_writable
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import AuditResult
from m2kt.pipeline._statements import local_signer, write_statement
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.auditor import ContentAuditor, ContentReport, Judgement, ProgramReport

Config = str | Path | dict[str, JsonValue]
"""The content auditor's settings (ContentConfig of m2kt-content), or their YAML file."""


def audit(
    packet: str | Path | Packet,
    *,
    against: str | Path | Packet | None = None,
    config: Config | None = None,
    statement: str | Path | None = None,
    key: CryptoSigner | None = None,
    say: Callable[[str], None] | None = None,
) -> AuditResult:
    """Runs the content auditor's detectors over all texts of a packet, compares its rows with each other, and exercises
    every leaf of its program: the lines that it writes are texts too, and what looks planted is a finding.

    Args:
        against: the packet of a trusted teacher, whose rows and whose program are compared too.
        statement: file for the result as a signed statement about the packet.
        key: signs the statement; the local key by default.
        say: receives a line for each file that a detector fetches.

    Raises:
        SpecError: m2kt-content is not installed, or the configuration is not valid.
        PacketError, StorageError: see :mod:`m2kt.errors`.
    """
    from m2kt.auditor import check_consistency, check_program

    packet = open_packet(packet)
    trusted = None if against is None else open_packet(against)
    signer = None if statement is None else key or local_signer()
    if statement is not None:
        check_writable(statement)
    auditor, program = _auditor(config, say), check_program(packet, trusted)
    result = AuditResult(
        packet=packet.digest,
        against=None if trusted is None else trusted.digest,
        content=_with_lines(auditor.audit_packet(packet), auditor, program),
        consistency=check_consistency(packet, trusted),
        program=program,
    )
    if statement is not None:
        write_statement(statement, packet, VERDICT, result, signer)
    return result


def _with_lines(report: ContentReport, auditor: ContentAuditor, program: ProgramReport) -> ContentReport:
    """The report with findings in the lines that the packet's program writes."""
    from m2kt.auditor import Finding

    lines = {line.text: line.where for line in program.lines if line.text is not None}
    judged = zip(lines.items(), auditor(list(lines)), strict=True)
    found = [
        Finding(where=f"a line of {where}", text=text, category=str(j.category), score=j.score, what=j.what)
        for (text, where), j in judged
        if j.flagged
    ]
    return report.model_copy(update={"texts": report.texts + len(lines), "findings": [*report.findings, *found]})


def audit_texts(
    texts: str | Path | Sequence[str],
    *,
    config: Config | None = None,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> list[tuple[str, Judgement]]:
    """Runs the content auditor's detectors over texts; each text with its judgement, in order.

    Args:
        texts: the texts, or a file of lines ``{"text": ...}``.
        say: receives a line for each file that a detector fetches.
    """
    report = progress or no_progress
    texts = _read_texts(Path(texts)) if isinstance(texts, str | Path) else list(texts)
    judgements = _auditor(config, say)(texts, lambda done, total: report("judging", done, total))
    return list(zip(texts, judgements, strict=True))


def _auditor(config: Config | None, say: Callable[[str], None] | None) -> ContentAuditor:
    from m2kt.auditor import content_auditor

    if isinstance(config, str | Path):
        read = read_yaml_file(config, "the configuration") or {}
        if not isinstance(read, dict):
            raise SpecError(f"expected a mapping as the configuration, got {type(read).__name__}")
        config = read
    return content_auditor(config or {}, say or (lambda line: None))


def _read_texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # texts may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {explain(error)}") from error
    texts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SpecError(f"{path}, line {number}: expected JSON, got {line[:40]!r} ({error})") from error
        text = data.get("text") if isinstance(data, dict) else None
        if not isinstance(text, str):
            raise SpecError(f'{path}, line {number}: expected {{"text": ...}}, got {line[:60]!r}')
        texts.append(text)
    return texts
