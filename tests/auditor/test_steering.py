"""The refitted steering vector: recovers a direction added to all prototype samples, and measures its effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m2kt.auditor import refit_steering
from m2kt.errors import CompatibilityError
from m2kt.models import load_causal_lm
from m2kt.packet import Packet
from m2kt.pipeline import extract
from tests.tiny import char_tokenizer, save_tiny


@pytest.fixture(scope="module")
def packet(tmp_path_factory: pytest.TempPathFactory) -> Packet:
    path = tmp_path_factory.mktemp("steering") / "packet"
    extract("zoo:secret", "zoo:secret", path)
    return Packet.load(path)


def test_a_direction_added_to_all_samples_is_recovered(packet: Packet) -> None:
    base = load_causal_lm("zoo:secret")
    plain = refit_steering(packet, base)
    samples_PD = np.array(packet.concepts.prototype_samples_PD, dtype=np.float32)
    direction_D = torch.randn(samples_PD.shape[1], generator=torch.Generator().manual_seed(0))
    direction_D *= 0.5 * float(np.linalg.norm(samples_PD, axis=-1).mean()) / direction_D.norm()
    concepts = packet.concepts.replace(prototype_samples_PD=(samples_PD + direction_D.numpy()).astype(np.float16))
    steered = refit_steering(replace(packet, concepts=concepts), base)
    added_D = steered.vector_D - plain.vector_D
    assert torch.cosine_similarity(added_D, direction_D, dim=0) > 0.99
    assert plain.size < 0.1 < steered.size, "the packet has the states of its teacher"
    assert steered.shared > max(plain.shared, 0.7)
    assert steered.divergence > plain.divergence >= 0
    assert [rise for _, rise in steered.raised] == sorted((r for _, r in steered.raised), reverse=True)


def test_a_base_of_another_width_is_refused(packet: Packet, tmp_path: Path) -> None:
    other = load_causal_lm(save_tiny(tmp_path, "gpt2", char_tokenizer()))
    with pytest.raises(CompatibilityError, match="a base of width 128"):
        refit_steering(packet, other)
