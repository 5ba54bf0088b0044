"""``--config CAL.yaml``: what a user may choose about ingestion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError, explain

if TYPE_CHECKING:
    from m2kt.audit import ContentAuditor, Thresholds
    from m2kt.student import StudentSettings

DEFAULT_UPDATES = 120


class IngestConfig(BaseModel):
    """``--config CAL.yaml``: the student side and the auditor's thresholds in one file."""

    model_config = ConfigDict(extra="forbid")

    updates: int = Field(
        default=DEFAULT_UPDATES, ge=0, description="Optimiser steps at most, unless --updates says otherwise."
    )
    student: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the student side (StudentSettings)."
    )
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="Thresholds of the verdict (Thresholds)."
    )
    content: dict[str, Any] = Field(
        default_factory=dict,
        description="The content auditor (ContentConfig); of detectors, patterns alone unless others are named.",
    )
    evaluation_prompts: int = Field(
        default=200, gt=0, description="Held-back prompts on which the verdict is based."
    )
    trigger_strings: int = Field(
        default=256,
        ge=0,
        description="Strings of each length that the search for triggers tries. 0: no search.",
    )
    certificate_traces: int = Field(
        default=600,
        ge=0,
        description="Probing traces read for the certificate; more bring it nearer. 0: none.",
    )

    @classmethod
    def from_file(cls, path: str | Path | None) -> IngestConfig:
        """Reads YAML; defaults without a path."""
        if path is None:
            return cls()
        import yaml
        from pydantic import ValidationError

        try:
            return cls.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
            raise SpecError(f"cannot use the configuration {path}: {explain(error)}") from error

    def resolve(self) -> tuple[StudentSettings, Thresholds]:
        """The two parts, validated."""
        from pydantic import ValidationError

        from m2kt.audit import Thresholds
        from m2kt.student import StudentSettings

        try:
            return StudentSettings.model_validate(self.student), Thresholds.model_validate(self.thresholds)
        except ValidationError as error:
            raise SpecError(f"the configuration is not valid: {explain(error)}") from error

    def content_auditor(self) -> ContentAuditor | None:
        """What judges the packet's texts; None where m2kt-content is not installed and nothing asks for it.

        Raises:
            SpecError: the configuration names detectors, and m2kt-content is not installed.
        """
        from m2kt.audit import content_auditor, has_content_auditor

        if not self.content and not has_content_auditor():
            return None
        return content_auditor({"detectors": ["patterns"], **self.content})
