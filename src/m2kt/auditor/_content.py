"""Interface of the content auditor. Its detectors are in the distribution m2kt-content, found by an entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from m2kt._plugins import CONTENT, missing, plugins
from m2kt.packet import Packet


class Judgement(BaseModel):
    """Result for one text."""

    model_config = ConfigDict(extra="forbid")

    flagged: bool = Field(description="Whether a score reached the threshold.")
    category: str | None = Field(description="Category of the highest score; null: not flagged.")
    score: float = Field(description="Highest score of all detectors, 0 to 1.")
    detector: str | None = Field(description="Detector with the highest score; null: not flagged.")
    what: str = Field(description="Pattern or feature that was detected.")


class Finding(BaseModel):
    """A flagged text of a packet."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(description="Part of the packet, such as symbol 4, or card.")
    text: str
    category: str
    score: float
    what: str


class ContentReport(BaseModel):
    """Result for a packet."""

    model_config = ConfigDict(extra="forbid")

    detectors: list[str] = Field(description="Detectors that ran.")
    texts: int = Field(description="Distinct texts that were judged.")
    findings: list[Finding] = Field(description="Texts that were flagged.")
    penalties: dict[int, float] = Field(
        description="Penalty(c_k) of L_safety by concept, where above 0: from its label, its symbols, and its vector."
    )

    @property
    def example(self) -> str | None:
        """The finding of the highest score, as text."""
        if not self.findings:
            return None
        worst = max(self.findings, key=lambda finding: finding.score)
        return f"{worst.where} ({worst.category}, {worst.score:.2f})"


class ContentAuditor(Protocol):
    """Judges texts by the configured detectors."""

    def __call__(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[Judgement]:
        """One judgement for each text, in order."""
        ...

    def audit_packet(self, packet: Packet) -> ContentReport:
        """Findings in all texts of a packet, and Penalty(c_k) by concept."""
        ...


def has_content_auditor() -> bool:
    """Whether a content auditor is installed."""
    return "auditor" in plugins(CONTENT)


def content_auditor(
    config: Mapping[str, object] | None = None, say: Callable[[str], None] = lambda line: None
) -> ContentAuditor:
    """The installed content auditor.

    Args:
        config: fields of its ``ContentConfig``; None: the defaults.
        say: called with a line for each file that has to be fetched first.

    Raises:
        SpecError: m2kt-content is not installed, or the configuration is not valid.
        ModelError: a detector's model cannot be fetched or loaded.
    """
    entry = plugins(CONTENT).get("auditor")
    if entry is None:
        raise missing("the content auditor", "m2kt-content")
    auditor: ContentAuditor = entry.load()(dict(config or {}), say)
    return auditor
