"""What is measured on a candidate, as one value."""

from __future__ import annotations

from pydantic import BaseModel, Field

from m2kt.auditor._certificate import Certificate
from m2kt.auditor._confidence import Confidence
from m2kt.auditor._content import ContentReport
from m2kt.auditor._geometry import Geometry
from m2kt.auditor._regression import Regression
from m2kt.auditor._retention import Neutral
from m2kt.auditor._safety import Safety
from m2kt.auditor._skill import gap_recovered
from m2kt.auditor._steps import Steps
from m2kt.auditor._surroundings import Surrounding
from m2kt.auditor._triggers import Triggers
from m2kt.probes import ShapeScore


class Recorded(BaseModel):
    """Measurements that a verdict records."""

    reference: str = Field(description="What answers are compared with.")
    before: float = Field(description="Accuracy of the frozen student.")
    accuracy: float = Field(description="Accuracy with the adapter.")
    interval: tuple[float, float] = Field(description="Wilson 95 % interval of the accuracy.")
    n: int = Field(description="Prompts judged.")
    shapes: list[ShapeScore] = Field(description="Accuracy by probed shape.")
    held_out: list[ShapeScore] = Field(
        default=[],
        description="Accuracy by shape that was never probed or rehearsed; does not decide.",
    )
    surroundings: list[Surrounding] = Field(
        default=[],
        description="Accuracy with other text around the question, as evaluated first; does not decide.",
    )
    neutral: Neutral = Field(description="Behaviour outside the skill.")
    regression: Regression | None = Field(
        default=None, description="Short tasks of English, decided before and after; null: not measured."
    )
    triggers: Triggers | None = Field(
        default=None,
        description="Search for strings after which adapter and base diverge; null: not searched.",
    )
    readable: float = Field(
        description="Share of concept vectors that decode with margin from the packet's prototypes."
    )
    dissent: list[str] = Field(
        default=[],
        description="Rows of a merged packet disputed and undecided (--resolve keep); does not decide.",
    )
    confidence: Confidence | None = Field(
        default=None,
        description="Accuracy by the teacher's confidence; null: the packet holds no confidences.",
    )
    steps: Steps | None = Field(default=None, description="Single rule steps, teacher-forced; null: not measured.")
    geometry: Geometry | None = Field(
        default=None, description="Where phi maps the packet's vectors; null: no phi, or not measured."
    )
    certificate: Certificate | None = Field(
        default=None,
        description="Bound on whole problems from errors on single concepts; null: not computed.",
    )
    content: ContentReport | None = Field(
        default=None, description="Report on the packet's texts; null: no content auditor ran."
    )
    safety: Safety | None = Field(default=None, description="L_safety at flagged concepts; null: not measured.")


class Measurements(Recorded):
    """All that the auditor measured on a candidate; :func:`m2kt.auditor.judge` makes a verdict of it."""

    reference_accuracy: float = Field(description="Accuracy of the reference.")
    packet_accuracy: float | None = Field(
        default=None, description="Accuracy of the packet's own rollout; null: not measured."
    )
    history: list[dict[str, float]] = Field(default=[], description="Losses and accuracies of the training, by update.")

    @property
    def gap_recovered(self) -> float:
        """(accuracy - before) / (reference - before)."""
        return gap_recovered(self.before, self.accuracy, self.reference_accuracy)

    @property
    def retention(self) -> float:
        """Accuracy / reference accuracy; 0 where that is 0."""
        return self.accuracy / self.reference_accuracy if self.reference_accuracy else 0.0
