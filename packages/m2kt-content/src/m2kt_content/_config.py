"""What the content auditor looks for, and when it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import SpecError, explain


class ContentConfig(BaseModel):
    """Detectors and thresholds."""

    model_config = ConfigDict(extra="forbid")

    detectors: list[str] = Field(
        default=["patterns", "probe"],
        min_length=1,
        description="Which detectors run: patterns, probe, profanity (alt-profanity-check), guard (a local model).",
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="A text is flagged where some detector's score reaches this."
    )
    guard: str | None = Field(
        default=None,
        description="Model that the guard detector asks: a directory, a Hub id, or a fetched model's name.",
    )
    categories: list[Literal["toxicity", "threat", "bias", "fallacy", "injection", "private"]] = Field(
        default=["toxicity", "threat", "bias", "fallacy", "injection", "private"],
        min_length=1,
        description="Categories that count; findings of others are passed over.",
    )

    @classmethod
    def from_file(cls, path: str | Path | None) -> ContentConfig:
        """Reads YAML; defaults without a path. Raises SpecError."""
        if path is None:
            return cls()
        try:
            return cls.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
            raise SpecError(f"cannot use the configuration {path}: {explain(error)}") from error
