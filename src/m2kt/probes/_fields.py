"""The parts of a probe spec: slots, weighted templates, how prompts are put to a chat model, datasets of problems."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

DEFAULT = "default"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))


class Slot(Strict):
    """The values that a slot may take."""

    values: list[str] = Field(description="Distinct, non-empty texts; one or several tokens each.", min_length=1)

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: list[str]) -> list[str]:
        if len(set(values)) != len(values):
            raise ValueError("slot values must be distinct")
        for value in values:
            if not value or value != value.strip():
                raise ValueError(f"slot value {value!r} is empty or has outer spaces; put spaces into the template")
        return values


class WeightedTemplate(Strict):
    """A template with a share of the probes."""

    text: str = Field(description="Template text with {slot} or {name=slot} holes.")
    weight: float = Field(default=1.0, ge=1e-6, le=1e6, description="Relative share among the templates.")


class ReasoningGym(BaseModel):
    """Problems, answers and scorer of a reasoning-gym dataset; further keys are options of the dataset."""

    model_config = ConfigDict(extra="allow", frozen=True)

    reasoning_gym: str = Field(description="Name of the dataset.")
    via: str | None = Field(
        default=None,
        pattern=r"\.py:\w+$",
        description="'file.py:function' that maps an entry to its prompt, or to None where the spec has no such prompt."
        " null: the prompt is the entry's question.",
    )

    @property
    def options(self) -> dict[str, JsonValue]:
        """Options of the dataset, such as size and seed."""
        return dict(self.model_extra or {})


class Example(Strict):
    """A question with an answer as the teacher is to write it: a labelled example."""

    question: str = Field(description="As a prompt, or like one.", min_length=1)
    answer: str = Field(description="Steps and answer, without what ends them.", min_length=1)


class Chat(Strict):
    """Prompts are a user's messages; each model puts its own chat template around them."""

    system: str | None = Field(default=None, min_length=1, description="System message before them; null: none.")
    template: str = Field(
        default=DEFAULT,
        min_length=1,
        description="The teacher's chat template: 'default', its tokenizer's, or a Jinja template. No packet has it.",
    )

    @property
    def jinja(self) -> str | None:
        """The template, if it is not the tokenizer's."""
        return None if self.template == DEFAULT else self.template
