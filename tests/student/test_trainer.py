"""Parts of the training loop: orders that follow the seed, declared optimiser groups, the schedule of rates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from m2kt.settings import OptimiserSettings
from m2kt.student import StudentSettings, train
from m2kt.student._off_domain import OffDomainPass
from m2kt.student._optimiser import Schedule, build_optimiser, declared_groups
from m2kt.student._replay import ReplayBuffer
from tests.student.helpers import loaded, small_packet

SMALL = {"depth": "learned", "reader": {"gather_width": 16, "selector_width": 32}, "rehearsal": {"batch": 4}}


def orders(seed: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Update numbers of replays and off-domain lines that a training run draws."""
    drawn: dict[str, list[Any]] = {"replay": [], "off-domain": []}
    replay, lines = ReplayBuffer.draw, OffDomainPass.draw

    def draw_replay(buffer: ReplayBuffer) -> Any:
        items = replay(buffer)
        drawn["replay"].append([stored is items for stored in buffer.updates].index(True))
        return items

    def draw_lines(off_domain: OffDomainPass) -> Any:
        chosen = lines(off_domain)
        drawn["off-domain"].append(chosen.tolist())
        return chosen

    with monkeypatch.context() as patch:
        patch.setattr(ReplayBuffer, "draw", draw_replay)
        patch.setattr(OffDomainPass, "draw", draw_lines)
        train(loaded("llama"), small_packet(), StudentSettings.model_validate(SMALL), updates=14, seed=seed)
    return drawn


@pytest.mark.long
def test_replay_and_off_domain_orders_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, repeated = (orders(seed, monkeypatch) for seed in (0, 1, 0))
    assert first == repeated
    assert len(first["replay"]) == 7 and len(first["off-domain"]) == 14
    assert first["replay"] != second["replay"] and first["off-domain"] != second["off-domain"]


@pytest.mark.parametrize("kind", ["structured", "flat"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_trained_parameter_has_the_rate_of_its_declared_group(family: str, kind: str) -> None:
    settings = {**SMALL, "reader": {"gather_width": 16, "kind": kind}, "steering": {"rank": 2}}
    model = train(loaded(family), small_packet(), StudentSettings.model_validate(settings), updates=0).model
    groups = {id(parameter): group for parameter, group in declared_groups(model)}
    names = {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert set(names.values()) >= {"steering", "stream", "projector", "reader"}
    for name, group in names.items():
        last = name.rpartition(".")[2]
        assert (group == "steering") == (".cal_A." in name or ".cal_B." in name), name
        assert (group == "stream") == (last in {"head_JFE", "bias_JE", "spare_SJE", "literal_UJE"}), name
        assert (group == "state_input") == name.endswith(".state.weight"), name
        assert (group == "projector") == (".projector.trunk." in name), name
    rates = OptimiserSettings()
    optimiser = build_optimiser(model, rates, stream_rms=0.5)
    rate_of = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    expected = {
        "steering": rates.steering_lr,
        "stream": 0.5 * rates.written_lr,
        "projector": rates.projector_lr,
        "reader": rates.reader_lr,
        "state_input": rates.reader_lr,  # narrower than the reference width
    }
    assert all(rate_of[key] == expected[group] for key, group in groups.items())


def test_rates_rise_stay_and_fall_as_a_cosine() -> None:
    settings = OptimiserSettings(warmup=4, cool_down=0.3, floor=0.05)
    schedule = Schedule(settings, 100)
    assert [schedule(u) for u in (0, 3, 4, 69)] == [0.2, 0.8, 1.0, 1.0]
    assert schedule(70) == 1.0
    assert schedule(85) == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert schedule(99) == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 29 / 30)))
    schedule.cool_down(14)  # mastered early
    assert schedule.end in (20, 21) and schedule(14) == 1.0 and schedule(18) < 0.6
    schedule.cool_down(16)
    assert schedule.cooling_from == 14
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=0.3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, Schedule(settings, 100))
    for update in range(100):
        assert optimiser.param_groups[0]["lr"] == 0.3 * Schedule(settings, 100)(update)
        optimiser.step()
        scheduler.step()
