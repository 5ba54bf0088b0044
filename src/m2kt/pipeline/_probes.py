"""Probe specs: written from example prompts, checked, and tried on a teacher."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError, StorageError, explain
from m2kt.pipeline._inputs import read_spec
from m2kt.pipeline._report import Progress, Report, Result, to_report
from m2kt.probes import SCHEMA_FILE, ProbeSpec, load_truth, new_spec
from m2kt.render import percent, shown

if TYPE_CHECKING:
    from m2kt.models import Dtype
    from m2kt.teacher import SpecTrial
else:  # importing the pipeline loads no torch
    SpecTrial = object

EXAMPLES = 3


class NewProbes(Result):
    """A probe spec that was written."""

    path: str
    json_schema: str = Field(description="The JSON Schema beside it, which editors complete from.")
    spec: str = Field(description="Name of the spec.")
    templates: list[str]
    slots: dict[str, list[str]]

    def headline(self) -> str:
        return f"wrote {self.path}"

    def table(self) -> dict[str, str]:
        slots = {f"slot {name}": " ".join(map(shown, values)) for name, values in self.slots.items()}
        return {**slots, "templates": "\n".join(map(shown, self.templates))}

    def remarks(self) -> list[str]:
        return [f"next: m2kt probes check {self.path}; m2kt try TEACHER --probes {self.path}"]


class ShapeCheck(BaseModel):
    """One template of a checked spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    held_out: bool
    examples: list[str] = Field(description="A few of its prompts.")


class ProbesCheck(Result):
    """A spec that is valid, as it will be used."""

    spec: str
    digest: str
    slots: dict[str, int] = Field(description="Number of values of each slot.")
    shapes: list[ShapeCheck]
    stop: list[str | None] = Field(description="What ends an answer; null: the model's own end token.")
    answer: str | None
    truth: bool = Field(description="Whether right answers are known.")
    expected: dict[str, str | None] = Field(description="The truth's answers to the example prompts.")

    def headline(self) -> str:
        return f"{self.spec}: a valid probe spec with {len(self.shapes)} shapes"

    def table(self) -> dict[str, str]:
        ends = " or ".join("the model's own end token" if s is None else shown(s) for s in self.stop)
        rows = {f"slot {name}": f"{n} values" for name, n in self.slots.items()}
        for shape in self.shapes:
            held = " (held out)" if shape.held_out else ""
            rows[f"{shown(shape.template)}{held}"] = "\n".join(
                f"{shown(text)} -> {self.expected[text]}" if self.expected.get(text) else shown(text)
                for text in shape.examples
            )
        return {**rows, "an answer ends with": ends, "it is read by": self.answer or "the whole text"}

    def remarks(self) -> list[str]:
        return [] if self.truth else ["note: no truth: a verdict then compares with the packet's own rollout"]


class Trial(Result):
    """A few of a teacher's answers, and what extraction will say about them."""

    teacher: str
    trial: SpecTrial
    right: int | None = Field(description="Right answers by the spec's truth; null: none is known.")
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether extraction would go on behind its first look."""
        return self.trial.problem is None

    def report(self) -> Report:
        rest = to_report(self, exclude={"trial"})
        return {**to_report(self.trial), **rest, "ready": self.ready}

    def headline(self) -> str:
        verdict = "extraction can begin" if self.ready else "extraction would refuse this"
        return f"{self.trial.spec} on {self.teacher}: {verdict}"

    def table(self) -> dict[str, str]:
        n = len(self.trial.prompts)
        rows = {
            "stop reached": f"{percent(self.trial.stopped, 0)} of {n}",
            "answer read": f"{percent(self.trial.answered, 0)} of {n}",
            "forms of answers": str(self.trial.skeletons),
        }
        return rows if self.right is None else {**rows, "right by the truth": f"{self.right} of {n}"}

    def remarks(self) -> list[str]:
        problem = [f"because: {self.trial.problem}"] if self.trial.problem else []
        return problem + [f"hint: {hint}" for hint in self.trial.hints]


def new_probes(
    prompts: Sequence[str],
    out: str | Path,
    *,
    name: str | None = None,
    stop: str | None = "\n",
    answer: str | None = None,
) -> NewProbes:
    """Writes a commented probe spec whose templates have some example prompts, and its JSON Schema beside it.

    Raises:
        SpecError: there is no prompt, nothing varies in them, or the file exists.
        StorageError: it cannot be written.
    """
    path = Path(out)
    if path.exists():
        raise SpecError(f"expected a new file, got {path}, which exists; choose another name")
    text = new_spec(prompts, name=name or path.stem, stop=stop, answer=answer)
    schema = path.with_name(SCHEMA_FILE)
    try:
        path.write_text(text, encoding="utf-8")
        if not schema.exists():
            schema.write_text(json.dumps(ProbeSpec.model_json_schema(), indent=1, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; choose another path") from error
    spec = ProbeSpec.from_file(path)
    templates = [spec.template_text(i) for i in range(spec.n_templates)]
    slots = {slot: list(s.values) for slot, s in spec.slots.items()}
    return NewProbes(path=str(path), json_schema=str(schema), spec=spec.name, templates=templates, slots=slots)


def check_probes(probes: str | Path | ProbeSpec) -> ProbesCheck:
    """Validates a probe spec: its fields, slots, templates, the way answers are read, and that its truth answers.

    Raises:
        SpecError: what is wrong, and what to write.
    """
    spec, base = read_spec(probes)
    truth = load_truth(spec, base)
    shapes, expected = [], dict[str, str | None]()
    for held_out, n in ((False, spec.n_templates), (True, len(spec.held_out))):
        for index in range(n):
            prompts = spec.sample("evaluation", EXAMPLES, seed=0, held_out=held_out, templates=[index])
            texts = [prompt.text for prompt in prompts]
            shapes.append(ShapeCheck(template=spec.template_text(index, held_out), held_out=held_out, examples=texts))
            for text in texts if truth is not None else ():
                assert truth is not None
                try:
                    expected[text] = truth.expected(text)
                except Exception as error:  # the user's code
                    raise SpecError(f"truth: {spec.truth} fails on {text!r}: {error}") from error
    return ProbesCheck(
        spec=spec.name,
        digest=spec.public().digest,
        slots={name: len(slot.values) for name, slot in spec.slots.items()},
        shapes=shapes,
        stop=list(spec.stops),
        answer=spec.answer,
        truth=truth is not None,
        expected=expected,
    )


def try_(
    teacher: str,
    probes: str | Path | ProbeSpec,
    *,
    n: int = 10,
    seed: int = 0,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Trial:
    """Asks a teacher a few prompts of a spec: how its answers are cut and read, and what extraction will say.

    Args:
        n: number of prompts.
    """
    from m2kt.models import load_causal_lm
    from m2kt.teacher import try_spec

    started = time.monotonic()
    spec, base = read_spec(probes)
    truth = load_truth(spec, base)
    trial = try_spec(load_causal_lm(teacher, device=device, dtype=dtype), spec, n=n, seed=seed, progress=progress)
    judged = [] if truth is None else [truth.judge(tried.prompt, tried.answer) for tried in trial.prompts]
    right = None if truth is None else sum(bool(mark) for mark in judged)
    return Trial(teacher=teacher, trial=trial, right=right, seconds=round(time.monotonic() - started, 2))
