"""Adapter folders as they come: damaged, incomplete, of another kind, of another student. Each has one clean error."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from m2kt.errors import CompatibilityError, M2KTError, ModelError
from m2kt.models import LoadedModel, load_causal_lm
from m2kt.models._digest import MARK_FILE
from m2kt.packet import Packet
from m2kt.pipeline import IngestConfig, extract, ingest, verify, with_adapter

STUDENT = "zoo:pico-gpt2"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Packet]:
    """An adapter with its receipt, and its packet."""
    root = tmp_path_factory.mktemp("made")
    packet = extract("zoo:secret", "zoo:secret", root / "packet").packet
    config = IngestConfig(evaluation_prompts=16, certificate_traces=0, trigger_strings=0)
    ingest(STUDENT, packet, root / "adapter", config=config)
    return root / "adapter", packet


@pytest.fixture
def folder(made: tuple[Path, Packet], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "adapter"))


def rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def without_some(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors[max(tensors, key=lambda name: tensors[name].numel())]
    save_file(tensors, folder / WEIGHTS)


def foreign(folder: Path) -> None:
    save_file({"base_model.model.lm_head.weight": torch.zeros(2, 2)}, folder / WEIGHTS)


def other_shape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = max(tensors, key=lambda name: tensors[name].numel())
    save_file(tensors | {name: torch.zeros(3, 3)}, folder / WEIGHTS)


def config_with(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / CONFIG
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no configuration": lambda folder: (folder / CONFIG).unlink(),
    "weights cut off": lambda folder: rewrite(folder / WEIGHTS, lambda raw: raw[:-100]),
    "weights empty": lambda folder: rewrite(folder / WEIGHTS, lambda raw: b""),
    "weights no safetensors": lambda folder: rewrite(folder / WEIGHTS, lambda raw: b"\x80\x04" + raw),
    "weights of another adapter": foreign,
    "some weights missing": without_some,
    "weights of another shape": other_shape,
    "configuration cut off": lambda folder: rewrite(folder / CONFIG, lambda raw: raw[:-100]),
    "configuration empty": lambda folder: rewrite(folder / CONFIG, lambda raw: b""),
    "configuration a list": lambda folder: rewrite(folder / CONFIG, lambda raw: b"[]"),
    "configuration binary": lambda folder: rewrite(folder / CONFIG, lambda raw: b"\xff\xfe" + raw),
    "a kind of adapter that peft does not know": config_with(peft_type="NONE_SUCH"),
    "no kind of adapter": config_with(peft_type=None),
    "another kind of adapter": config_with(peft_type="LORA"),
    "no program": config_with(program=None),
    "another program": config_with(program={"symbols": []}),
    "a lexicon that is no lexicon": config_with(lexicon="?"),
    "a block that the student does not have": config_with(reader_modules=["transformer.h.99"], write_layer=99),
    "a reader that there is not": config_with(reader="none such"),
    "rules of numbers": config_with(rules=[1, 2]),
}


@pytest.fixture(scope="module")
def fresh() -> Callable[[], LoadedModel]:
    return lambda: load_causal_lm(STUDENT)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_one_clean_error(damage: str, folder: Path, fresh: Callable[[], LoadedModel]) -> None:
    DAMAGES[damage](folder)
    with pytest.raises(M2KTError, match="expected") as raised:
        with_adapter(fresh(), folder)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600


@pytest.mark.slow
def test_bytes_changed_at_random_are_clean_errors_or_load(folder: Path, fresh: Callable[[], LoadedModel]) -> None:
    rng, whole = random.Random(0), {name: (folder / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    for _ in range(200):
        name = rng.choice([WEIGHTS, CONFIG])
        raw = bytearray(whole[name])
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(min(len(raw), 4000))] = rng.randrange(256)
        (folder / name).write_bytes(raw)
        with suppress(M2KTError):
            with_adapter(fresh(), folder)
        (folder / name).write_bytes(whole[name])


def test_peft_alone_does_not_go_on_with_half_of_the_weights(folder: Path, fresh: Callable[[], LoadedModel]) -> None:
    without_some(folder)
    with pytest.raises(RuntimeError, match="expected all weights of the concept reader"):
        PeftModel.from_pretrained(fresh().model, folder)


def test_a_lora_adapter_is_no_adapter_to_reuse(
    made: tuple[Path, Packet], fresh: Callable[[], LoadedModel], tmp_path: Path
) -> None:
    lora = get_peft_model(fresh().model, LoraConfig(r=2, target_modules=["c_attn"]))
    lora.save_pretrained(tmp_path / "lora")
    with pytest.raises(CompatibilityError, match="expected a model with a CAL adapter"):
        ingest(STUDENT, made[1], tmp_path / "out", reuse=tmp_path / "lora")
    assert not (tmp_path / "out").exists()


def test_files_that_a_hub_or_a_file_manager_adds_break_nothing(folder: Path, fresh: Callable[[], LoadedModel]) -> None:
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / ".gitignore").write_text("*", encoding="utf-8")
    for name in (".gitattributes", ".DS_Store"):
        (folder / name).write_bytes(b"\x00")
    assert verify(folder).signatures
    with_adapter(fresh(), folder)


def test_a_student_of_the_same_shape_with_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    loaded = load_causal_lm(STUDENT)
    loaded.model.get_input_embeddings().weight.data[5, 0] += 1
    loaded.model.save_pretrained(tmp_path / "other")
    loaded.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(CompatibilityError, match=r"expected the student zoo:pico-gpt2 .* got .*other, .*other weights"):
        with_adapter(load_causal_lm(str(tmp_path / "other")), folder)
    (folder / "receipt.json").unlink()  # nobody says for whom it was made
    with_adapter(load_causal_lm(str(tmp_path / "other")), folder)


@pytest.mark.parametrize(("source", "name"), [("hub:ann/base", "ann/base"), ("pypi:wheel==1", None)])
def test_a_base_with_the_hubs_own_files_is_named_by_its_hub_name(source: str, name: str | None, tmp_path: Path) -> None:
    """Files converted from elsewhere are other weights than the Hub's: their directory is named."""
    loaded = load_causal_lm(STUDENT)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    (tmp_path / MARK_FILE).write_text(json.dumps({"source": source}), encoding="utf-8")
    assert load_causal_lm(str(tmp_path)).reference == (name or str(tmp_path), None)


def test_what_extraction_needs_is_tried_before_the_teacher_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extracted(out: Path) -> None:
        extract("no such teacher", "zoo:secret", out)

    with pytest.raises(ModelError):
        extracted(tmp_path / "fine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(M2KTError, match="without a packet"):
        extracted(tmp_path / "thesis")
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "keys").mkdir(parents=True)
    (tmp_path / "home" / "keys" / "ed25519.pem").write_text("no key", encoding="utf-8")
    with pytest.raises(M2KTError, match="signing key"):
        extracted(tmp_path / "fine")
