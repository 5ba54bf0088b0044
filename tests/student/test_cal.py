"""The CAL as a PEFT method on tiny models: saving, disabling, caches, padding, beam search."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import StaticCache

from m2kt.errors import CompatibilityError
from m2kt.models import cache_argument
from m2kt.student import StudentSettings, train
from m2kt.student.cal import CALConfig
from tests.student.helpers import WORDS, loaded, perturbed, small_packet
from tests.tiny import char_tokenizer, save_tiny

FAMILIES = ["llama", "gpt2", "mixtral", "mamba", "gru"]
SMALL = {"depth": "learned", "reader": {"gather_width": 16, "selector_width": 32}, "steering": {"rank": 2}}


@pytest.fixture(params=FAMILIES)
def adapted(request: pytest.FixtureRequest) -> Any:
    student = loaded(request.param)
    candidate = train(student, small_packet(WORDS), StudentSettings.model_validate(SMALL), updates=1)
    return perturbed(candidate.model).eval()


def token_ids(n: int = 2, length: int = 14, seed: int = 0) -> torch.Tensor:
    """A row of the skill's symbols and other text, and the same row rolled."""
    tokenizer = char_tokenizer()
    text = "ant bee: cow cat ant; xyz bee cow"
    ids = torch.tensor(tokenizer.encode(text))[:length]
    return torch.stack([ids, ids.roll(5)])[:n]


@torch.no_grad()
def test_the_adapter_changes_the_logits_and_disabling_it_restores_them_bit_for_bit(adapted: Any) -> None:
    ids = token_ids()
    adapted_logits = adapted(input_ids=ids).logits
    with adapted.disable_adapter():
        disabled = adapted(input_ids=ids).logits
        disabled_without_cache = adapted(input_ids=ids, use_cache=False).logits
    base = adapted.unload()
    assert torch.equal(base(input_ids=ids).logits, disabled)
    assert torch.equal(disabled, disabled_without_cache)
    assert not torch.allclose(adapted_logits, disabled, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load(family: str, tmp_path: Path) -> None:
    base_dir = save_tiny(tmp_path / "base", family, char_tokenizer())
    student = loaded(family)
    student.path = str(base_dir)
    from transformers import AutoModelForCausalLM

    student.model = AutoModelForCausalLM.from_pretrained(base_dir)
    candidate = train(student, small_packet(WORDS), StudentSettings.model_validate(SMALL), updates=2)
    # frozen as a loaded adapter is: torch may use another kernel for trainable weights
    model = perturbed(candidate.model).eval().requires_grad_(False)
    ids = token_ids()
    expected = model(input_ids=ids).logits
    model.save_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(base_dir).eval()
    reloaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(reloaded(input_ids=ids).logits, expected)
    auto = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(auto(input_ids=ids).logits, expected)
    direct = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    assert torch.equal(direct(input_ids=ids).logits, expected)
    config = reloaded.peft_config["default"]
    assert isinstance(config, CALConfig) and config.symbols == WORDS


@torch.no_grad()
def test_a_cache_changes_no_logits(adapted: Any) -> None:
    ids = token_ids()
    whole = adapted(input_ids=ids, use_cache=False).logits
    first = adapted(input_ids=ids[:, :5], use_cache=True)
    step_logits = [first.logits]
    cache_name = cache_argument(adapted)
    cache = first[cache_name]
    for t in range(5, ids.shape[1]):
        out = adapted(input_ids=ids[:, t : t + 1], use_cache=True, **{cache_name: cache})
        cache = out[cache_name]
        step_logits.append(out.logits)
    assert (torch.cat(step_logits, 1) - whole).abs().max() < 1e-3 * whole.abs().max()


@torch.no_grad()
def test_left_padding_changes_nothing(adapted: Any) -> None:
    ids = token_ids(1)
    unpadded = adapted.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], 1)
    mask = torch.cat([torch.zeros(1, 4, dtype=torch.long), torch.ones_like(ids)], 1)
    left_padded = adapted.generate(input_ids=padded, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert unpadded[0, ids.shape[1] :].tolist() == left_padded[0, padded.shape[1] :].tolist()


@torch.no_grad()
def test_beam_search_is_the_same_without_a_cache(adapted: Any) -> None:
    ids = token_ids()
    options = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": 6,
        "num_beams": 3,
        "do_sample": False,
    }
    with_cache = adapted.generate(input_ids=ids, use_cache=True, **options)
    without = adapted.generate(input_ids=ids, use_cache=False, **options)
    assert with_cache.tolist() == without.tolist()


@torch.no_grad()
def test_sampling_runs(adapted: Any) -> None:
    ids = token_ids()
    torch.manual_seed(0)
    out = adapted.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=5,
        do_sample=True,
        num_return_sequences=2,
    )
    assert out.shape == (4, ids.shape[1] + 5)


def test_static_cache_is_refused(adapted: Any) -> None:
    cache = StaticCache(config=adapted.config, max_cache_len=32)
    with pytest.raises(CompatibilityError, match="DynamicCache"):
        adapted(input_ids=token_ids(), **{cache_argument(adapted): cache})


def test_a_cache_filled_without_the_adapter_is_refused(adapted: Any) -> None:
    ids = token_ids()
    cache_name = cache_argument(adapted)
    with torch.no_grad(), adapted.disable_adapter():
        cache = adapted(input_ids=ids[:, :4], use_cache=True)[cache_name]
    with pytest.raises(CompatibilityError, match="switched on all the time"):
        adapted(input_ids=ids[:, 4:], **{cache_name: cache})


def test_merging_is_refused(adapted: Any) -> None:
    with pytest.raises(CompatibilityError, match="cannot be merged"):
        adapted.merge_and_unload()


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_importing_m2kt_imports_neither_torch_nor_peft() -> None:
    process = run_python("import sys, m2kt; assert 'torch' not in sys.modules and 'peft' not in sys.modules")
    assert process.returncode == 0, process.stderr


LOADERS = {
    "PeftModel": "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)",
    "AutoPeftModelForCausalLM": "AutoPeftModelForCausalLM.from_pretrained(adapter)",
    "AutoModelForCausalLM": "AutoModelForCausalLM.from_pretrained(adapter)",
}
IMPORTS = """
import sys
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM
base, adapter = sys.argv[1:]
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Directories of a base and of an adapter on it."""
    base = save_tiny(tmp_path_factory.mktemp("base"), "gru", char_tokenizer())
    student = loaded("gru")
    student.model.name_or_path = str(base)  # peft saves it as the name of the base
    adapter = tmp_path_factory.mktemp("adapter")
    settings = StudentSettings.model_validate(SMALL)
    train(student, small_packet(WORDS), settings, updates=1).model.save_pretrained(adapter)
    return base, adapter


@pytest.mark.long
def test_registration_alone_opens_adapters_and_bases_of_additional_architectures(
    saved: tuple[Path, Path],
) -> None:
    loads = "\n".join(
        f"assert any('cal_reader' in n for n, _ in {load}.named_parameters())" for load in LOADERS.values()
    )
    process = run_python(f"import m2kt\nm2kt.register()\nm2kt.register()\n{IMPORTS}{loads}", *saved)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.long
def test_without_registration_peft_raises_a_key_error(loader: str, tmp_path: Path) -> None:
    """The docstring of ``register`` and the adapter card quote this error."""
    base = save_tiny(tmp_path / "base", "llama", char_tokenizer())
    (tmp_path / "adapter").mkdir()
    config = {"peft_type": "CAL", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base)}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    process = run_python(IMPORTS + LOADERS[loader], base, tmp_path / "adapter")
    assert process.returncode == 1 and process.stderr.strip().endswith("KeyError: 'CAL'"), process.stderr
