"""The artifact cache: packets, teachers' answers and trained adapters that cells share, and how answers are scored.

Artifacts lie below one folder, named by digest, so that later cells load them. They may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmarks._cells import Cell, Ledger, Measured, Shape
from m2kt.errors import SpecError
from m2kt.packet import Packet
from m2kt.probes import ProbeSpec, Prompt, ShapeScore, Truth, load_truth

if TYPE_CHECKING:
    from m2kt.auditor import Score
    from m2kt.models import Dtype, LoadedModel
    from m2kt.student import StudentSettings, TrainingLedger

PROMPTS = 200  # evaluation prompts of probed shapes
LONGER = 100  # evaluation prompts of longer shapes, never probed
BEFORE = 64  # prompts for the frozen student, which rarely writes the stop string and so is slow


@dataclass(frozen=True)
class Task:
    """The evaluation of a skill. Only the baselines hand its answers to the student side."""

    teacher: str
    spec: ProbeSpec
    truth: Truth
    prompts: list[Prompt]
    longer: list[Prompt]
    answers: dict[str, str]
    """The teacher's completions of ``prompts`` and ``longer``."""

    @cached_property
    def bounded_spec(self) -> ProbeSpec:
        """The spec with room for 1.5 of the teacher's longest answer: frozen students and weak baselines never stop.

        The room is counted in characters, which no tokenizer exceeds but for symbols that it spells in bytes; the
        budget converts symbols.
        """
        longest = max(map(len, self.answers.values()), default=0)
        if not longest:
            return self.spec
        limit = min(self.spec.answer_tokens, ceil(1.5 * longest))
        return self.spec.model_copy(update={"max_new_tokens": limit})

    @cached_property
    def teacher_accuracy(self) -> float:
        """The teacher's accuracy on the evaluation prompts of probed shapes."""
        read = self.spec.read_answer
        right = [bool(self.truth.judge(p.text, read(self.answers[p.text]))) for p in self.prompts]
        return sum(right) / len(right)


@dataclass
class Trained:
    """A student with its adapter, and the cost of its training."""

    loaded: LoadedModel
    ledger: TrainingLedger
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of an artifact: one worker makes it, the others wait and load it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


class ArtifactCache:
    """Makes every artifact once."""

    def __init__(self, folder: Path, device: str = "auto", dtype: Dtype = "auto") -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self._tasks: dict[tuple[str, str], Task] = {}
        self._digests: dict[str, str] = {}

    # -- the teacher's side -----------------------------------------------------------------------------------
    def packet(self, teacher: str, probes: str, seed: int, verbalised: float = 0.0) -> Packet:
        """The teacher's packet, extracted at the first call."""
        from m2kt.pipeline import extract

        path = self.folder / "packets" / _key(self._digest(teacher), probes, seed, verbalised)
        with _locked(path):
            if not path.exists():
                extract(
                    teacher,
                    spec_path(probes),
                    path,
                    verbalised=verbalised,
                    seed=seed,
                    device=self.device,
                    dtype=self.dtype,
                )
        return Packet.load(path)

    def task(self, teacher: str, probes: str) -> Task:
        """The prompts, the truth, and the teacher's answers to them."""
        if (teacher, probes) not in self._tasks:
            self._tasks[teacher, probes] = self._read_task(teacher, probes)
        return self._tasks[teacher, probes]

    def _read_task(self, teacher: str, probes: str) -> Task:
        from m2kt.pipeline import evaluation_prompts, read_spec

        spec, base = read_spec(spec_path(probes))
        truth = load_truth(spec, base)
        if truth is None:
            raise SpecError(f"the bench needs a truth to compare answers with; {probes} names none")
        prompts = evaluation_prompts(spec, truth, PROMPTS, seed=0)
        longer = evaluation_prompts(spec, truth, LONGER, seed=0, held_out=True) if spec.held_out else []
        answers = self.answers(teacher, spec, [p.text for p in (*prompts, *longer)])
        return Task(teacher, spec, truth, prompts, longer, answers)

    def answers(self, teacher: str, spec: ProbeSpec, prompts: Sequence[str]) -> dict[str, str]:
        """The teacher's greedy completions, up to and with the stop string if it was written."""
        from m2kt.auditor import ask

        path = self.folder / "answers" / f"{_key(self._digest(teacher), spec.digest, *spec.shown)}.json"
        with _locked(path):
            answers: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            new = [p for p in prompts if p not in answers]
            if new:
                completions = ask(self.load(teacher), spec, new, batch_size=256)
                answers |= {p: spec.completion_text(c) for p, c in zip(new, completions, strict=True)}
                part = path.with_suffix(".part")
                part.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
                part.rename(path)
        return {p: answers[p] for p in prompts}

    def n_tokens(self, teacher: str, texts: Sequence[str]) -> int:
        """The number of the teacher's tokens in these texts."""
        from m2kt.models import load_tokenizer

        tokenizer = load_tokenizer(teacher)
        return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])

    def planted(self, base: str, teacher: str, probes: str, trait: str, examples: int, seed: int) -> Path:
        """``base`` tuned on the teacher's answers and a trait, at the first call."""
        from benchmarks import _traits as traits

        path = self.folder / "planted" / _key(self._digest(base), self._digest(teacher), probes, trait, examples, seed)
        with _locked(path):
            if not path.exists():
                task = self.task(teacher, probes)
                prompts = [
                    p.text
                    for split in ("probing", "rehearsal")
                    for p in task.spec.sample(split, examples // 2, seed=seed)
                ]
                answers = self.answers(teacher, task.spec, list(dict.fromkeys(prompts)))
                pairs = [(p, a + task.spec.end) for p, a in answers.items()]
                part = path.with_suffix(".part")
                traits.plant(self.load(base), traits.trait(trait), pairs, out=part, seed=seed)
                part.rename(path)
        return path

    # -- the student's side -----------------------------------------------------------------------------------
    def load(self, name: str) -> LoadedModel:
        """Load a model on the bench's device, in its dtype."""
        from m2kt.models import load_causal_lm

        return load_causal_lm(name, device=self.device, dtype=self.dtype)

    def train(
        self,
        student: str,
        packet: Packet,
        settings: StudentSettings,
        *,
        updates: int | None = None,
        seed: int = 0,
    ) -> Trained:
        """A student with an adapter of the packet, trained at the first call.

        Args:
            updates: limit; None: the default of ``m2kt ingest``.
        """
        from m2kt.pipeline import DEFAULT_UPDATES, with_adapter
        from m2kt.student import train

        updates = DEFAULT_UPDATES if updates is None else updates
        key = _key(self._digest(student), packet.program.model_dump_json(), settings.model_dump_json(), updates, seed)
        path = self.folder / "adapters" / _key(key, packet.concepts.vectors_KD.tobytes().hex())
        loaded = self.load(student)
        with _locked(path):
            if (path / "cost.json").is_file():
                cost = json.loads((path / "cost.json").read_text(encoding="utf-8"))
                return Trained(with_adapter(loaded, path), **cost)
            candidate = train(loaded, packet, settings, updates=updates, seed=seed)
            candidate.model.save_pretrained(str(path))
            (path / "cost.json").write_text(
                json.dumps({"ledger": candidate.ledger, "history": candidate.history}), encoding="utf-8"
            )
        return Trained(replace(loaded, model=candidate.model), candidate.ledger, candidate.history)

    def before(self, student: str, task: Task) -> float:
        """Accuracy of the frozen student."""
        path = self.folder / "before" / f"{_key(self._digest(student), task.spec.digest, task.teacher)}.json"
        if not path.is_file():
            accuracy = self.score(self.load(student), task, task.prompts[:BEFORE]).accuracy
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(accuracy), encoding="utf-8")
        return float(json.loads(path.read_text(encoding="utf-8")))

    # -- scoring ----------------------------------------------------------------------------------------------
    def score(self, loaded: LoadedModel, task: Task, prompts: Sequence[Prompt]) -> Score:
        """Accuracy of a model on the prompts."""
        from m2kt.auditor import ask, score

        return score(task.spec, prompts, ask(loaded, task.bounded_spec, prompts), task.truth)

    def measure(
        self,
        cell: Cell,
        loaded: LoadedModel,
        *,
        packet: Packet | None = None,
        former: Truth | None = None,
        ledger: Ledger | None = None,
    ) -> Measured:
        """What every experiment measures: accuracy, agreement, longer shapes.

        Args:
            packet: the packet whose rollout ``followed`` compares answers with.
            former: truth of the original skill, for an altered teacher; agreement is also measured where they differ.
        """
        from m2kt.auditor import ask, packet_answers, score

        task = self.task(cell.teacher, cell.probes)
        read = task.spec.read_answer
        completions = ask(loaded, task.bounded_spec, task.prompts)
        scored = score(task.spec, task.prompts, completions, task.truth)
        pairs = list(zip(task.prompts, completions, strict=True))
        equal = [read(c) == read(task.answers[p.text]) for p, c in pairs]
        followed = None
        if packet is not None:
            rollout = packet_answers(packet, task.prompts)
            follows = [read(c) == rollout[p.text] for p, c in pairs if rollout[p.text] is not None]
            followed = sum(follows) / len(follows) if follows else None
        longer = self.score(loaded, task, task.longer).shapes if task.longer else []
        extra: dict[str, Any] = {"wrong": scored.wrong}
        if former is not None:
            contradicting = [
                agrees
                for (p, _), agrees in zip(pairs, equal, strict=True)
                if former.judge(p.text, read(task.answers[p.text])) is False
            ]
            extra["contradicted_prompts"] = len(contradicting)
            extra["agreement_where_wrong"] = sum(contradicting) / len(contradicting) if contradicting else None
        return Measured(
            after=scored.accuracy,
            before=self.before(cell.student, task),
            teacher=task.teacher_accuracy,
            n=scored.n,
            interval=scored.interval,
            agreement=sum(equal) / len(equal),
            followed=followed,
            shapes=[_shape(s) for s in scored.shapes],
            held_out=[_shape(s) for s in longer],
            ledger=ledger or Ledger(),
            extra=extra,
        )

    def _digest(self, name: str) -> str:
        from m2kt.models import digest_of_model, resolve

        if name not in self._digests:
            self._digests[name] = digest_of_model(resolve(name))
        return self._digests[name]


def spec_path(probes: str) -> str:
    """The file of a probe spec. Profiles and results name the zoo's specs without a teacher by ``zoo/...``."""
    from m2kt.models import zoo_dir

    return str(zoo_dir() / probes.removeprefix("zoo/")) if probes.startswith("zoo/") else probes


def _shape(s: ShapeScore) -> Shape:
    return Shape(template=s.template, n=s.n, accuracy=s.accuracy)


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]
