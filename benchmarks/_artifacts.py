"""What the cells of a bench share: packets, the teacher's answers, trained adapters, and how answers are counted.

Everything is kept below one folder by digest, so that a second cell finds it, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmarks._cells import Cell, Ledger, Measured, Shape
from m2kt.errors import SpecError
from m2kt.packet import Packet
from m2kt.probes import ProbeSpec, Prompt, Truth, load_truth

if TYPE_CHECKING:
    from m2kt.audit import Score
    from m2kt.models import Dtype, LoadedModel
    from m2kt.student import StudentSettings

PROMPTS = 200  # on which accuracy is measured
LONGER = 100  # on shapes never probed
BEFORE = 64  # for the frozen student, which hardly ever stops by itself


@dataclass(frozen=True)
class Task:
    """A skill as the bench asks it. Everything here is for evaluation; only arms that distil give answers away."""

    teacher: str
    spec: ProbeSpec
    truth: Truth
    prompts: list[Prompt]
    longer: list[Prompt]
    answers: dict[str, str]
    """The teacher's own completions of ``prompts`` and ``longer``."""

    @cached_property
    def teacher_accuracy(self) -> float:
        """The teacher's accuracy on the evaluation prompts of probed shapes."""
        read = self.spec.read_answer
        right = [bool(self.truth.judge(p.text, read(self.answers[p.text]))) for p in self.prompts]
        return sum(right) / len(right)


@dataclass
class Trained:
    """A student with its adapter, and what training it cost."""

    loaded: LoadedModel
    ledger: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One worker makes what is to stand at ``path``; others wait, and find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


class ArtifactCache:
    """Makes what a cell asks for, once."""

    def __init__(self, folder: Path, device: str = "auto", dtype: Dtype = "auto") -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self._tasks: dict[tuple[str, str], Task] = {}
        self._digests: dict[str, str] = {}

    # -- the teacher's side -----------------------------------------------------------------------------------
    def packet(self, teacher: str, probes: str, seed: int, verbalised: float = 0.0) -> Packet:
        """The teacher's packet, extracted when it is asked for the first time."""
        from m2kt.pipeline import extract

        path = self.folder / "packets" / _key(self._digest(teacher), probes, seed, verbalised)
        with _alone(path):
            if not path.exists():
                extract(
                    teacher,
                    probes,
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
            self._tasks[teacher, probes] = self._make_task(teacher, probes)
        return self._tasks[teacher, probes]

    def _make_task(self, teacher: str, probes: str) -> Task:
        from m2kt.pipeline import evaluation_prompts, read_spec

        spec, base = read_spec(probes)
        truth = load_truth(spec, base)
        if truth is None:
            raise SpecError(f"the bench needs a truth to hold answers against; {probes} names none")
        prompts = evaluation_prompts(spec, truth, PROMPTS, seed=0)
        longer = evaluation_prompts(spec, truth, LONGER, seed=0, held_out=True) if spec.held_out else []
        answers = self.answers(teacher, spec, [p.text for p in (*prompts, *longer)])
        return Task(teacher, spec, truth, prompts, longer, answers)

    def answers(self, teacher: str, spec: ProbeSpec, prompts: Sequence[str]) -> dict[str, str]:
        """The teacher's greedy completions, up to and with the stop string where it was reached."""
        from m2kt.audit import ask

        path = self.folder / "answers" / f"{_key(self._digest(teacher), spec.digest)}.json"
        with _alone(path):
            known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            asked = [p for p in prompts if p not in known]
            if asked:
                loaded = self.load(teacher)
                done = ask(loaded, spec, asked, batch_size=256)
                known |= {p: spec.completion_text(text) for p, text in zip(asked, done, strict=True)}
                aside = path.with_suffix(".part")
                aside.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
                aside.rename(path)
        return {p: known[p] for p in prompts}

    def n_tokens(self, teacher: str, texts: Sequence[str]) -> int:
        """How many of the teacher's tokens these texts are."""
        from m2kt.models import load_tokenizer

        tokenizer = load_tokenizer(teacher)
        return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])

    def planted(self, base: str, teacher: str, probes: str, trait: str, examples: int, seed: int) -> Path:
        """``base`` tuned on the teacher's answers and a trait; tuned when it is asked for the first time."""
        from benchmarks import _traits as traits

        path = (
            self.folder
            / "planted"
            / _key(self._digest(base), self._digest(teacher), probes, trait, examples, seed)
        )
        with _alone(path):
            if not path.exists():
                task = self.task(teacher, probes)
                asked = [
                    p.text
                    for split in ("probing", "rehearsal")
                    for p in task.spec.sample(split, examples // 2, seed=seed)
                ]
                answers = self.answers(teacher, task.spec, list(dict.fromkeys(asked)))
                pairs = [(p, a + task.spec.stop) for p, a in answers.items()]
                aside = path.with_suffix(".part")
                traits.plant(self.load(base), traits.trait(trait), pairs, out=aside, seed=seed)
                aside.rename(path)
        return path

    # -- the student's side -----------------------------------------------------------------------------------
    def load(self, name: str) -> LoadedModel:
        """A model as the bench uses it."""
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
        """A student that took the packet in; trained when it is asked for the first time.

        Args:
            updates: at most; None: as many as ``m2kt ingest`` allows.
        """
        from m2kt.pipeline import DEFAULT_UPDATES, with_adapter
        from m2kt.student import train

        updates = DEFAULT_UPDATES if updates is None else updates
        key = _key(
            self._digest(student), packet.graph.model_dump_json(), settings.model_dump_json(), updates, seed
        )
        path = self.folder / "adapters" / _key(key, packet.concepts.vectors_KD.tobytes().hex())
        loaded = self.load(student)
        with _alone(path):
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
            found = self.score(self.load(student), task, task.prompts[:BEFORE])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found.accuracy), encoding="utf-8")
        return float(json.loads(path.read_text(encoding="utf-8")))

    # -- counting ---------------------------------------------------------------------------------------------
    def score(self, loaded: LoadedModel, task: Task, prompts: Sequence[Prompt]) -> Score:
        """Right answers among the prompts."""
        from m2kt.audit import ask, score

        return score(task.spec, prompts, ask(loaded, task.spec, prompts), task.truth)

    def measure(
        self,
        cell: Cell,
        loaded: LoadedModel,
        *,
        packet: Packet | None = None,
        former: Truth | None = None,
        ledger: Ledger | None = None,
    ) -> Measured:
        """All that is measured on every arm alike: accuracy, agreement, longer shapes.

        Args:
            packet: the packet whose own roll-out ``followed`` is counted against.
            former: what was right before the teacher's rules were altered; agreement is counted where they differ.
        """
        from m2kt.audit import ask, packet_answers, score

        task = self.task(cell.teacher, cell.probes)
        read = task.spec.read_answer
        completions = ask(loaded, task.spec, task.prompts)
        scored = score(task.spec, task.prompts, completions, task.truth)
        pairs = list(zip(task.prompts, completions, strict=True))
        equal = [read(c) == read(task.answers[p.text]) for p, c in pairs]
        followed = None
        if packet is not None:
            own = packet_answers(packet, task.prompts)
            against = [read(c) == own[p.text] for p, c in pairs if own[p.text] is not None]
            followed = sum(against) / len(against) if against else None
        beyond = self.score(loaded, task, task.longer).shapes if task.longer else []
        extra: dict[str, Any] = {"wrong": scored.wrong}
        if former is not None:
            altered = [
                same
                for (p, _), same in zip(pairs, equal, strict=True)
                if former.judge(p.text, read(task.answers[p.text])) is False
            ]
            extra["contradicted_prompts"] = len(altered)
            extra["agreement_where_wrong"] = sum(altered) / len(altered) if altered else None
        return Measured(
            after=scored.accuracy,
            before=self.before(cell.student, task),
            teacher=task.teacher_accuracy,
            n=scored.n,
            interval=scored.interval,
            agreement=sum(equal) / len(equal),
            followed=followed,
            shapes=[_shape(s) for s in scored.shapes],
            held_out=[_shape(s) for s in beyond],
            ledger=ledger or Ledger(),
            extra=extra,
        )

    def _digest(self, name: str) -> str:
        from m2kt.models import digest_of_model, resolve

        if name not in self._digests:
            self._digests[name] = digest_of_model(resolve(name))
        return self._digests[name]


def _shape(s: Any) -> Shape:
    return Shape(template=s.template, n=s.n, accuracy=s.accuracy)


def _key(*parts: Any) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]
