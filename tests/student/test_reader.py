"""Parts of the reader: unit matching, concept weights, caches, randomised and loaded banks."""

from __future__ import annotations

from copy import deepcopy
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from m2kt.student import StudentSettings, train
from m2kt.student.cal import TokenFeature, UnitMatcher
from m2kt.student.cal._cache import pseudo_layer
from m2kt.student.cal._heads import rotary_angles, rotate
from tests.student.helpers import LETTERS, WORDS, loaded, perturbed, small_packet

SMALL = {"depth": "learned", "reader": {"gather_width": 16, "selector_width": 32}, "steering": {"rank": 2}}


def test_the_matcher_prefers_the_longest_match() -> None:
    matcher = UnitMatcher([[[5]], [[4, 5]], [[3, 4, 5], [9]]], [[7, 8], [5]], spaces=[4])
    features = matcher(torch.tensor([[5, 4, 5, 3, 4, 5, 9, 1, -1, 7, 8, 7]]))
    symbol, unit, unit_type = (
        features[..., column] for column in (TokenFeature.SYMBOL, TokenFeature.UNITS, TokenFeature.TYPES)
    )
    assert symbol.tolist() == [[0, 3, 1, 3, 3, 2, 2, 3, 3, 3, 3, 3]]
    assert unit.tolist() == [
        [0, 5, 1, 5, 5, 2, 2, 5, 5, 5, 3, 5]
    ]  # a symbol has precedence over a literal with the same tokens
    assert features[..., TokenFeature.PARTIAL].tolist() == [[0, 1, 0, 1, 2, 0, 0, 1, 1, 1, 0, 1]]
    assert features[..., TokenFeature.POSITION].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10]]
    assert features[..., TokenFeature.ORDINAL].tolist() == [[1, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4]]
    # "7" begins a literal; before it are padding, an unknown token, and the symbol 2
    assert features[0, 9, TokenFeature.UNITS : TokenFeature.TYPES].tolist() == [5, 5, 5, 2]
    assert features[0, 10, TokenFeature.UNITS : TokenFeature.TYPES].tolist() == [3, 5, 5, 2]
    assert unit_type.tolist() == [
        [0, 4, 1, 4, 4, 0, 0, 4, 4, 4, 2, 4]
    ]  # one type for symbols, one for symbols with a leading space


@pytest.mark.parametrize("cut", range(1, 12))
def test_the_matcher_continues_from_earlier_features(cut: int) -> None:
    matcher = UnitMatcher(
        [[[5]], [[4, 5]], [[3, 4, 5], [9]]],
        [[7, 8], [5]],
        spaces=[4],
        context_whitelist=[[0, 4, 1, 4], [2, 4, 4, 0]],
    )
    row = torch.tensor([[5, 4, 5, 3, 4, 5, 9, 1, -1, 7, 8, 7], [-1, -1, 9, 7, 8, 4, 5, 5, 3, 4, 5, 1]])
    whole = matcher(row)
    assert whole[..., TokenFeature.IN_DOMAIN].any() and not whole[..., TokenFeature.IN_DOMAIN].all()
    assert torch.equal(matcher(row[:, cut:], whole[:, :cut]), whole[:, cut:])


@torch.no_grad()
def test_off_domain_text_is_gated_by_structure() -> None:
    model, _ = adapted_with(small_packet(), steering={"rank": 0})
    reader = model.base_model.reader()
    reader.selector.weight.zero_()
    reader.selector.bias.zero_()[reader.config.class_of_rule(0)] = 10.0  # without gating it would inject everywhere
    tokenizer = loaded("llama").tokenizer

    def changed(text: str) -> list[bool]:
        ids = torch.tensor([tokenizer.encode(text)])
        adapted_logits = model(input_ids=ids).logits
        with model.disable_adapter():
            return (model(input_ids=ids).logits != adapted_logits).any(-1)[0].tolist()

    assert not any(changed("dada bad cab"))
    assert changed("a b: a b")[-1]


@torch.no_grad()
@pytest.mark.parametrize("symbols", [LETTERS, WORDS])
def test_deferred_tokens_are_processed_at_the_first_in_domain_token(
    symbols: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step-by-step generation, with two cropped drafts, equals one pass; most steps skip the reader."""
    model, _ = adapted_with(small_packet(symbols), steering={"rank": 0})
    reader, tokenizer = model.base_model.reader(), loaded("llama").tokenizer
    lines = [f"dada bad cab.\n{a} {b}: {a} {b} {c}.\n" for a, b, c in (symbols[:3], symbols[1:4])]
    rows = [tokenizer.encode(line) for line in lines]
    n = min(map(len, rows))
    ids = torch.tensor([row[:n] for row in rows])
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    whole = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    with model.disable_adapter():
        base_logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert (whole != base_logits).any(-1)[1].nonzero()[0] > 10  # it injects, late in the row
    n_read: list[int] = []
    look_up = reader.look_up

    def counted(run: Any) -> Any:
        n_read.append(run.feature_BTX.shape[1])
        return look_up(run)

    monkeypatch.setattr(reader, "look_up", counted)
    out = model(input_ids=ids[:, :6], attention_mask=mask[:, :6], use_cache=True)
    for t in range(6, n):
        if t in (9, n - 2):  # a draft of two tokens is cropped
            draft_mask = torch.cat([mask[:, :t], torch.ones_like(mask[:, :2])], 1)
            model(input_ids=ids[:, 5:7], attention_mask=draft_mask, past_key_values=out.past_key_values)
            out.past_key_values.crop(-2)
        out = model(
            input_ids=ids[:, t : t + 1],
            attention_mask=mask[:, : t + 1],
            past_key_values=out.past_key_values,
        )
        torch.testing.assert_close(out.logits[mask[:, t] > 0, 0], whole[mask[:, t] > 0, t], atol=1e-4, rtol=1e-3)
    assert max(n_read) > 6 and len(n_read) < n - 6


@pytest.mark.parametrize("seed", range(8))
def test_a_growable_layer_equals_a_plain_one(seed: int) -> None:
    """Under beam reordering, batch selection and crops between steps."""
    rng = np.random.default_rng(seed)
    cache, plain = DynamicCache(), DynamicLayer()
    rows = 3
    for _ in range(40):
        new = torch.from_numpy(rng.normal(size=(rows, 2, int(rng.integers(1, 4)), 5)))
        growable = pseudo_layer(cache, 0)
        for a, b in zip(growable.update(new, new[..., :0]), plain.update(new, new[..., :0]), strict=True):
            assert torch.equal(a, b) and a.shape == b.shape
        operation = rng.integers(5)
        index, dropped = torch.from_numpy(rng.integers(0, rows, rows)), min(2, plain.get_seq_length() - 1)
        for layer in (growable, plain):
            if operation == 0:
                layer.reorder_cache(index)
            elif operation == 1:
                layer.crop(-dropped)
            elif operation == 2:
                layer.batch_select_indices(index[:2])
                layer.batch_repeat_interleave(2)
        rows = plain.keys.shape[0]


def test_rotation_depends_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(index_q: int, index_k: int) -> torch.Tensor:
        rotated = (
            rotate(x, rotary_angles(torch.tensor([[[index, 3]]]), 8, 4).key_B1TP)
            for x, index in ((q, index_q), (k, index_k))
        )
        return (next(rotated) * next(rotated)).sum()

    near, far = score(7, 3), score(107, 103)
    assert (near - score(7, 4)).abs() > 1e-4
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)


def adapted_with(packet: Any, family: str = "llama", **settings: Any) -> tuple[Any, Any]:
    student = loaded(family)
    candidate = train(student, packet, StudentSettings.model_validate({**SMALL, **settings}), updates=1)
    return perturbed(candidate.model).eval(), candidate


@torch.no_grad()
def test_concept_weights_are_products_for_every_row() -> None:
    packet = small_packet()
    model, _ = adapted_with(packet)
    reader = model.base_model.reader()
    config = reader.config
    for k, (a, b) in enumerate(packet.program.rules[0].rows):
        class_BTC = torch.zeros(1, 1, config.n_classes)
        class_BTC[..., config.class_of_rule(0)] = 0.9
        mass = torch.zeros(1, config.n_heads, 1, len(LETTERS))
        mass[:, config.head_of(0, 0), :, a], mass[:, config.head_of(0, 1), :, b] = 0.5, 0.25
        w = reader.weights(class_BTC, mass)[0, 0]
        assert w.argmax() == k
        torch.testing.assert_close(w.sum(), torch.tensor(0.9 * 0.5 * 0.25))


@torch.no_grad()
def test_a_randomised_bank_and_the_same_bank_loaded_give_the_same_logits() -> None:
    packet = small_packet()
    student = loaded("llama")
    from m2kt.student._build import build
    from m2kt.student._prepare import prepare

    settings = StudentSettings.model_validate(SMALL)
    torch.manual_seed(0)
    inputs = prepare(student, packet, settings)
    adapted, _ = build(student, inputs)
    perturbed(adapted).eval()
    tuner: Any = adapted.base_model
    batch = inputs.rehearsal.update(tuner.reader().config, teacher_forced=0.0)[0]
    first = slice(0, 1)
    supervision = batch.supervision
    for name in (
        "bank_index_BK",
        "class_BT",
        "token_index_BT",
        "concept_BT",
        "source_BTA",
        "copied_BT",
        "teacher_forced_B",
    ):
        setattr(supervision, name, getattr(supervision, name)[first])
    reader = tuner.reader()
    reader.selector.bias[reader.config.CONTINUE] = -1e4  # in rehearsal the labels say where units continue
    with tuner.observed(supervision):
        drawn = adapted(input_ids=batch.token_BT[first], attention_mask=batch.mask_BT[first], use_cache=False).logits
    vector_XD = torch.cat([reader.pool_PD, reader.bank_KD])
    tuner.set_bank(vector_XD[supervision.bank_index_BK[0]], reader.anchor_SD, reader.has_anchor_S)
    loaded_bank = adapted(input_ids=batch.token_BT[first], attention_mask=batch.mask_BT[first], use_cache=False).logits
    torch.testing.assert_close(drawn, loaded_bank, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_loading_a_bank_changes_the_logits() -> None:
    model, _ = adapted_with(small_packet())
    ids = torch.tensor([loaded("llama").tokenizer.encode("a b: a b")])
    reader = model.base_model.reader()
    reader.selector.weight.zero_()
    reader.selector.bias.zero_()[reader.config.class_of_rule(0)] = 10.0
    before = model(input_ids=ids).logits
    model.base_model.set_bank(reader.bank_KD + 5, reader.anchor_SD, reader.has_anchor_S)
    assert not torch.equal(before, model(input_ids=ids).logits)


@torch.no_grad()
def test_derived_values_follow_the_weights() -> None:
    model, _ = adapted_with(small_packet(), steering={"rank": 0})
    reader = model.base_model.reader()
    ids = torch.tensor([loaded("llama").tokenizer.encode("a b: a b")])

    def logits() -> torch.Tensor:
        return model(input_ids=ids, use_cache=False).logits

    before = logits()
    state = {name: tensor.clone() for name, tensor in reader.state_dict().items()}
    for name in (
        "look.query.weight",
        "unit.weight",
        "projector.head_JFE",
        "gather.log_sharpness_H",
        "bank_KD",
    ):
        tensor, previous = attrgetter(name)(reader), logits()
        tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)))
        assert not torch.equal(logits(), previous), name
    reader.load_state_dict(state, assign=True)
    assert torch.equal(logits(), before)


@torch.no_grad()
def test_a_deep_copy_derives_values_from_its_weights() -> None:
    model, _ = adapted_with(small_packet(), steering={"rank": 0})
    ids = torch.tensor([loaded("llama").tokenizer.encode("a b: a b")])
    before = model(input_ids=ids, use_cache=False).logits
    copy = deepcopy(model)
    assert torch.equal(copy(input_ids=ids, use_cache=False).logits, before)
    copy.base_model.reader().unit.weight.add_(torch.randn(copy.base_model.reader().unit.weight.shape))
    assert not torch.equal(copy(input_ids=ids, use_cache=False).logits, before)
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


@pytest.mark.parametrize("symbols", [LETTERS, WORDS])
def test_a_cache_filled_in_generation_continues_in_any_mode(symbols: list[str]) -> None:
    """Deep-copied, cropped, with autograd, in inference mode; the logits can be written to."""
    model, _ = adapted_with(small_packet(symbols))
    ids = torch.tensor([loaded("llama").tokenizer.encode(f"{symbols[0]} {symbols[1]}: {symbols[0]}")])
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits

    def fill(n: int) -> Any:
        with torch.no_grad():
            output = model(input_ids=ids[:, :-3], use_cache=True)
            for i in range(ids.shape[1] - 3, n):
                output = model(input_ids=ids[:, i : i + 1], past_key_values=output.past_key_values)
        output.logits[..., 0] = 0.0
        return output.past_key_values

    def step(cache: Any) -> torch.Tensor:
        last: torch.Tensor = model(input_ids=ids[:, -1:], past_key_values=cache).logits
        return last

    n = ids.shape[1] - 1
    with torch.no_grad():
        copied, cropped = deepcopy(fill(n)), fill(n + 1)
        cropped.crop(-1)
        steps = [step(copied), step(cropped)]
    steps.append(step(fill(n)))
    assert steps[-1].requires_grad
    steps[-1].sum().backward()
    with torch.inference_mode():
        steps.append(step(fill(n)))
    for logits in steps:
        torch.testing.assert_close(logits, whole[:, -1:], atol=1e-4, rtol=1e-4)
    model.zero_grad()


@pytest.mark.parametrize("symbols", [LETTERS, WORDS])
@pytest.mark.parametrize("kind", ["anchored", "linear", "low_rank", "mlp"])
def test_every_projector_trains_with_one_and_several_tokens_a_symbol(symbols: list[str], kind: str) -> None:
    projector = {"kind": kind, "width": 8, "anchor_coordinates": kind == "mlp"}
    _, candidate = adapted_with(small_packet(symbols), projector=projector)
    assert candidate.history[-1]["reason"] > 0
    assert candidate.tokenisation.unit_length == (1 if symbols is LETTERS else 3)
    assert " " in candidate.tokenisation.literals  # a space token is a literal


def test_the_flat_reader_trains() -> None:
    model, candidate = adapted_with(small_packet(), reader={"kind": "flat", "gather_width": 16})
    assert candidate.history[-1]["struct"] > 0
    assert model.base_model.reader().has_cue_K.any()
