"""Forgetting: removed rows end an answer, everything else stays to the bit, and the receipt says so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

import m2kt
from m2kt.errors import CompatibilityError, SpecError
from m2kt.models import LoadedModel, load_causal_lm
from m2kt.packet import Packet, ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.pipeline import adapter_digest, verify_adapter, with_adapter
from m2kt.pipeline._statements import read_receipt
from tests.merging.teaching import SYMBOLS, taught

QUICK = m2kt.IngestConfig(evaluation_prompts=8, certificate_traces=0, trigger_strings=0)
ROW = "rule 1(a, b)"


class Known(NamedTuple):
    student: str
    adapter: Path
    packet: Packet


@pytest.fixture(scope="module", params=["zoo:pico-gpt2", pytest.param("zoo:pico-llama", marks=pytest.mark.slow)])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Known:
    """An accepted adapter; tests copy it."""
    folder = tmp_path_factory.mktemp("forget")
    packet = taught(folder, width=16)
    result = m2kt.ingest(request.param, packet, folder / "adapter", config=QUICK)
    assert result.accepted
    return Known(request.param, folder / "adapter", packet)


@pytest.fixture
def adapter(known: Known, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(known.adapter, tmp_path / "adapter"))


def rows_of(packet: Packet, prompt: object) -> set[tuple[str, ...]]:
    """The rows that an answer needs."""
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    trace = ProgramExecutor(packet.program)(prompt, lookup)  # type: ignore[arg-type]
    rule = packet.program.rules[0]
    return {tuple(SYMBOLS[x] for x in rule.rows[u.row]) for u in trace.units if u.row is not None}


def told(loaded: LoadedModel, text: str) -> str:
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
    out = loaded.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False, pad_token_id=0
    )
    return str(loaded.tokenizer.decode(out[0, ids.shape[1] :])).split("\n")[0]


def logits(loaded: LoadedModel, text: str) -> torch.Tensor:
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits


def loaded_with(known: Known, adapter: Path) -> LoadedModel:
    return with_adapter(load_causal_lm(known.student), adapter)


def test_all_but_the_row_stays_to_the_bit(known: Known, adapter: Path) -> None:
    prompts = known.packet.spec.sample("evaluation", 40, seed=2)
    needs = {prompt.text: ("a", "b") in rows_of(known.packet, prompt) for prompt in prompts}
    assert set(needs.values()) == {True, False}
    before = loaded_with(known, adapter)
    texts = {text: told(before, text) for text in needs}
    kept = {text: logits(before, text + texts[text]) for text, needed in needs.items() if not needed}
    result = m2kt.forget(adapter, ROW)
    after = loaded_with(known, adapter)
    for text, answer in kept.items():
        assert torch.equal(logits(after, text + texts[text]), answer), text
    assert torch.equal(logits(after, "Once upon a time"), logits(before, "Once upon a time"))
    for text in (text for text, needed in needs.items() if needed):
        assert told(after, text) != texts[text], text
    assert result.forgotten == [ROW] and result.digest == adapter_digest(adapter)
    bank = next(v for k, v in load_file(adapter / "adapter_model.safetensors").items() if k.endswith("bank_KD"))
    assert [k for k in range(len(bank)) if not bank[k].any()] == [1]


def test_a_refusal_is_written_where_the_row_was(known: Known, adapter: Path) -> None:
    m2kt.forget(adapter, "a b", refusal=" I forgot")
    loaded = loaded_with(known, adapter)
    for prompt in known.packet.spec.sample("evaluation", 20, seed=3):
        assert (" I forgot" in told(loaded, prompt.text)) == (("a", "b") in rows_of(known.packet, prompt)), prompt.text


def test_a_symbol_goes_with_its_rows_and_copies(known: Known, adapter: Path) -> None:
    result = m2kt.forget(adapter, ["e"], refusal=" no")
    assert "symbol e" in result.forgotten and len(result.forgotten) > 9
    loaded = loaded_with(known, adapter)
    assert told(loaded, "a e:").endswith(" no") and " no" not in told(loaded, "a a:")[:3]


def test_the_receipt_says_so_and_a_rollback_restores(known: Known, adapter: Path) -> None:
    before = adapter_digest(adapter)
    m2kt.forget(adapter, [ROW])
    m2kt.forget(adapter, ["rule 1(c, d)"])
    statement, receipt = read_receipt(adapter, adapter_digest(adapter))
    assert receipt.forgotten == [ROW, "rule 1(c, d)"] and statement.packet == known.packet.digest
    assert verify_adapter(adapter, None, packet=known.packet).integrity  # type: ignore[arg-type]
    assert ROW in (adapter / "README.md").read_text()
    m2kt.rollback(adapter, "1")
    assert adapter_digest(adapter) == before


def test_purge_leaves_no_earlier_state(adapter: Path) -> None:
    m2kt.forget(adapter, [ROW], purge=True)
    assert not (adapter / ".states").exists()


@pytest.mark.parametrize("name", ["rule 2(a, b)", "a z", "z", ""])
def test_what_is_not_there_is_not_forgotten(adapter: Path, name: str) -> None:
    before = adapter_digest(adapter)
    with pytest.raises(SpecError, match="expected a row such as rule 1"):
        m2kt.forget(adapter, [name])
    assert adapter_digest(adapter) == before


def test_a_directory_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(CompatibilityError, match="expected an adapter"):
        m2kt.forget(tmp_path, ["a"])
