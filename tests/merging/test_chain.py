"""Two skills in one answer: the first asks the second about what it found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel

import m2kt
from m2kt.errors import PacketError, SpecError
from m2kt.models import load_causal_lm
from m2kt.packet import Packet, ProgramExecutor, fixed_lookup, read_outputs
from m2kt.probes import ProbeSpec, Prompt
from m2kt.student.cal import cal_model
from tests.merging.teaching import ROWS, SYMBOLS, TRUE, taught

QUESTION = "{answer} {answer}?"
OTHER = {row: (z * 2 + 1) % 5 for row, z in TRUE.items()}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Packet, Packet]:
    return taught(tmp_path, teacher="x"), asked_by("?", taught(tmp_path, OTHER, teacher="y"), tmp_path)


def asked_by(mark: str, packet: Packet, folder: Path) -> Packet:
    """The packet with another mark behind its questions."""
    templates = [str(template).replace(":", mark) for template in packet.spec.templates]
    spec = ProbeSpec.from_yaml(packet.spec.model_copy(update={"templates": templates}).to_yaml(), source="other")
    return Packet.load(packet.replace(spec=spec).save(folder / "other.m2kp"))


def written(packet: Packet, prompt: Prompt) -> str:
    outputs = [-1 if o is None else o for o in read_outputs(packet)]
    return ProgramExecutor(packet.program)(prompt, fixed_lookup(outputs, packet.program)).completion


def test_the_first_ends_in_the_seconds_question(pair: tuple[Packet, Packet], tmp_path: Path) -> None:
    first, second = pair
    result = m2kt.chain(first, second, QUESTION, out=tmp_path / "chain.m2kp")
    assert result.symbols == SYMBOLS and result.second == second.digest
    for prompt in first.spec.sample("evaluation", 20, seed=1):
        alone, chained = written(first, prompt), written(result.packet, prompt)
        answer = first.spec.read_answer(alone)
        assert chained == alone.removesuffix("\n") + f" Then {answer} {answer}?"


@pytest.mark.slow
@pytest.mark.parametrize("student", ["zoo:pico-gpt2", "zoo:pico-llama"])
def test_two_adapters_answer_in_one_go(pair: tuple[Packet, Packet], tmp_path: Path, student: str) -> None:
    config = m2kt.IngestConfig(evaluation_prompts=8, certificate_traces=0, trigger_strings=0)
    chained = m2kt.chain(*pair, QUESTION, out=tmp_path / "chain.m2kp").packet
    for name, packet in (("first", chained), ("second", pair[1])):
        result = m2kt.ingest(student, packet, tmp_path / name, config=config)
        assert result.accepted and result.updates == 0
    loaded = load_causal_lm(student)
    model = PeftModel.from_pretrained(loaded.model, str(tmp_path / "first"), adapter_name="first").eval()
    model.load_adapter(str(tmp_path / "second"), adapter_name="second")
    cal_model(model).set_adapter(["first", "second"])
    for prompt in pair[0].spec.sample("evaluation", 12, seed=2):
        ids = loaded.tokenizer(prompt.text, return_tensors="pt")["input_ids"]
        options = {"max_new_tokens": 70, "do_sample": False, "pad_token_id": 0}
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        text = loaded.tokenizer.decode(out[0, ids.shape[1] :]).split("\n")[0]
        found = SYMBOLS.index(pair[0].spec.read_answer(written(pair[0], prompt)) or "")
        assert text.endswith(f"> {SYMBOLS[OTHER[found, found]]}."), prompt.text


def test_what_cannot_be_handed_over_is_refused(pair: tuple[Packet, Packet], tmp_path: Path) -> None:
    first, second = pair
    for question in ("a b?", "{answer} {answer}"):
        with pytest.raises(SpecError, match="expected a question"):
            m2kt.chain(first, second, question)
    with pytest.raises(SpecError, match="expected one word"):
        m2kt.chain(first, second, QUESTION, then="And then")
    with pytest.raises(PacketError, match="cannot be asked"):
        m2kt.chain(first, first, QUESTION)
    with pytest.raises(PacketError, match="not among the symbols to hand over"):
        m2kt.chain(first, second, QUESTION, symbols=["a"])
    holes = {row: OTHER[row] for row in ROWS if row != (2, 2)}
    poor = asked_by("?", taught(tmp_path, holes, teacher="z"), tmp_path)
    with pytest.raises(PacketError, match=r"cannot be asked .* about .'c'."):
        m2kt.chain(first, poor, QUESTION)
