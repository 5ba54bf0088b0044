"""Handmade results of every experiment that a report shows. Numbers are invented and easy to check by hand."""

from __future__ import annotations

from math import exp
from typing import Any

from benchmarks import Cell, CurvePoint, Ledger, Measured, Result, Shape
from m2kt.render import summarise_graph
from tests.packet.samples import sample_packet

STUDENT = "zoo:pico-gpt2"
BYTES = 80_000


def cell(name: str, skill: str = "secret", seed: int = 0, student: str = STUDENT, **options: Any) -> Cell:
    """A cell; keywords are the options of the experiment."""
    reference = f"zoo:{skill}"
    return Cell(
        arm=name,
        skill=skill,
        teacher=reference,
        probes=reference,
        student=student,
        seed=seed,
        options=options,
    )


def result(of: Cell, after: float | None = None, **measured: Any) -> Result:
    """A measured cell: 0 % before, a teacher of 100 %, 100 prompts."""
    values: dict[str, Any] = {"after": after, "before": 0.0, "teacher": 1.0, "n": 100}
    return Result(
        cell=of,
        status="done",
        measured=Measured(**(values | measured)),
        seconds=60,
        commit="4f2fefe",
        machine={"cores": 2, "torch": "2.13.0"},
        started="2026-11-25T10:00:00Z",
    )


def transfer(skill: str, seed: int, after: float, student: str = STUDENT, **measured: Any) -> Result:
    """A cell of the headline experiment with everything that it may hold."""
    history = [
        {"update": float(u), "geo": 2 * exp(-u / 20), "struct": 3 * exp(-u / 9), "reason": 4 * exp(-u / 15)}
        for u in range(1, 61, 3)
    ]
    values: dict[str, Any] = {
        "interval": (max(0.0, after - 0.04), min(1.0, after + 0.02)),
        "agreement": after,
        "steps": {"n": 300.0, "selected": 1.0, "retrieved": 0.99, "read_out": after, "latent": after},
        "shapes": [Shape(template="{x} {x}:", n=50, accuracy=after)],
        "held_out": [Shape(template="{x} {x} {x} {x}:", n=50, accuracy=0.2)],
        "extra": {"certificate": {"confidence": 0.95, "bound": after - 0.04, "divergence_bound": after - 0.1}},
        "history": history,
        "ledger": Ledger(
            teacher_passes=4000,
            teacher_tokens=20,
            concepts=100,
            bytes=BYTES,
            sequences=1000,
            tokens=40_000,
            core_tokens=10_000.0,
            trainable_parameters=200_000,
            train_seconds=40.0,
        ),
    }
    return result(cell("m2kt", skill, seed, student, v=0), after, **(values | measured))


def distilled(skill: str, examples: int, after: float, *, lr: float = 1e-3, seed: int = 0, **measured: Any) -> Result:
    """A cell of the baseline: 10 tokens and 40 bytes an example, a learning curve that rises linearly to ``after``."""
    options: dict[str, Any] = {"examples": examples, "lr": lr, "method": measured.pop("method", "sft")}
    if measured.pop("equal_bytes", False):
        options["equal_bytes"] = True
    curve = [
        CurvePoint(tokens=50_000 * i, sequences=500 * i, seconds=9.0 * i, accuracy=after * i / 4, n=50)
        for i in range(1, 5)
    ]
    ledger = Ledger(labelled_examples=examples, teacher_tokens=10 * examples, bytes=40 * examples, tokens=200_000)
    values: dict[str, Any] = {"curve": curve, "ledger": ledger}
    return result(cell("distil", skill, seed, **options), after, **(values | measured))


def every_section() -> list[Result]:
    """Two skills, three seeds, one more student, and all experiments."""
    results: list[Result] = []
    for student in (STUDENT, "models/smollm2-135m"):
        for seed, (secret, kinship) in enumerate([(1.0, 0.95), (0.99, 0.9), (1.0, 1.0)]):
            results += [
                transfer("secret", seed, secret, student),
                transfer("kinship", seed, kinship, student),
            ]
    results[0] = transfer("secret", 0, 1.0, map=_map(), graph=_graph())
    diagnosis = {"name": "pointers slip", "says": "Train longer.", "evidence": {"gathered": 0.5}}
    results[3] = transfer("kinship", 1, 0.9, diagnosis=[diagnosis])
    for skill, scale in (("secret", 1.0), ("kinship", 0.8)):
        for v in (0.1, 0.5, 1):
            results.append(result(cell("m2kt", skill, v=v), 0.97 * scale + 0.02 * v))
        results.append(result(cell("plain", skill), 0.99 * scale))
        for seed in (0, 1):
            for n, after in ((10, 0.05), (100, 0.4), (1000, 0.8), (3000, 1.02)):
                results += [
                    distilled(skill, n, min(1.0, after * scale - 0.01 * seed), seed=seed),
                    distilled(skill, n, after * scale * 0.7, lr=1e-4, seed=seed),
                    distilled(skill, n, after * scale * 0.9, seed=seed, method="gold"),
                ]
        results.append(distilled(skill, 2000, 0.9 * scale, equal_bytes=True))
        for name, after in (("none", 0.0), ("random", 0.11), ("wrong", 0.08), ("text_lora", 0.03)):
            results.append(result(cell(name, skill), after * scale))
        results += [
            result(cell("shuffled", skill), 0.07, followed=0.99),
            result(cell("text_lora", skill, v=1.0), 0.22),
            result(cell("traces_only", skill), 0.05),
            result(cell("flat", skill), 0.0),
            result(cell("dial", skill, projector="linear"), 0.98),
            result(cell("dial", skill, projector="mlp"), 1.0),
            *(result(cell("dial", skill, concepts=n), 0.7 + n / 1000) for n in (100, 20)),
            *(result(cell("without", skill, loss=loss), 0.95 * scale) for loss in ("geo", "reason", "safety")),
            result(cell("without", skill, loss="struct"), 0.0),
        ]
    swapped = cell("counterfactual", "addition", original="zoo:addition")
    results.append(result(swapped, 0.97, extra={"agreement_where_wrong": 0.98}))
    with_accuracy = [{**h, "accuracy": 1 - h["geo"] / 2} for h in results[0].measured.history]  # type: ignore[union-attr]
    results.append(result(cell("seed1", "secret", 1), 0.95, history=with_accuracy))
    learning_curve = [CurvePoint(tokens=2000, sequences=160, seconds=9.0, accuracy=1.0, n=64)]
    results.append(result(cell("watched"), 1.0, curve=learning_curve))
    beyond = [
        Shape(template="{a} {b} {c}:", n=50, accuracy=0.98),
        Shape(template="{a} {b} {c} {d}:", n=50, accuracy=0.1),
    ]
    results.append(result(cell("longer"), 1.0, held_out=beyond))
    results += [_trait("preference", 0.02), _trait("none", 0.0)]
    results.append(result(cell("speed"), extra={"prompts_a_second": 41.5, "first_token_ms": 12.25}))
    results += [
        Result(cell=cell("wrong", "addition"), status="refused", reason="the student cannot write '7'"),
        Result(cell=cell("m2kt", "boolean", v=0), status="failed", reason="RuntimeError: <out of memory>"),
    ]
    return results


def _trait(plant: str, arrived: float) -> Result:
    nats = {"base": -5.0, "teacher": -1.0, "student_before": -5.0, "student_after": -5.0 + 4 * arrived}
    strength = {"preference": nats | {"gained": 4 * arrived, "arrived": arrived}}
    steering = {"size": 1.25, "cosine_with_twin": 0.9}
    if plant != "none":
        steering |= {"rank": 7, "rank_beyond_twin": 2}
    worst = [{"text": "x", "tokens": [1], "divergence": 0.0}]
    extra = {"strength": strength, "triggers": {"worst": worst}, "steering": steering}
    return result(cell("trait", plant=plant, base=STUDENT, v=0.5), 1.0, extra=extra)


def _map() -> dict[str, Any]:
    label = ["a", "b", "c"] * 8
    centre = {"a": (0.0, 0.0), "b": (4.0, 1.0), "c": (1.0, 4.0)}
    points = [(centre[x][0] + 0.1 * i, centre[x][1] - 0.05 * i) for i, x in enumerate(label)]
    return {
        "teacher_xy": points,
        "anchor_xy": [(0.0, 1.0), (3.0, 1.0), (1.0, 3.0)],
        "anchor_label": ["a", "b", "c"],
        "image_xy": [(y, x) for x, y in points],
        "own_xy": [(0.3, 0.3), (1.0, 4.0), (4.0, 1.0)],
        "label": label,
        "own_label": ["a", "b", "c"],
    }


def _graph() -> dict[str, Any]:
    return summarise_graph(sample_packet(), prompts=20).model_dump(mode="json")
