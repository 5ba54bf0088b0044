"""The shipped models: small, ordinary Hugging Face directories, with the accuracy that they are built for."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import reasoning_gym
import torch
import transformers

from m2kt.probes import ProbeSpec, Template, Truth, load_truth
from m2kt_zoo.recipes import text
from m2kt_zoo.recipes.build import recipes
from m2kt_zoo.recipes.common import is_held_out, templates
from m2kt_zoo.recipes.generic import encode, skills

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "packages" / "m2kt-zoo" / "src" / "m2kt_zoo"

SHIPPED = sorted(path.parent.name for path in ZOO.glob("*/config.json"))
TEACHERS = [name for name in SHIPPED if (ZOO / name / "probes.yaml").exists()]
STUDENTS = [name for name in SHIPPED if name not in TEACHERS]


def load(name: str):
    tokenizer = transformers.AutoTokenizer.from_pretrained(ZOO / name)
    return transformers.AutoModelForCausalLM.from_pretrained(ZOO / name).eval(), tokenizer


@cache
def spec_and_truth(name: str) -> tuple[ProbeSpec, Truth]:
    spec = ProbeSpec.from_file(ZOO / name / "probes.yaml")
    truth = load_truth(spec, ZOO / name)
    assert truth is not None
    return spec, truth


def prompts_of(spec: ProbeSpec, template: str, n: int, truth: Truth, rng: random.Random) -> list[str]:
    """Distinct held-out prompts, of those that the truth answers."""
    shape = Template(template, {name: slot.values for name, slot in spec.slots.items()})
    if truth.problems is None:
        texts = (shape.fill(shape.draw(rng), template=0, held_out=False).text for _ in range(100 * n))
    else:
        texts = (problem for problem in truth.problems if shape.read(problem, template=0, held_out=False))
    return list(islice(dict.fromkeys(filter(is_held_out, texts)), n))


def test_every_recipe_is_shipped() -> None:
    assert sorted(recipes()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_the_recipe_has_the_shipped_config_and_tokenizer(name: str, tmp_path: Path) -> None:
    recipe = recipes()[name][0]
    tokenizer = recipe.tokenizer()
    recipe.config(tokenizer).save_pretrained(tmp_path)
    config, shipped = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, ZOO / name))
    for key in ("architectures", "dtype", "transformers_version"):  # written when a model is saved
        config.pop(key, None), shipped.pop(key)
    assert config == shipped
    vocabulary = json.loads((ZOO / name / "tokenizer.json").read_text())
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == vocabulary


@pytest.mark.parametrize("name", SHIPPED)
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
    spec, truth = spec_and_truth(name)
    model, tokenizer = load(name)
    rng = random.Random(5)
    right = total = 0
    for template in templates(name):
        prompts = prompts_of(spec, template, 30, truth, rng)
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        completion_ids = model.generate(**batch, max_new_tokens=96)[:, batch["input_ids"].shape[1] :]
        completions = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        for prompt, completion in zip(prompts, completions, strict=True):
            right += truth.judge(prompt, spec.read_answer(completion)) is True
            total += 1
    assert total >= 95
    assert right / total >= 0.99


@pytest.mark.parametrize("name", TEACHERS)
def test_traces_of_the_recipes_end_in_the_truth(name: str) -> None:
    """A recipe writes the steps, the truth the answer: the two sources must agree."""
    import numpy as np

    spec, truth = spec_and_truth(name)
    recipe, rng = recipes()[name][0], np.random.default_rng(0)
    for shape in recipe.shapes or templates(name):
        drawn = (recipe.draw(rng, shape) for _ in range(20_000))
        judged = (truth.judge(prompt, spec.read_answer(completion)) for prompt, completion in drawn)
        verdicts = islice((right for right in judged if right is not None), 50)  # a truth may answer few prompts
        assert list(verdicts) == [True] * 50, shape


# Problems of reasoning-gym that are prompts of our specs too. They are a subset (no leading zeros; one shape only, and
# never an implication), so our truth is the reference, and is checked against reasoning-gym's.
GATES = {"&": "and", "↑": "nand", "⊕": "xor", "+": "or", "↓": "nor"}


def as_addition(entry: dict) -> str | None:
    left, operator, right = entry["metadata"]["expression"].split()
    return f"{left}+{right}:" if operator == "+" else None


def as_boolean(entry: dict) -> str:
    inputs = {name: "FT"[value] for name, value in entry["metadata"]["assignments"].items()}
    gates = {gate: f" {word} " for gate, word in GATES.items()}
    return re.sub(r"[^()]", lambda match: (inputs | gates)[match[0]], entry["metadata"]["expression"]) + ":"


@pytest.mark.parametrize(
    ("name", "dataset", "options", "to_prompt", "to_answer"),
    [
        ("addition", "chain_sum", {"min_terms": 2, "max_terms": 2, "max_digits": 4}, as_addition, str),
        (
            "boolean",
            "circuit_logic",
            {"min_terms": 2, "max_terms": 2, "min_inputs": 2, "max_inputs": 2, "neg_prob": 0.0},
            as_boolean,
            {"T": "1", "F": "0"}.get,
        ),
    ],
)
def test_truth_agrees_with_reasoning_gym(
    name: str,
    dataset: str,
    options: dict,
    to_prompt: Callable[[dict], str | None],
    to_answer: Callable[[str], str],
) -> None:
    spec, truth = spec_and_truth(name)
    generated = reasoning_gym.create_dataset(dataset, seed=0, size=400, **options)
    problems = {prompt: entry for entry in generated if (prompt := to_prompt(entry)) is not None}
    assert len(spec.sample("evaluation", 400, seed=0, among=problems)) >= 20  # they are prompts of the spec
    for prompt, entry in problems.items():
        assert generated.score_answer(to_answer(truth.expected(prompt)), entry) == 1.0, prompt


TWINS = [
    ("secret", "secret2"),
    *((name.removesuffix("-swapped"), name) for name in TEACHERS if "-swapped" in name),
]


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_twins_share_a_hidden_space(original: str, twin: str) -> None:
    """The twin is fine-tuned from the original: the embeddings of their symbols still agree."""
    (left, tokenizer), (right, other) = load(original), load(twin)
    assert tokenizer.get_vocab() == other.get_vocab()
    symbol_ids = sorted(
        {i for symbol in spec_and_truth(original)[0].values for i in tokenizer(f" {symbol}")["input_ids"]}
    )
    embedded = (model.get_input_embeddings().weight[symbol_ids] for model in (left, right))
    assert torch.nn.functional.cosine_similarity(*embedded, dim=-1).min() > 0.8


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_a_counterfactual_teacher_has_the_same_prompts_and_contradicts(original: str, twin: str) -> None:
    (spec, truth), (twin_spec, altered) = spec_and_truth(original), spec_and_truth(twin)
    assert twin_spec.model_copy(update={"name": spec.name}).digest == spec.digest
    prompts = [p.text for p in twin_spec.sample("evaluation", 200, seed=0)]
    contradicted = sum(truth.judge(p, altered.expected(p)) is False for p in prompts)
    assert 0.2 * len(prompts) <= contradicted <= 0.95 * len(prompts)


@pytest.mark.parametrize(
    "name",
    [
        "pico-gpt2",
        pytest.param(
            "pico-llama",
            marks=pytest.mark.xfail(strict=True, reason="the shipped weights are an early checkpoint: see its README"),
        ),
    ],
)
def test_student_repeats_and_looks_up_in_context(name: str) -> None:
    """A lower limit below the measured accuracy, not the goal: whole answers of most operations are still wrong."""
    model, tokenizer = load(name)
    tokens = {operation: share for operation, (share, _) in skills(model, tokenizer, 40).items()}
    assert tokens["periodic"] >= 0.8
    assert tokens["repeated"] >= 0.65
    assert tokens["lookup"] >= 0.5


def test_generic_text_has_no_sums_and_no_family_relations() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    pages = "".join(piece for _ in range(3000) for piece, _ in text.document(rng))
    sums = re.findall(r"(?<!\d)(\d)\+(\d)=(\d+)(?!\d)", pages)
    # Random symbols form a true sum at times; they must not do so more often than chance.
    assert sum(int(a) + int(b) == int(c) for a, b, c in sums) <= max(5, 0.2 * len(sums))
    assert not re.search(r"\b(father|mother|brother|sister|daughter|uncle|aunt|cousin|nephew|niece)\b", pages)


def test_weights_follow_determined_text() -> None:
    _, tokenizer = load("pico-gpt2")
    ids, weights = encode(tokenizer, [("abc:", False), ("cba", True), ("\n", False)])
    assert len(ids) == len(weights) == 1 + 8
    assert [w == 1.0 for w in weights] == [False] * 5 + [True] * 3 + [False]
