"""Categories, and the configuration of the content auditor."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

HarmfulCategory = Literal["toxicity", "threat", "bias", "fallacy", "injection", "private"]

BENIGN = "benign"
HARMFUL: tuple[HarmfulCategory, ...] = get_args(HarmfulCategory)
CATEGORIES: tuple[str, ...] = (BENIGN, *HARMFUL)
"""Category of each class index C; ``BENIGN`` is the first."""


class ContentConfig(BaseModel):
    """Detectors and thresholds."""

    model_config = ConfigDict(extra="forbid")

    detectors: list[str] = Field(
        default=["patterns", "probe"],
        min_length=1,
        description="Detectors that run: patterns, probe, profanity (alt-profanity-check), guard (a local model).",
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="A text is flagged if a detector's score reaches this."
    )
    guard: str | None = Field(
        default=None,
        description="Model of the guard detector: a directory, a Hub id, or the name of a fetched model.",
    )
    categories: list[HarmfulCategory] = Field(
        default=list(HARMFUL), min_length=1, description="Categories that count; others are ignored."
    )
