"""Controls: transfers that must fail, or must follow an altered packet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from benchmarks._artifacts import Trained
from benchmarks._cells import Cell, Measured
from benchmarks.experiments._common import ledger_of, packet_of, settings, transfer
from m2kt.packet import noise, shuffled

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache


def none(cell: Cell, cache: ArtifactCache) -> Measured:
    """The frozen student."""
    return cache.measure(cell, cache.load(cell.student))


def shuffled_rules(cell: Cell, cache: ArtifactCache, once: bool = False, depth: str = "executed") -> Measured:
    """The vectors of each rule shuffled: the student must follow them, and so lose the truth."""
    packet = packet_of(cell, cache, once=once)
    return transfer(cell, cache, packet, settings({"depth": depth}), bank=shuffled(packet, cell.seed))


def random_embeddings(cell: Cell, cache: ArtifactCache, once: bool = False, depth: str = "executed") -> Measured:
    """Noise instead of concept vectors: accuracy must fall to chance."""
    packet = packet_of(cell, cache, once=once)
    return transfer(cell, cache, packet, settings({"depth": depth}), bank=noise(packet, cell.seed))


def random_core(cell: Cell, cache: ArtifactCache, updates: int | None = None, depth: str = "executed") -> Measured:
    """The student's architecture with random weights: what the reader does without a trained core."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedModel

    from m2kt.pipeline import DEFAULT_UPDATES
    from m2kt.student import train

    packet, loaded = packet_of(cell, cache), cache.load(cell.student)
    torch.manual_seed(cell.seed)
    fresh = AutoModelForCausalLM.from_config(cast(PreTrainedModel, loaded.model).config)
    core = cast(PreTrainedModel, cast(torch.nn.Module, fresh).to(loaded.device).eval())
    limit = DEFAULT_UPDATES if updates is None else updates
    candidate = train(replace(loaded, model=core), packet, settings({"depth": depth}), updates=limit, seed=cell.seed)
    trained = Trained(replace(loaded, model=candidate.model), candidate.ledger, candidate.history)
    measured = cache.measure(cell, trained.loaded, ledger=ledger_of(packet, trained))
    measured.packet = packet.digest
    return measured


def wrong_packet(cell: Cell, cache: ArtifactCache, of: str, depth: str = "executed") -> Measured:
    """The adapter of another skill's packet on this skill's prompts.

    Args:
        of: teacher (and probe spec) of the other skill.
    """
    packet = cache.packet(of, of, cell.seed)
    trained = cache.train(cell.student, packet, settings({"depth": depth}), seed=cell.seed)
    measured = cache.measure(cell, trained.loaded, ledger=ledger_of(packet, trained))
    measured.packet = packet.digest
    return measured


def text_lora(cell: Cell, cache: ArtifactCache, v: float = 0.0, updates: int | None = None) -> Measured:
    """LoRA of the CAL's size on the packet's text alone: no reader, no concept vectors.

    Args:
        v: 0: the text that travels at v = 0, with randomised tables; 1: the true rows of every rule, verbalised.
    """
    from benchmarks._lora import equal_rank

    trained = cache.train(cell.student, packet_of(cell, cache), settings({"depth": "learned"}), seed=cell.seed)
    rank = equal_rank(cache.load(cell.student).model, trained.ledger["trainable_parameters"])
    chosen = settings(
        {
            "reader": {"kind": "none"},
            "steering": {"rank": rank, "first_depth": 0.0, "last_depth": 1.0},
            "losses": {"geo": 0.0, "struct": 0.0, "silence": 0.0},
        },
        {"rehearsal": {"plain": True}} if v else None,
    )
    return transfer(cell, cache, packet_of(cell, cache, v), chosen, updates=updates)


def traces_only(cell: Cell, cache: ArtifactCache, updates: int | None = None) -> Measured:
    """L_reason alone: the reader is trained without L_geo and L_struct."""
    return transfer(
        cell,
        cache,
        packet_of(cell, cache),
        settings({"depth": "learned", "losses": {"geo": 0.0, "struct": 0.0}}),
        updates=updates,
    )


def flat(cell: Cell, cache: ArtifactCache, updates: int | None = None) -> Measured:
    """The flat reader: one key for each concept, no graph."""
    return transfer(cell, cache, packet_of(cell, cache), settings({"reader": {"kind": "flat"}}), updates=updates)
