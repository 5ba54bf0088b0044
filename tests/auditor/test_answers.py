"""One rule limits the length of answers: ingest, evaluate and bench get the same answers of an adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import m2kt.auditor
from benchmarks._artifacts import ArtifactCache, Task
from m2kt.auditor import answer_budget, ask, packet_answers
from m2kt.models import generate_greedy, load_causal_lm
from m2kt.packet import Packet
from m2kt.pipeline import IngestConfig, evaluate, extract, ingest, read_spec, with_adapter
from m2kt.probes import ProbeSpec, Truth
from m2kt.settings import StudentSettings

STUDENT = "zoo:pico-gpt2"
N = 6
UNTRAINED = IngestConfig(
    prompt_seed=0,
    updates=0,
    student=StudentSettings(depth="learned"),
    evaluation_prompts=N,
    certificate_traces=0,
    trigger_strings=0,
    thresholds={"gap_recovered": -1, "perplexity_ratio": 1e9, "divergence": 1e9, "null_mass": 0},
)


@pytest.fixture(scope="module")
def packet() -> Packet:
    """The secret table, in chains of three letters only."""
    torch.set_num_threads(1)
    spec, _ = read_spec("zoo:secret")
    data = spec.model_dump(exclude_none=True) | {"templates": ["{x} {x} {x}:"], "held_out": [], "truth": None}
    return extract("zoo:secret", ProbeSpec.model_validate(data)).packet


@pytest.fixture
def completions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The completions that every call of ``score`` is given."""
    recorded: list[list[str]] = []
    original = m2kt.auditor.score

    def score(spec: Any, prompts: Any, texts: Sequence[str], truth: Any) -> Any:
        recorded.append(list(texts))
        return original(spec, prompts, texts, truth)

    monkeypatch.setattr("m2kt.auditor.score", score)
    monkeypatch.setattr("m2kt.auditor._measure.score", score)
    return recorded


def test_ingest_evaluate_and_bench_get_the_same_answers(
    packet: Packet, completions: list[list[str]], tmp_path: Path
) -> None:
    result = ingest(STUDENT, packet, tmp_path / "adapter", config=UNTRAINED)
    assert result.accepted, result.verdict.reasons
    by_ingest = completions[0]

    prompts = packet.spec.sample("evaluation", N, seed=0)
    answers = packet_answers(packet, prompts)
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(json.dumps({"prompt": p.text, "answer": answers[p.text]}) + "\n" for p in prompts))
    evaluate(STUDENT, packet.spec, adapter=tmp_path / "adapter", labelled=labelled)
    by_evaluate = completions[-1]

    student = with_adapter(load_causal_lm(STUDENT), tmp_path / "adapter")
    task = Task("zoo:secret", packet.spec, Truth(answers), prompts, [], {})
    ArtifactCache(tmp_path / "cache").score(student, task, prompts)
    by_bench = completions[-1]

    assert len(completions) == 4  # ingest also asks the frozen student
    assert by_ingest == by_evaluate == by_bench
    lengths = {len(text) for text in by_ingest if "\n" not in text}  # one token a character
    assert lengths == {answer_budget(student, packet.spec)}, "some answers never stop, and are cut at the budget"


def test_the_budget_counts_the_models_tokens() -> None:
    student = load_causal_lm(STUDENT)

    def spec(values: list[str], limit: int | None) -> ProbeSpec:
        shape = {"name": "s", "slots": {"x": {"values": values}}, "templates": ["{x}:"], "stop": "\n"}
        return ProbeSpec.model_validate(shape | {"max_new_tokens": limit})

    assert answer_budget(student, spec(["a", "b"], None)) == 256
    assert answer_budget(student, spec(["a", "b"], 20)) == 20
    assert answer_budget(student, spec(["uncle", "son"], 20)) == 80  # four characters in the mean, a token each


def test_a_model_without_adapter_reads_plain_text() -> None:
    teacher = load_causal_lm("zoo:secret")
    spec, _ = read_spec("zoo:secret")
    ids = teacher.tokenizer("a b:")["input_ids"]
    (expected,) = generate_greedy(teacher, [ids], 256, spec.stop)
    assert ask(teacher, spec, ["a b:"]) == [expected.text]
    assert expected.text.endswith("\n")
