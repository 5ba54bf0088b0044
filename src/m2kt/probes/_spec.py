"""The probe spec: the prompts for a teacher. It never contains the answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal

import yaml
from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from m2kt._end import END
from m2kt._yaml import read_yaml
from m2kt.errors import MAX_FIELDS, SpecError, explain
from m2kt.probes._fields import DEFAULT, Chat, Example, ReasoningGym, Slot, WeightedTemplate
from m2kt.probes._reading import Read, answer_reader
from m2kt.probes._template import Prompt, Template
from m2kt.probes._wordings import Phrasing, Shape, Wordings, read_phrasings

Split = Literal["probing", "rehearsal", "evaluation"]
SPLITS: tuple[tuple[Split, float], ...] = (("probing", 0.5), ("rehearsal", 0.8), ("evaluation", 1.0))
_ENUMERATE_UP_TO = 20_000
_ANSWER_TOKENS = 256  # where the spec names no number
_NO_PROMPTS = ("truth", "description", "licence", "examples", *Wordings.model_fields)
_PATIENCE = 4  # draws in a row without a new prompt before drawing ends, as multiples of the prompts so far


class ProbeSpec(Wordings):
    """Unlabelled prompt templates, what ends an answer, and how an answer is read from a completion."""

    name: str = Field(description="Name of the skill.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = Field(default="", description="One line for people.")
    licence: str | None = Field(default=None, description="Licence of the spec's text.")
    slots: dict[str, Slot] = Field(description="Slot name to values.", min_length=1)
    templates: list[str | WeightedTemplate] = Field(description="Shapes that are probed and rehearsed.", min_length=1)
    held_out: list[str | WeightedTemplate] = Field(
        default_factory=list,
        description="Shapes that are never probed: for evaluation only.",
    )
    stop: str | list[str | None] | None = Field(
        description="What ends a completion: a text, where it first appears; a special token of the teacher, written "
        "as its tokenizer does; null, the model's own end tokens; or a list of these, any of which ends it.",
    )
    chat: Chat | None = Field(
        default=None, description="The prompts are a user's messages to a chat model; null: they are plain text."
    )
    examples: list[Example] = Field(
        default_factory=list,
        max_length=64,
        description="What the teacher is shown before every question: earlier turns of a chat, or text before a plain"
        " prompt. Labelled examples, which the ledger counts; no packet has them.",
    )
    answer: str | None = Field(
        default=None,
        description="Regular expression of characters, classes, groups and alternatives; its first group is the"
        " answer. Or 'last number', 'last line', 'boxed', 'json PATH', as in 'json steps[-1].out'. null: the whole"
        " completion.",
    )
    facts: bool = Field(
        default=False,
        description="Each prompt is a row of a rule: all are probed, rehearsed with random answers, and evaluated."
        " An answer is one symbol of any number of words.",
    )
    truth: str | ReasoningGym | None = Field(
        default=None,
        description="Evaluation only: 'file.py:function', a JSONL of {prompt, answer}, or {reasoning_gym: dataset}.",
    )
    max_new_tokens: int | None = Field(
        default=None, gt=0, le=2**31 - 1, description="Longest completion in the teacher's tokens."
    )

    @model_validator(mode="before")
    @classmethod
    def _says_what_ends(cls, data: object) -> object:
        names = [str(name) for name in data if name not in cls.model_fields] if isinstance(data, dict) else []
        mistyped = get_close_matches("stop", names[:MAX_FIELDS])  # told as such
        if isinstance(data, dict) and "stop" not in data and not mistyped:
            raise ValueError(
                "stop: expected what ends an answer, got nothing; write stop: null for the model's own end token, or "
                'the text, such as stop: "\\n"'
            )
        return data

    @field_validator("chat", mode="before")
    @classmethod
    def _is_a_mapping(cls, chat: object) -> object:
        unknown = [str(name) for name in chat if name not in Chat.model_fields] if isinstance(chat, dict) else []
        if unknown or not isinstance(chat, dict | Chat | None):
            raise ValueError(
                f"expected system or template or neither, got {unknown[0] if unknown else chat!r}; write chat: {{}} "
                "for the teacher's own template"
            )
        return chat

    @field_validator("stop")
    @classmethod
    def _ends(cls, stop: str | list[str | None] | None) -> str | list[str | None] | None:
        listed = stop if isinstance(stop, list) else [stop]
        if not listed or "" in listed or len(set(listed)) != len(listed):
            raise ValueError(
                f"expected a text, null for the model's own end token, or a list of different ones, got {stop!r}; "
                'write stop: null, stop: "\\n", or stop: ["\\n", null]'
            )
        if any(END in text for text in listed if text):
            raise ValueError("U+0004 stands for the model's end token and is no text; write stop: null")
        return stop

    @field_validator("answer")
    @classmethod
    def _compiles(cls, answer: str | None) -> str | None:
        answer_reader(answer)
        return answer

    @model_validator(mode="after")
    def _templates_parse(self) -> ProbeSpec:
        try:
            texts = [t.text for t in (*self._shapes, *self._held_out_shapes)]
            self.phrased(held_out=True), self.phrased()
        except SpecError as error:
            raise ValueError(str(error)) from error
        if len(set(texts)) != len(texts):
            raise ValueError("a template is listed twice, or both as probed and as held out")
        return self

    # -- reading and writing ------------------------------------------------------------------------------------
    @classmethod
    def from_yaml(cls, text: str, source: str = "the probe spec") -> ProbeSpec:
        """Parse YAML. Raises SpecError that names the field."""
        data = read_yaml(text, source)
        if not isinstance(data, dict):
            raise SpecError(
                f"{source}: expected a mapping with name, slots, templates, stop; got {type(data).__name__}"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SpecError(f"{source} is not a valid probe spec: {explain(error, cls)}") from error

    @classmethod
    def from_file(cls, path: str | Path) -> ProbeSpec:
        """Read a YAML file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot read the probe spec {path}: {explain(error)}") from error
        return cls.from_yaml(text, source=str(path))

    def to_yaml(self) -> str:
        """YAML that parses back to an equal spec."""
        return yaml.safe_dump(self._fields(), sort_keys=False, allow_unicode=True)

    def _fields(self) -> dict[str, JsonValue]:
        """All fields. Those that older packets lack are left out where they are not used: these keep their bytes."""
        data: dict[str, JsonValue] = self.model_dump(mode="json")
        if not self.facts:
            del data["facts"]
        if self.chat is None:
            del data["chat"]
        for name in ("examples", *Wordings.model_fields):
            if not data[name]:
                del data[name]
        return data

    def public(self) -> ProbeSpec:
        """The spec as a packet carries it: without truth and examples, and without the teacher's chat template."""
        chat = self.chat and self.chat.model_copy(update={"template": DEFAULT})
        return self.model_copy(update={"truth": None, "examples": [], "chat": chat})

    def is_that_of(self, packet_spec: ProbeSpec) -> bool:
        """Whether a packet's spec is this one, with the one end that the teacher's answers had."""
        stop = packet_spec.stop
        if isinstance(stop, list) or (stop is not None and stop not in self.stops):
            return False
        return self.settled(stop).public().digest == packet_spec.digest

    @property
    def digest(self) -> str:
        """sha256 over the canonical form, without what changes no prompt: truth, licence, wordings."""
        data = {k: v for k, v in self._fields().items() if k not in _NO_PROMPTS}
        return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The examples: questions with answers."""
        return [(example.question, example.answer) for example in self.examples]

    # -- ends ---------------------------------------------------------------------------------------------------
    @property
    def stops(self) -> tuple[str | None, ...]:
        """All that may end a completion; None: the model's own end tokens."""
        return tuple(self.stop) if isinstance(self.stop, list) else (self.stop,)

    @property
    def end(self) -> str:
        """The unit that ends an answer: the first stop, or ``END`` where that is a token."""
        return END if self.stops[0] is None else self.stops[0]

    def settled(self, stop: str | None) -> ProbeSpec:
        """The spec of a teacher whose answers end so: in a text, or (None) in a token."""
        return self.model_copy(update={"stop": stop})

    # -- prompts ------------------------------------------------------------------------------------------------
    @property
    def values(self) -> list[str]:
        """All slot values, in order of appearance."""
        return list(dict.fromkeys(v for slot in self.slots.values() for v in slot.values))

    @cached_property
    def _shapes(self) -> list[Template]:
        return [Template(_text(t), self._slot_values) for t in self.templates]

    @cached_property
    def _held_out_shapes(self) -> list[Template]:
        return [Template(_text(t), self._slot_values) for t in self.held_out]

    @cached_property
    def _read(self) -> Read:
        return answer_reader(self.answer)

    @cached_property
    def _slot_values(self) -> dict[str, list[str]]:
        return {name: slot.values for name, slot in self.slots.items()}

    def phrased(self, held_out: bool = False) -> list[Phrasing]:
        """The phrasings that students are fitted to, or those for evaluation alone."""
        texts = self.unlisted_phrasings if held_out else self.listed_phrasings
        return read_phrasings(texts, self._slot_values, [*self._shapes, *self._held_out_shapes])

    def groups(self, prompt: Prompt, phrasing: Phrasing) -> list[str] | None:
        """What stands in a prompt's groups of holes; None where the phrasing belongs to other templates."""
        shape = Shape.of((self._held_out_shapes if prompt.held_out else self._shapes)[prompt.template])
        return shape.values(prompt) if shape in phrasing.templates else None

    def put(self, prompt: Prompt, phrasing: Phrasing) -> str | None:
        """A prompt in other words; None where the phrasing belongs to other templates."""
        groups = self.groups(prompt, phrasing)
        return None if groups is None else phrasing.put(groups)

    @property
    def n_templates(self) -> int:
        """Number of probed shapes; a prompt names its shape by index."""
        return len(self.templates)

    def template_text(self, index: int, held_out: bool = False) -> str:
        """The text of a shape."""
        return _text((self.held_out if held_out else self.templates)[index])

    def masks(self, index: int, held_out: bool = False) -> tuple[str, ...]:
        """A shape as the masks of its prompts' units."""
        return (self._held_out_shapes if held_out else self._shapes)[index].masks

    def lengthened(self, shapes: int = 1) -> ProbeSpec:
        """The spec with its first held-out shapes appended to the probed ones.

        Raises SpecError if it has fewer held-out shapes.
        """
        if shapes > len(self.held_out):
            raise SpecError(
                f"expected {shapes} held-out shapes to rehearse, got {len(self.held_out)} in {self.name}; list longer "
                "shapes under held_out"
            )
        changes = {
            "templates": [*self.templates, *self.held_out[:shapes]],
            "held_out": self.held_out[shapes:],
        }
        return ProbeSpec.model_validate(self.model_dump() | changes)

    def split_of(self, prompt: str) -> Split:
        """The split of a prompt, by a hash of its text, so that splits cannot overlap. Facts are in every split."""
        u = int.from_bytes(hashlib.sha256(f"{self.name}\0{prompt}".encode()).digest()[:8], "big") / 2**64
        return next(name for name, upper in SPLITS if u < upper)

    def sample(
        self,
        split: Split,
        n: int,
        *,
        seed: int,
        held_out: bool = False,
        templates: Sequence[int] | None = None,
        skewed: bool = False,
        among: Collection[str] | None = None,
    ) -> list[Prompt]:
        """Distinct prompts of one split, distributed over the shapes by weight.

        Fewer than ``n`` where the shapes have fewer distinct prompts.

        Args:
            held_out: held-out shapes, of which only the evaluation split may be drawn; the rest is for a spec that
                is :meth:`lengthened`.
            templates: indices of the shapes; all by default.
            skewed: each prompt draws from two random values per slot, so that coincidences (all equal, many of one
                symbol) that are rare among uniform prompts are frequent.
            among: draw from these texts only, as far as they fit a shape.
        """
        if held_out and split != "evaluation":
            raise SpecError(f"held-out shapes are for evaluation only, got the split {split!r}")
        shapes = self._held_out_shapes if held_out else self._shapes
        weights = [getattr(t, "weight", 1.0) for t in (self.held_out if held_out else self.templates)]
        chosen = list(range(len(shapes))) if templates is None else list(templates)
        if not chosen:
            return []
        rng = random.Random(f"{self.digest}/{split}/{held_out}/{seed}/{skewed}")
        share = {i: n * weights[i] / sum(weights[j] for j in chosen) for i in chosen}
        drawn: dict[int, list[Prompt]] = {}
        carry, left = 0.0, sum(share.values())
        # Small shapes first: their shortfall goes to the larger ones.
        for i in sorted(chosen, key=lambda j: shapes[j].space):
            size = share[i] + (carry * share[i] / left if left else 0.0)
            drawn[i] = self._draw(shapes[i], i, held_out, split, round(size), rng, skewed, among)
            left -= share[i]
            carry = max(0.0, carry + share[i] - len(drawn[i])) if left > 0 else 0.0
        prompts = [p for i in chosen for p in drawn[i]]
        rng.shuffle(prompts)
        return prompts[:n]

    def _draw(
        self,
        shape: Template,
        index: int,
        held_out: bool,
        split: Split,
        n: int,
        rng: random.Random,
        skewed: bool,
        among: Collection[str] | None,
    ) -> list[Prompt]:
        def in_split(text: str) -> bool:
            return self.facts or self.split_of(text) == split

        if among is not None:
            texts = (text for text in dict.fromkeys(among) if in_split(text))
            read = (shape.read(text, template=index, held_out=held_out) for text in texts)
            prompts = [prompt for prompt in read if prompt is not None]
            rng.shuffle(prompts)
            return prompts[:n]
        drawn: Iterable[tuple[str, ...]]
        if shape.space <= _ENUMERATE_UP_TO and not (skewed and n < shape.space / 4):
            every = shape.every()
            rng.shuffle(every)
            drawn = every
        else:
            drawn = (shape.draw(rng, skewed=skewed) for _ in range(40 * n + 200))
        prompts = []
        repeats = 0  # since the last new text
        seen: set[str] = set()  # so that the split of each text is computed once
        for values in drawn if n > 0 else ():
            text = shape.text_of(values)
            if text in seen:
                repeats += 1
                if repeats > _PATIENCE * len(seen) + 100:
                    break  # nearly all prompts of this kind are drawn: a new one has a chance below e^-_PATIENCE
                continue
            repeats = 0
            seen.add(text)
            if in_split(text):
                prompts.append(shape.fill(values, template=index, held_out=held_out))
                if len(prompts) >= n:
                    break
        return prompts

    @property
    def answer_tokens(self) -> int:
        """Longest completion, in the teacher's tokens."""
        return self.max_new_tokens or _ANSWER_TOKENS

    def completion_text(self, generated: str) -> str:
        """The text before the end."""
        ends = (END, *(stop for stop in self.stops if stop is not None))
        return generated[: min(at for end in ends if (at := (generated + END).find(end)) >= 0)]

    def read_answer(self, completion: str) -> str | None:
        """The answer in a completion, or None where the spec's ``answer`` finds none."""
        return self._read(self.completion_text(completion))


def _text(template: str | WeightedTemplate) -> str:
    return template if isinstance(template, str) else template.text
