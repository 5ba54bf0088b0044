"""``--config CAL.yaml``: the settings of the student side, the auditor and the verdict in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from m2kt.errors import SpecError, explain
from m2kt.settings import StudentSettings, Thresholds

if TYPE_CHECKING:
    from m2kt.auditor import ContentAuditor

DEFAULT_UPDATES = 120


class IngestConfig(BaseModel):
    """Settings of ``ingest``, ``preflight`` and ``consolidate``; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    updates: int = Field(
        default=DEFAULT_UPDATES,
        ge=0,
        description="Maximum number of optimiser steps; --updates overrides it.",
    )
    student: StudentSettings = Field(default_factory=StudentSettings, description="The student side.")
    thresholds: Thresholds = Field(default_factory=Thresholds, description="Limits that the verdict is based on.")
    content: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="The content auditor: fields of ContentConfig of the distribution m2kt-content, which validates "
        "them; its detector is `patterns` unless `detectors` names others.",
    )
    evaluation_prompts: int = Field(
        default=200, gt=0, description="Prompts of the evaluation split that the verdict is based on."
    )
    trigger_strings: int = Field(
        default=256, ge=0, description="Strings of each length that the trigger search tries; 0: no search."
    )
    certificate_traces: int = Field(
        default=600,
        ge=0,
        description="Traces read for the certificate; more tighten its bound; 0: no certificate.",
    )

    @classmethod
    def from_file(cls, path: str | Path | None, **overrides: JsonValue) -> IngestConfig:
        """Reads YAML; the defaults without a path.

        Args:
            overrides: fields that win over the file; None: not given.

        Raises:
            SpecError: the file cannot be read, or is not valid.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            content = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
            if not isinstance(content, dict):
                raise SpecError(
                    f"cannot use the configuration {path}: expected a mapping, got {type(content).__name__}"
                )
            return cls.model_validate(content | given)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
            raise SpecError(f"cannot use the configuration {path}: {explain(error)}") from error

    @classmethod
    def of(cls, config: str | Path | IngestConfig | None, updates: int | None = None) -> IngestConfig:
        """The configuration that a verb was given, as a model.

        Args:
            updates: the verb's own argument of that name.

        Raises:
            SpecError: both the configuration and the argument set the updates, and to different values.
        """
        config = config if isinstance(config, IngestConfig) else cls.from_file(config)
        if updates is None or updates == config.updates:
            return config
        if "updates" in config.model_fields_set:
            raise SpecError(
                f"expected updates from the configuration or from the argument, got {config.updates} and {updates}; "
                "remove one"
            )
        return config.model_copy(update={"updates": updates})

    def content_auditor(self) -> ContentAuditor | None:
        """Judges the packet's texts; None where m2kt-content is not installed and `content` is empty.

        Raises:
            SpecError: the configuration names detectors, and m2kt-content is not installed.
        """
        from m2kt.auditor import content_auditor, has_content_auditor

        if not self.content and not has_content_auditor():
            return None
        return content_auditor({"detectors": ["patterns"], **self.content})
