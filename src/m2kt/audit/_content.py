"""Findings of the content auditor. Its detectors are in the distribution m2kt-content, found by an entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from m2kt._plugins import CONTENT, missing, plugins
from m2kt.packet import Packet


class Judgement(BaseModel):
    """What was found in one text."""

    model_config = ConfigDict(extra="forbid")

    flagged: bool = Field(description="Whether a score reached the threshold.")
    category: str | None = Field(description="Of the highest score, where it is flagged.")
    score: float = Field(description="Highest score of all detectors, 0 to 1.")
    detector: str | None = Field(description="Which one gave it.")
    what: str = Field(description="What it saw.")


class Finding(BaseModel):
    """A flagged text of a packet."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(description="Part of the packet, such as symbol 4, or card.")
    text: str
    category: str
    score: float
    what: str


class ContentReport(BaseModel):
    """What the content auditor says of a packet."""

    model_config = ConfigDict(extra="forbid")

    detectors: list[str] = Field(description="Detectors that ran.")
    texts: int = Field(description="Different texts that were looked at.")
    findings: list[Finding] = Field(description="Those that were flagged.")
    penalties: dict[int, float] = Field(
        description="Penalty(c_k) of L_safety by concept, of those above 0: from its label, the symbols that it reads "
        "and writes, and its vector."
    )

    @property
    def example(self) -> str | None:
        """The finding of the highest score, in words."""
        if not self.findings:
            return None
        worst = max(self.findings, key=lambda finding: finding.score)
        return f"{worst.where} ({worst.category}, {worst.score:.2f})"


class ContentAuditor(Protocol):
    """Runs the configured detectors over texts."""

    def __call__(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> list[Judgement]:
        """One judgement a text, in order."""
        ...

    def audit_packet(self, packet: Packet) -> ContentReport:
        """The flagged ones among all texts that a packet carries, and Penalty(c_k) by concept."""
        ...


def has_content_auditor() -> bool:
    """Whether a distribution that judges texts is installed."""
    return "auditor" in plugins(CONTENT)


def content_auditor(
    config: Mapping[str, Any] | None = None, say: Callable[[str], None] = lambda line: None
) -> ContentAuditor:
    """The installed content auditor.

    Args:
        config: fields of its ``ContentConfig``; its defaults without.
        say: receives a line for each file that has to be fetched first.

    Raises:
        SpecError: m2kt-content is not installed, or the configuration is not valid.
        ModelError: a model that a detector reads by cannot be fetched or loaded.
    """
    entry = plugins(CONTENT).get("auditor")
    if entry is None:
        raise missing("the audit of texts", "m2kt-content")
    auditor: ContentAuditor = entry.load()(dict(config or {}), say)
    return auditor
