"""``--config CAL.yaml``: the settings of the student side, the auditor and the verdict in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from m2kt._yaml import read_yaml_file
from m2kt.errors import SpecError, explain
from m2kt.settings import Depth, StudentSettings, Thresholds

if TYPE_CHECKING:
    from m2kt.auditor import ContentAuditor

DEFAULT_UPDATES = 120


def at_depth(student: StudentSettings, depth: Depth) -> StudentSettings:
    """The settings at another depth. Raises SpecError where they do not fit it."""
    try:
        return StudentSettings.model_validate({**student.model_dump(exclude_unset=True), "depth": depth})
    except ValidationError as error:
        raise SpecError(f"cannot use depth {depth}: {explain(error)}") from error


def _refuse(name: str, is_set: bool, configured: int | str, argument: int | str) -> None:
    if is_set:
        raise SpecError(
            f"expected {name} from the configuration or from the argument, got {configured} and {argument}; remove one"
        )


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
    prompt_seed: int | None = Field(
        default=None,
        ge=0,
        description="Seed of the prompts that the verdict is based on; by default a new secret, kept in the receipt, "
        "so that no author of a packet could spare them.",
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
            content = {} if path is None else read_yaml_file(path, "the configuration") or {}
            if not isinstance(content, dict):
                raise SpecError(
                    f"cannot use the configuration {path}: expected a mapping, got {type(content).__name__}"
                )
            return cls.model_validate(content | given)
        except ValidationError as error:
            raise SpecError(f"cannot use the configuration {path}: {explain(error, cls)}") from error

    @classmethod
    def of(
        cls, config: str | Path | IngestConfig | None, updates: int | None = None, depth: Depth | None = None
    ) -> IngestConfig:
        """The configuration that a verb was given, as a model.

        Args:
            updates: the verb's own argument of that name.
            depth: the same, of ``student.depth``.

        Raises:
            SpecError: the configuration and an argument set the same to different values, or do not fit together.
        """
        config = config if isinstance(config, IngestConfig) else cls.from_file(config)
        if updates is not None and updates != config.updates:
            _refuse("updates", "updates" in config.model_fields_set, config.updates, updates)
            config = config.model_copy(update={"updates": updates})
        if depth is not None and depth != config.student.depth:
            _refuse("student.depth", "depth" in config.student.model_fields_set, config.student.depth, depth)
            config = config.model_copy(update={"student": at_depth(config.student, depth)})
        return config

    def content_auditor(self) -> ContentAuditor | None:
        """Judges the packet's texts; None where m2kt-content is not installed and `content` is empty.

        Raises:
            SpecError: the configuration names detectors, and m2kt-content is not installed.
        """
        from m2kt.auditor import content_auditor, has_content_auditor

        if not self.content and not has_content_auditor():
            return None
        return content_auditor({"detectors": ["patterns"], **self.content})
