"""Settings of an extraction."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExtractionConfig(BaseModel):
    """Costs of an extraction, and the fidelity that it must reach."""

    model_config = ConfigDict(extra="forbid")

    probes_per_template: int = Field(default=300, gt=0, description="First probes per template.")
    rounds: int = Field(default=5, ge=0, description="Maximum rounds of active completion.")
    scouted_per_template: int = Field(
        default=1500, gt=0, description="Prompts that the graph rolls out per template and round."
    )
    checked_per_template: int = Field(
        default=100, gt=0, description="Rollouts compared with the teacher per template and round."
    )
    slips: float = Field(
        default=0.01, ge=0, le=0.2, description="Share of a state's steps in which the teacher may contradict itself."
    )
    fidelity_prompts: int = Field(default=600, gt=0, description="Reserved prompts on which fidelity is measured.")
    floor: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Minimum of coverage x agreement; below it the packet is refused.",
    )
    unstopped: float = Field(default=0.1, ge=0, le=1, description="Maximum share of answers without the stop string.")
    concepts: str = Field(default="interrogation", description="Concept source, a name in m2kt.teacher.SOURCES.")
    verbalised: float = Field(
        default=0.0, ge=0, le=1, description="Share v of rule rows whose output also travels as text."
    )
    traces_per_template: int = Field(default=8, ge=0, description="Example traces per template whose states travel.")
    seed: int = Field(default=0, description="Seed of sampling and of the choice of verbalised rows.")
