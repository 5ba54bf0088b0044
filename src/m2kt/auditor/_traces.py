"""Traces of a packet as a student's batches, teacher-forced, and which positions predict what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from torch import nn

from m2kt.models import LoadedModel
from m2kt.packet import Packet, Trace
from m2kt.student import IGNORE, NO_BANK, Batch, CALConfig, CALModel, EncodedTrace, Encoder, collate, student_chat
from m2kt.student.cal import ReaderBase, Run, cal_model

TRACES_A_BATCH = 16  # bounds the logits, B x T x V


def cal_config(model: nn.Module) -> CALConfig | None:
    """The configuration of a student's active CAL; None for another adapter, or no adapter."""
    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, CALModel):
        return None
    return cast(CALConfig, tuner.peft_config[tuner.active_adapters[0]])


def cal_reader(model: nn.Module) -> ReaderBase | None:
    """The reader of a student's active CAL; None for steering alone, another adapter, or no adapter."""
    config = cal_config(model)
    return None if config is None or config.reader == "none" else cal_model(model).reader()


@contextmanager
def observed(model: nn.Module) -> Iterator[list[Run]]:
    """The passes in the context as the reader sees them; empty without a reader."""
    if cal_reader(model) is None:
        yield []
        return
    with cal_model(model).observed() as runs:
        yield runs


def teacher_forced(
    loaded: LoadedModel, packet: Packet, traces: Sequence[Trace]
) -> Iterator[tuple[list[EncodedTrace], Batch]]:
    """The complete traces in the student's tokens, as batches of similar length."""
    reader = cal_reader(loaded.model)
    config = CALConfig() if reader is None else reader.config
    encode = Encoder(packet.program, loaded.tokenizer, student_chat(loaded.tokenizer, packet.spec))
    items = [encode(trace, NO_BANK, config) for trace in traces if trace.complete]
    items.sort(key=lambda item: len(item.ids))
    for start in range(0, len(items), TRACES_A_BATCH):
        group = items[start : start + TRACES_A_BATCH]
        yield group, collate(group, loaded.device)


def spans(item: EncodedTrace) -> dict[int, int]:
    """Positions that predict the tokens of each symbol written by a rule: the first, and one behind the last."""
    unit, n = item.unit_of_token, len(item.ids)
    ends = {}
    for t in (t for t, concept in enumerate(item.concept_T) if concept >= 0):
        end = t + 1
        while end + 1 < n and unit[end + 1] == unit[t + 1]:
            end += 1
        ends[t] = end
    return ends


def structure_positions(item: EncodedTrace) -> list[int]:
    """Positions that predict the answer's other tokens: copies and literals."""
    of_rules = {i for t, end in spans(item).items() for i in range(t, end)}
    return [i for i, label in enumerate(item.label_T) if label != IGNORE and i not in of_rules]
