"""The table in docs/peft.md: what people do to a PeftModel, done to a LoRA adapter and to a CAL adapter.

A cell is right, or refused by a sentence; CAL is never silently wrong.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from m2kt import student
from m2kt.models import load_causal_lm
from tests.contracts.peft_features import FEATURES, Subject
from tests.student.helpers import WORDS, perturbed, small_packet
from tests.tiny import char_tokenizer, save_tiny

pytestmark = pytest.mark.long
FAMILIES = ["gpt2", "llama"]
KINDS = ["LoRA", "CAL"]
STEERED = {"depth": "learned", "reader": {"kind": "none"}, "steering": {"rank": 2}}
TABLE = (Path(__file__).parents[2] / "docs" / "peft.md").read_text(encoding="utf-8")
CELLS = {row[0]: dict(zip(KINDS, row[1:], strict=True)) for row in (
    [cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines() if line.startswith("| ")
)}  # fmt: skip
SECONDS = {"a process started by spawn gets the model", "`torch.compile`"}
"""Features that take seconds: one cell of each is tried by default, and none of LoRA's."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Subject]:
    found = {}
    for family in FAMILIES:
        root = tmp_path_factory.mktemp(family)
        base = save_tiny(root / "base", family, char_tokenizer())
        for name, seed in (("cal", 0), ("cal-second", 1)):
            model = student.train(load_causal_lm(str(base)), small_packet(WORDS, seed=seed), updates=40).model
            model.save_pretrained(root / name)
        settings = student.StudentSettings.model_validate(STEERED)
        steered = student.train(load_causal_lm(str(base)), small_packet(WORDS), settings, updates=2).model
        perturbed(steered).save_pretrained(root / "steering")
        for name, seed in (("lora", 0), ("lora-second", 1)):
            config = LoraConfig(r=4, target_modules=["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"])
            lora = get_peft_model(load_causal_lm(str(base)).model, config)
            perturbed(lora, seed).save_pretrained(root / name)
        lora, cal = root / "lora", root / "cal"
        found[family, "LoRA"] = Subject(base, lora, root / "lora-second", cal, lora, root)
        found[family, "CAL"] = Subject(base, cal, root / "cal-second", lora, root / "steering", root)
    return found


def test_the_table_has_every_feature() -> None:
    assert CELLS.keys() - {"what", "---"} == FEATURES.keys()


def cases() -> list[object]:
    every = [(feature, kind, family) for feature in FEATURES for kind in KINDS for family in FAMILIES]
    slow = [case for case in every if case[1] == "LoRA" or (case[0] in SECONDS and case[2] != "gpt2")]
    return [pytest.param(*case, marks=pytest.mark.slow if case in slow else ()) for case in every]


@pytest.mark.parametrize(("feature", "kind", "family"), cases())
def test_a_cell(feature: str, kind: str, family: str, subjects: dict[tuple[str, str], Subject], tmp_path: Path) -> None:
    subject = replace(subjects[family, kind], scratch=tmp_path)
    says, _, words = CELLS[feature][kind].partition(": ")
    if says == "yes":
        FEATURES[feature](subject)
        return
    if says == "no":
        if family == "gpt2":
            with pytest.raises(AssertionError):
                FEATURES[feature](subject)
        return
    assert says == "refused"
    with pytest.raises(Exception) as raised:
        FEATURES[feature](subject)
    assert words in str(raised.value) and not isinstance(raised.value, AssertionError)
