"""The certificate: its limits against known values, its bound for a trained student and for noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from m2kt.auditor import certify, packet_answers, score
from m2kt.auditor._certificate import bernstein, clopper_pearson
from m2kt.models import LoadedModel
from m2kt.packet import Packet
from m2kt.probes import Truth
from m2kt.student import complete
from tests.auditor.test_steps import good as good
from tests.auditor.test_steps import packet as packet
from tests.auditor.test_steps import with_vectors


@pytest.mark.parametrize(
    ("errors", "n", "alpha", "limit"),
    [
        (0, 10, 0.05, 0.25887),
        (1, 10, 0.05, 0.39416),
        (5, 100, 0.025, 0.11283),
        (3, 3, 0.05, 1.0),
        (0, 0, 0.05, 1.0),
    ],
)
def test_clopper_pearson_limits(errors: int, n: int, alpha: float, limit: float) -> None:
    assert clopper_pearson(errors, n, alpha) == pytest.approx(limit, abs=2e-5)


def test_clopper_pearson_covers() -> None:
    """The limit is below the true share in at most 5 % of the runs."""
    drawn = np.random.default_rng(0).binomial(200, 0.02, 4000)
    limit = {int(k): clopper_pearson(int(k), 200, 0.05) for k in set(drawn.tolist())}
    assert np.mean([limit[int(k)] < 0.02 for k in drawn]) <= 0.05


def test_bernstein_covers_and_narrows() -> None:
    rng = np.random.default_rng(0)
    runs = [bernstein((rng.random(400) < 0.05).astype(float).tolist(), 0.05) for _ in range(500)]
    assert np.mean([limit < 0.05 for limit in runs]) <= 0.05
    assert bernstein([0.0] * 4000, 0.05) < bernstein([0.0] * 400, 0.05) < 0.03
    assert bernstein([0.0], 0.05) == 1.0


def agreement(student: LoadedModel, packet: Packet, prompts: Any) -> float:
    """Share of evaluation prompts that the student answers as the packet does."""
    answers = complete(student, prompts, stop=packet.spec.stop, max_new_tokens=24, symbols=packet.program.symbols)
    return score(packet.spec, prompts, answers, Truth(packet_answers(packet, prompts))).accuracy


def test_the_bound_holds_and_is_tight_for_a_good_student(good: LoadedModel, packet: Packet) -> None:
    problems = packet.spec.sample("evaluation", 60, seed=0)
    certificate = certify(good, packet, problems, traces=300)
    assert certificate is not None and certificate.rule_steps == 2.0
    measured = agreement(good, packet, problems)
    assert certificate.bound <= measured <= 1.0
    assert certificate.divergence_bound <= certificate.bound + 0.02
    assert measured - certificate.bound < 0.15
    assert sum(c.n for c in certificate.concepts.values()) == 2 * certificate.traces
    assert all(c.errors / c.n <= c.upper for c in certificate.concepts.values())
    again = certify(good, packet, problems, traces=300)
    assert again == certificate


def test_more_traces_tighten_the_bound(good: LoadedModel, packet: Packet) -> None:
    problems = packet.spec.sample("evaluation", 60, seed=0)
    few, many = (certify(good, packet, problems, traces=n) for n in (60, 300))
    assert few is not None and many is not None and few.bound < many.bound


def test_noise_vectors_have_a_low_bound(good: LoadedModel, packet: Packet) -> None:
    v = packet.concepts.vectors_KD
    noise = np.random.default_rng(1).normal(v.mean(0), v.std(0), v.shape)
    torch.manual_seed(0)
    with with_vectors(good, packet, noise):  # the reference is the unchanged packet
        certificate = certify(good, packet, packet.spec.sample("evaluation", 60, seed=0), traces=120)
    assert certificate is not None and certificate.bound < 0.3 and certificate.divergence_bound < 0.3
