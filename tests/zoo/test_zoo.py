"""The shipped models: small, ordinary Hugging Face directories, and good at what they are for."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "zoo"
sys.path.insert(0, str(ROOT))
from zoo.recipes import text  # noqa: E402
from zoo.recipes.build import recipes  # noqa: E402
from zoo.recipes.common import is_held_out, probes, templates  # noqa: E402
from zoo.recipes.generic import encode, skills  # noqa: E402

SHIPPED = sorted(path.parent.name for path in ZOO.glob("*/config.json"))
TEACHERS = [name for name in SHIPPED if (ZOO / name / "probes.yaml").exists()]
STUDENTS = [name for name in SHIPPED if name not in TEACHERS]


def load(name: str):
    tokenizer = transformers.AutoTokenizer.from_pretrained(ZOO / name)
    return transformers.AutoModelForCausalLM.from_pretrained(ZOO / name).eval(), tokenizer


def truth_of(name: str, spec: dict) -> Callable[[str], str]:
    file, function = spec["truth"].split(":")
    module_spec = importlib.util.spec_from_file_location("truth", ZOO / name / file)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return getattr(module, function)


def prompts_of(spec: dict, template: str, n: int, rng: random.Random) -> list[str]:
    """Distinct prompts that training held out."""
    found: dict[str, None] = {}
    for _ in range(100 * n):
        prompt = re.sub(r"\{(\w+)\}", lambda m: rng.choice(spec["slots"][m[1]]["values"]), template)
        if is_held_out(prompt):
            found[prompt] = None
        if len(found) == n:
            break
    return list(found)


def test_every_recipe_is_shipped() -> None:
    assert sorted(recipes()) == SHIPPED


@pytest.mark.parametrize("name", [*TEACHERS, *STUDENTS])
def test_directory_is_small_and_ordinary(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (ZOO / name).iterdir() if path.is_file()}
    assert sum(files.values()) < 3_000_000
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    } <= files.keys()
    assert "auto_map" not in json.loads((ZOO / name / "config.json").read_text())
    assert "license: apache-2.0" in (ZOO / name / "README.md").read_text()
    model, tokenizer = load(name)
    assert model.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) < (1_500_000 if name in STUDENTS else 1_000_000)
    line = "b d c: 47+85 > of x;y.\n" if name in STUDENTS else None
    if line is not None:
        encoded = tokenizer(line, return_offsets_mapping=True)
        assert tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == line
        assert "".join(line[a:b] for a, b in encoded["offset_mapping"]) == line


@pytest.mark.parametrize("name", TEACHERS)
def test_teacher_is_right_on_held_out_problems(name: str) -> None:
    torch.manual_seed(0)
    spec = yaml.safe_load((ZOO / name / "probes.yaml").read_text())
    truth = truth_of(name, spec)
    model, tokenizer = load(name)
    rng = random.Random(5)
    right = total = 0
    for template in spec["templates"] + spec["held_out"]:
        prompts = prompts_of(spec, template, 30, rng)
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        written = model.generate(**batch, max_new_tokens=96)[:, batch["input_ids"].shape[1] :]
        for prompt, text_ in zip(
            prompts, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True
        ):
            answer = re.search(spec["answer"], text_.split(spec["stop"])[0])
            right += answer is not None and answer[1] == truth(prompt)
            total += 1
    assert total >= 95
    assert right / total >= 0.99


@pytest.mark.parametrize("name", [name for name in TEACHERS if not recipes()[name][0].shapes])
def test_written_traces_end_in_the_truth(name: str) -> None:
    """A recipe writes the steps, ``truth.py`` knows the answer: two pieces of code that must not drift apart."""
    import numpy as np

    spec, rng = probes(name), np.random.default_rng(0)
    truth = truth_of(name, spec)
    for template in templates(name):
        for prompt, completion in (recipes()[name][0].draw(rng, template) for _ in range(100)):
            answer = re.search(spec["answer"], completion.split(spec["stop"])[0])
            assert answer is not None and answer[1] == truth(prompt), prompt + completion


def test_secret_twins_share_a_hidden_space() -> None:
    """Fine-tuned from one another, not built apart: their token embeddings still agree."""
    left, right = (load(name)[0].get_input_embeddings().weight for name in ("secret", "secret2"))
    letters = slice(3, 13)
    likeness = torch.nn.functional.cosine_similarity(left[letters], right[letters], dim=-1)
    assert likeness.min() > 0.8


@pytest.mark.parametrize(
    "name",
    [
        "pico-gpt2",
        pytest.param(
            "pico-llama",
            marks=pytest.mark.xfail(strict=True, reason="shipped as an early checkpoint: see its README"),
        ),
    ],
)
def test_student_finds_what_was_there_before(name: str) -> None:
    """A floor below what was measured, not the aim: whole answers of most operations are still wrong."""
    model, tokenizer = load(name)
    tokens = {operation: share for operation, (share, _) in skills(model, tokenizer, 40).items()}
    assert tokens["periodic"] >= 0.8
    assert tokens["repeated"] >= 0.65
    assert tokens["lookup"] >= 0.5


def test_generic_text_knows_no_sums_and_no_family() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    everything = "".join(piece for _ in range(3000) for piece, _ in text.document(rng))
    sums = re.findall(r"(?<!\d)(\d)\+(\d)=(\d+)(?!\d)", everything)
    # Random symbols hit upon a true sum now and then; they must not do so more often than chance.
    assert sum(int(a) + int(b) == int(c) for a, b, c in sums) <= max(5, 0.2 * len(sums))
    assert not re.search(
        r"\b(father|mother|brother|sister|daughter|uncle|aunt|cousin|nephew|niece)\b", everything
    )


def test_weights_follow_determined_text() -> None:
    _, tokenizer = load("pico-gpt2")
    ids, weights = encode(tokenizer, [("abc:", False), ("cba", True), ("\n", False)])
    assert len(ids) == len(weights) == 1 + 8
    assert [w == 1.0 for w in weights] == [False] * 5 + [True] * 3 + [False]
