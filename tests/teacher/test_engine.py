"""Engines: what a teacher replies depends on the request alone; what was replied is kept; wrong replies are refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m2kt.errors import ExtractionError, SpecError, StorageError
from m2kt.models import answer_ends, load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.probes import ProbeSpec
from m2kt.teacher import Checkpoint, LocalEngine
from m2kt.teacher._equality import measure_equality
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import (
    Ablate,
    Attribute,
    Generate,
    HeadRows,
    Patterns,
    Plain,
    Predict,
    Reply,
    Request,
    Rows,
    SharePrefix,
    States,
    Steer,
    completions,
    digest_of,
)
from tests.tiny import char_tokenizer, save_tiny

HEAD = tuple(range(3, 23))
A, B = (5, 6, 7, 8), (9, 4)


def engine_at(folder: Path, family: str = "llama", seed: int = 0) -> LocalEngine:
    path = folder / f"{family}-{seed}"
    if not path.exists():
        save_tiny(path, family, char_tokenizer(), seed=seed)
    return LocalEngine(load_causal_lm(path, dtype="fp32"))


def every_request(engine: LocalEngine) -> list[Request]:
    """One of each kind."""
    ends = answer_ends(load_causal_lm(engine.facts.path, dtype="fp32"), ["\n", None])
    rows = Rows((A, B), HEAD)
    return [
        SharePrefix(HEAD, ((*HEAD, *B), (*HEAD, *A))),
        Generate(((*HEAD, *A), (*HEAD, *B)), HEAD, 5, ends),
        Predict(rows, ((0, 3), (1,)), "choice"),
        Predict(rows, ((0, 2), ()), "log_p"),
        Predict(rows, ((), (1,)), "distribution"),
        States(rows, (1, 3), ((0, 0, 1), (0, 0, 2), (1, 1, 1))),
        Patterns(rows, ((0, 2, (1, 4)), (1, 1, (21,)))),
        Ablate(rows, (((3, (2, 3)),), ((1, (20,)),)), ((4,), (5,))),
        Attribute(A, 2),
        Steer(A, 1),
        HeadRows((4, 7)),
        Plain((A, B), (1, 0), (1, 3)),
    ]


def same(a: Reply, b: Reply) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_reply_depends_on_its_request_alone(family: str, tmp_path: Path) -> None:
    """Not on what was asked before, nor on the process: a new host computes the prefix that a request names."""
    requests = every_request(engine_at(tmp_path, family))
    replies = list(engine_at(tmp_path, family).ask(requests))
    for request, reply in reversed(list(zip(requests, replies, strict=True))):
        sent = pickle.loads(pickle.dumps(request))
        assert digest_of(sent) == digest_of(request)
        (alone,) = engine_at(tmp_path, family).ask([sent])
        assert same(alone, reply), request.kind
    assert len({digest_of(request) for request in requests}) == len(requests)
    texts = [c.text for c in completions(replies[1])]
    assert len(texts) == 2 and all(len(c.ids) <= 5 for c in completions(replies[1]))


class Counted:
    """An engine that counts, and stops after so many requests, as a killed process does."""

    def __init__(self, engine: LocalEngine, most: int | None = None) -> None:
        self.facts, self.tokenizer = engine.facts, engine.tokenizer
        self._engine, self._most, self.asked = engine, most, 0

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            if self.asked == self._most:
                raise KeyboardInterrupt
            self.asked += 1
            yield from self._engine.ask([request])

    def close(self) -> None:
        self._engine.close()


def test_a_checkpoint_asks_nothing_twice(tmp_path: Path) -> None:
    engine, folder = engine_at(tmp_path), tmp_path / "kept"
    requests = every_request(engine)
    whole = list(engine.ask(requests))
    stopped = Counted(engine, most=5)
    with pytest.raises(KeyboardInterrupt):
        list(Checkpoint(stopped, folder, resume=False).ask(requests))
    rest = Counted(engine)
    found = list(Checkpoint(rest, folder, resume=True).ask([*requests[3:], *requests[:3]]))
    assert rest.asked == len(requests) - 5
    assert all(same(a, b) for a, b in zip(found, [*whole[3:], *whole[:3]], strict=True))
    anew = Counted(engine)
    list(Checkpoint(anew, folder, resume=False).ask(requests))
    assert anew.asked == len(requests), "without resume, what is there is removed"


def test_a_checkpoint_of_another_teacher_or_dtype_is_refused(tmp_path: Path) -> None:
    engine, folder = engine_at(tmp_path), tmp_path / "kept"
    Checkpoint(engine, folder, resume=False)
    with pytest.raises(SpecError, match="digest"):
        Checkpoint(engine_at(tmp_path, seed=1), folder, resume=True)
    other = engine_at(tmp_path)
    other.facts = replace(other.facts, dtype="bfloat16")
    with pytest.raises(SpecError, match="dtype bfloat16"):
        Checkpoint(other, folder, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(StorageError, match="other files"):
        Checkpoint(engine, tmp_path / "mine", resume=False)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_damaged_reply_is_named(tmp_path: Path) -> None:
    engine, folder = engine_at(tmp_path), tmp_path / "kept"
    request = HeadRows((4, 7))
    list(Checkpoint(engine, folder, resume=False).ask([request]))
    (folder / digest_of(request)).write_bytes(b"PK\x03\x04 half")
    with pytest.raises(StorageError, match="remove the file"):
        list(Checkpoint(engine, folder, resume=True).ask([request]))


def spec_of_letters() -> ProbeSpec:
    spec, _ = read_spec("zoo:secret")
    return spec


class Wrong(Counted):
    """An engine with a fault in one kind of reply."""

    def __init__(self, engine: LocalEngine, kind: str, fault: str) -> None:
        super().__init__(engine)
        self._kind, self._fault = kind, fault

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            (reply,) = self._engine.ask([request])
            if request.kind == self._kind and self._fault in reply:
                reply = {**reply, self._fault: np.roll(reply[self._fault], 1, axis=-1)}
            yield reply


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("predict", "log_p_NV", "total variation"),
        ("states", "state_NLD", "cosine"),
        ("generate", "ids", "greedy tokens"),
    ],
)
def test_an_engine_that_computes_something_else_is_refused(kind: str, name: str, message: str) -> None:
    engine, spec = LocalEngine(load_causal_lm("zoo:secret", dtype="fp32")), spec_of_letters()
    equality = measure_equality(Teacher(engine, spec), seed=0)
    assert (
        equality is not None
        and equality.greedy == 1
        and equality.cosine > 0.999999 - 1e-9
        and equality.total_variation < 1e-3
    )
    with pytest.raises(ExtractionError, match=message):
        measure_equality(Teacher(Wrong(engine, kind, name), spec), seed=0)


def test_another_dtype_is_compared_with_fp32() -> None:
    loaded = load_causal_lm("zoo:secret", dtype="bf16")
    equality = measure_equality(Teacher(loaded, spec_of_letters()), seed=0)
    assert equality is not None and equality.dtype == "bfloat16"
    assert 0 < equality.total_variation_max < 0.5 and 0.9 < equality.cosine < 1
    with torch.no_grad():  # a fault that rounding does not explain
        for parameter in loaded.model.get_output_embeddings().parameters():
            parameter.mul_(0.05)
    with pytest.raises(ExtractionError, match=r"bfloat16.*--dtype fp32"):
        measure_equality(Teacher(loaded, spec_of_letters()), seed=0)
