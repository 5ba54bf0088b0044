"""Single steps by stage, geometry, and diagnosis: each failure is caused on purpose and must be recognised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from m2kt.auditor import (
    Geometry,
    Steps,
    concept_map,
    diagnose,
    measure_geometry,
    measure_steps,
    packet_traces,
)
from m2kt.auditor._traces import spans
from m2kt.models import LoadedModel, load_causal_lm
from m2kt.packet import Packet, ProgramExecutor, Trace, decode_outputs, fixed_lookup
from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec
from m2kt.student import NO_BANK, CALConfig, Candidate, Encoder, StudentSettings, replace_bank, train
from tests.student.helpers import WORDS, loaded, small_packet

STUDENT = "zoo:pico-gpt2"
PROMPTS = 40
QUICK = {"losses": {"silence": 0.0}, "projector": {"gain": 8.0, "unembedding": 1.0}}  # quicker preparation


@pytest.fixture(scope="module")
def packet() -> Packet:
    """The secret table, probed in chains of three letters only: two rule steps in each trace."""
    torch.set_num_threads(1)
    spec, _ = read_spec("zoo:secret")
    data = spec.model_dump(exclude_none=True) | {"templates": ["{x} {x} {x}:"], "held_out": [], "truth": None}
    return extract("zoo:secret", ProbeSpec.model_validate(data)).packet


def trained(packet: Packet, updates: int, **settings: Any) -> tuple[LoadedModel, Candidate]:
    student = load_causal_lm(STUDENT)
    options = StudentSettings.model_validate({"depth": "learned", "rehearsal": {"batch": 12}, **settings})
    candidate = train(student, packet, options, updates=updates)
    return replace(student, model=candidate.model), candidate


@pytest.fixture(scope="module")
def good(packet: Packet) -> LoadedModel:
    return trained(packet, 30)[0]


def roll(packet: Packet) -> list[Trace]:
    return packet_traces(packet, packet.spec.sample("evaluation", PROMPTS, seed=0))


def measure(student: LoadedModel, packet: Packet) -> tuple[Steps, Geometry | None]:
    traces = roll(packet)
    return measure_steps(student, packet, traces), measure_geometry(student, packet, traces)


def names(
    measured: tuple[Steps, Geometry | None], accuracy: float = 0.0, needed: float = 0.9, **options: Any
) -> list[str]:
    return [d.name for d in diagnose(*measured, accuracy=accuracy, needed=needed, **options)]


@contextmanager
def with_vectors(student: LoadedModel, packet: Packet, vectors_KD: Any) -> Iterator[Packet]:
    """Temporarily load other vectors into the trained adapter; yields the packet that holds them."""
    other = packet.replace(concepts=packet.concepts.replace(vectors_KD=vectors_KD.astype(np.float32)))
    replace_bank(student.model, other)
    try:
        yield other
    finally:
        replace_bank(student.model, packet)


@contextmanager
def changed(tensor: torch.Tensor, value: torch.Tensor) -> Iterator[None]:
    """Temporarily change a tensor of the trained adapter."""
    before = tensor.detach().clone()
    with torch.no_grad():
        tensor.copy_(value)
        try:
            yield
        finally:
            tensor.copy_(before)


# -- stages ---------------------------------------------------------------------------------------------
def test_a_good_adapter_is_right_at_every_stage(good: LoadedModel, packet: Packet) -> None:
    steps, geometry = measure(good, packet)
    assert steps.traces == PROMPTS and steps.n == 2 * PROMPTS
    for stage in ("selected", "gathered", "retrieved", "written", "readable", "read_out", "procedure"):
        assert getattr(steps, stage) >= 0.95, stage
    assert steps.latent == steps.read_out and steps.verbalised is None  # v = 0
    assert sum(n for n, _ in steps.by_concept.values()) == steps.n
    assert sum(right for _, right in steps.by_concept.values()) == round((steps.read_out or 0) * steps.n)
    assert steps.concepts_seen == len(steps.by_concept) / 100
    assert geometry is not None and geometry.others is not None
    assert geometry.nearest >= 0.95 and geometry.distance < geometry.others
    assert names((steps, geometry), accuracy=0.95) == []
    assert names((steps, geometry), accuracy=0.5) == ["unexplained"]


def test_noise_is_retrieved_and_does_not_decode(good: LoadedModel, packet: Packet) -> None:
    """The student decodes noise as the prototypes do, so its steps are right without meaning."""
    v = packet.concepts.vectors_KD
    with with_vectors(good, packet, np.random.default_rng(1).normal(v.mean(0), v.std(0), v.shape)) as noise:
        steps, _ = measured = measure(good, noise)
    assert min(steps.selected or 0, steps.gathered or 0, steps.retrieved or 0) >= 0.95
    assert steps.readable is not None and steps.readable <= 0.2
    assert names(measured) == ["vectors unreadable"]
    assert names(measured, packet_accuracy=0.1) == ["vectors unreadable", "packet wrong"]


def test_shuffled_vectors_are_followed_and_the_packet_is_named_as_the_cause(good: LoadedModel, packet: Packet) -> None:
    order = np.random.default_rng(1).permutation(packet.n_concepts)
    with with_vectors(good, packet, packet.concepts.vectors_KD[order]) as shuffled:
        steps, geometry = measure(good, shuffled)
        true = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
        prompts = packet.spec.sample("evaluation", PROMPTS, seed=0)
        against_truth = measure_steps(good, shuffled, [ProgramExecutor(packet.program)(p, true) for p in prompts])
    assert steps.read_out is not None and steps.read_out >= 0.95
    assert against_truth.read_out is not None and against_truth.read_out <= 0.4
    assert names((steps, geometry), packet_accuracy=0.1) == ["packet wrong"]


def test_few_updates_do_not_learn_the_procedure(packet: Packet) -> None:
    student, candidate = trained(packet, 1, **QUICK)
    steps, geometry = measure(student, packet)
    assert steps.selected is not None and steps.selected < 0.9
    causes = diagnose(steps, geometry, accuracy=0.0, needed=0.9, history=candidate.history)
    assert [d.name for d in causes] == ["selector wrong", "structure wrong", "geometry without skill"]
    assert "more updates" in causes[-1].says
    assert causes[-1].evidence["rehearsal class"] == candidate.history[-1]["class"]


def test_argument_heads_that_attend_elsewhere(good: LoadedModel, packet: Packet) -> None:
    query = good.model.base_model.reader().gather.query.weight
    with changed(query, -query):
        steps, geometry = measure(good, packet)
    assert steps.selected is not None and steps.selected >= 0.95
    assert steps.gathered is not None and steps.gathered <= 0.2
    assert names((steps, geometry))[0] == "pointers slip"


def test_a_reader_gated_off_by_its_context_whitelist(good: LoadedModel, packet: Packet) -> None:
    matcher = good.model.base_model.reader().matcher
    trails = matcher.context_whitelist
    matcher.context_whitelist = frozenset(sorted(trails)[:1])
    steps, geometry = measure(good, packet)
    matcher.context_whitelist = trails
    assert steps.retrieved is not None and steps.retrieved >= 0.95
    assert names((steps, geometry)) == ["reader silenced"]


def test_right_rows_with_wrong_read_out(good: LoadedModel, packet: Packet) -> None:
    """phi with exchanged symbols: the right rows are retrieved, and another symbol is written."""
    head = good.model.base_model.reader().projector.head_JFE
    idle = {"causal_M": np.zeros, "effect_M": np.zeros}
    without_effect = packet.replace(
        attention={n: idle[n](a.shape, a.dtype) if n in idle else a for n, a in packet.attention.items()}
    )
    with changed(head, head.roll(1, 1)):
        steps, geometry = measure(good, packet)
        idle_steps = measure_steps(good, without_effect, roll(without_effect))
    assert steps.retrieved is not None and steps.retrieved >= 0.95 and steps.read_out == 0.0
    (only,) = diagnose(steps, geometry, accuracy=0.0, needed=0.9)
    assert only.name == "read-out wrong" and "phi is wrong" in only.says
    assert only.evidence["causal edges"] == steps.causal_failed == 1.0
    assert idle_steps.causal_failed == 0.0
    assert names((idle_steps, geometry)) == ["attention not causal", "read-out wrong"]


# -- other adapters -------------------------------------------------------------------------------------
def test_adapters_without_reader_have_no_stages(packet: Packet) -> None:
    student = load_causal_lm(STUDENT)
    lora = get_peft_model(student.model, LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True))
    steering_only, _ = trained(packet, 0, reader={"kind": "none"}, steering={"rank": 2})
    for adapted in (replace(student, model=lora), steering_only):
        steps, geometry = measured = measure(adapted, packet)
        assert geometry is None and concept_map(adapted, packet, roll(packet)) is None
        for stage in ("selected", "gathered", "retrieved", "written", "readable", "procedure"):
            assert getattr(steps, stage) is None
        assert steps.n == 2 * PROMPTS and steps.read_out is not None and steps.read_out <= 0.4
        assert names(measured) == ["step wrong", "structure wrong"]


def test_the_flat_reader_has_rows_only(packet: Packet) -> None:
    student, _ = trained(packet, 0, reader={"kind": "flat"}, rehearsal={"batch": 4}, **QUICK)
    steps, geometry = measure(student, packet)
    assert steps.selected is None and steps.gathered is None and steps.written is None
    assert steps.retrieved is not None and geometry is not None
    assert names((steps, geometry))[0] == "row not found"


# -- which steps --------------------------------------------------------------------------------------
def test_only_the_teachers_own_answers_are_measured(good: LoadedModel, packet: Packet) -> None:
    traces = roll(packet)
    prompts = packet.spec.sample("evaluation", PROMPTS, seed=0)
    answers = {p.text: t.completion for p, t in zip(prompts, traces, strict=True)}
    answers[prompts[0].text] = "something else"
    assert measure_steps(good, packet, traces, answers).traces == PROMPTS - 1
    nothing = measure_steps(good, packet, traces, {})
    assert nothing.n == 0 and nothing.read_out is None and nothing.shares == {"concepts_seen": 0.0}
    assert names((nothing, None)) == []


def test_a_step_is_all_tokens_of_its_symbol() -> None:
    small, tokenizer = small_packet(WORDS), loaded("gpt2").tokenizer  # letter by letter
    (prompt,) = small.spec.sample("evaluation", 1, seed=0)
    trace = ProgramExecutor(small.program)(prompt, fixed_lookup(small.outputs, small.program))
    item = Encoder(small.program, tokenizer)(trace, NO_BANK, CALConfig())
    ((first, end),) = spans(item).items()
    assert tokenizer.decode(item.ids[first + 1 : end + 1]) == trace.units[-3].text.strip()


def test_the_concept_map(good: LoadedModel, packet: Packet) -> None:
    points = concept_map(good, packet, roll(packet))
    assert points is not None
    k = packet.n_concepts
    assert len(points["teacher_xy"]) == len(points["image_xy"]) == len(points["label"]) == k
    assert len(points["own_xy"]) == len(points["own_label"]) == 10
    assert len(points["anchor_xy"]) == len(points["anchor_label"]) == 10
    outputs = decode_outputs(packet.program, packet.concepts)
    assert points["label"] == [packet.program.symbols[o] for o in outputs]
    assert json.loads(json.dumps(points)) == points
    label, image = np.array(points["label"]), np.array(points["image_xy"])
    spread = np.mean([image[label == s].std(0).max() for s in set(points["label"])])
    assert spread < 0.2 * image.std(0).max()  # concepts of one symbol lie together


# -- signatures on numbers ------------------------------------------------------------------------------
def numbers(**changes: Any) -> Steps:
    perfect: dict[str, Any] = {
        "n": 100, "traces": 50, "concepts_seen": 0.5, "selected": 1.0, "gathered": 1.0, "retrieved": 1.0,
        "written": 1.0, "readable": 1.0, "read_out": 1.0, "latent": None, "verbalised": None, "failed": {},
        "chains": 1.0, "structure": 1.0, "procedure": 1.0, "causal": 1.0, "causal_failed": None, "by_concept": {},
    }  # fmt: skip
    return Steps(**(perfect | changes))


CLOSE = Geometry(concepts=100, distance=0.3, others=2.0, nearest=0.97)
FAR = Geometry(concepts=100, distance=1.9, others=2.0, nearest=0.2)


@pytest.mark.parametrize(
    ("steps", "geometry", "options", "expected"),
    [
        # two causes, ordered by stage; the third accounts for too few steps
        (
            numbers(
                read_out=0.6, chains=0.4, failed={"selected": 0.2, "gathered": 0.17, "read_out": 0.03}
            ),
            FAR,
            {},
            ["selector wrong", "pointers slip"],
        ),
        # geometry converged, rehearsal mastered: capacity
        (
            numbers(gathered=0.5, read_out=0.5, chains=0.3, failed={"gathered": 0.5}),
            CLOSE,
            {"history": [{"class": 0.3, "edge": 0.3, "geo": 0.2}, {"class": 0.99, "edge": 0.98}]},
            ["pointers slip", "geometry without skill"],
        ),
        # steps that are nearly all right do not explain the lost answers
        (numbers(read_out=0.99, chains=0.97, failed={"read_out": 0.01}), CLOSE, {}, ["unexplained"]),
        # the packet's few errors do not explain the lost answers
        (
            numbers(read_out=0.7, chains=0.5, failed={"read_out": 0.3}),
            CLOSE,
            {"packet_accuracy": 0.97},
            ["read-out wrong"],
        ),
        # the student follows edges that are not causal in the teacher
        (
            numbers(causal=0.3),
            CLOSE,
            {"packet_accuracy": 0.4},
            ["attention not causal", "packet wrong"],
        ),
        # only the tokens between the steps are wrong
        (numbers(structure=0.4, procedure=0.4), FAR, {}, ["structure wrong"]),
        (numbers(structure=0.4, procedure=1.0), FAR, {}, ["structure wrong"]),
    ],
)  # fmt: skip
def test_signatures(steps: Steps, geometry: Geometry, options: dict[str, Any], expected: list[str]) -> None:
    assert names((steps, geometry), accuracy=0.4, **options) == expected
    assert names((steps, geometry), accuracy=0.9, **options) == []


def test_capacity_is_distinguished_from_too_little_training() -> None:
    steps = numbers(selected=0.5, read_out=0.5, chains=0.3, failed={"selected": 0.5})
    for hits, says in ((0.99, "too small"), (0.5, "more updates"), (None, "more updates")):
        history = [] if hits is None else [{"class": hits, "edge": hits, "geo": 0.01}]
        last = diagnose(steps, CLOSE, accuracy=0.3, needed=0.9, history=history)[-1]
        assert last.name == "geometry without skill" and says in last.says
