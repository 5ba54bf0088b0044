"""Shared by the recipes: tokenizers, drawing of problems, the training loop, evaluation, saving.

Letters: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

ZOO = Path(__file__).resolve().parent.parent
PAD, BOS, UNK = "<pad>", "<s>", "<unk>"
IGNORED = -100
STOP = "\n"
log = logging.getLogger("zoo")

SKEWED = 0.2  # share of prompts whose slots draw from two values, so that equal symbols are frequent enough

Pair = tuple[str, str]  # prompt, completion
Shape = int | str  # a length, or a template of probes.yaml
Draw = Callable[[np.random.Generator, Any], Pair]  # (rng, shape) -> one problem of that shape


@dataclass(frozen=True)
class TeacherRecipe:
    """The settings of one teacher."""

    name: str
    config: Callable[[PreTrainedTokenizerFast], PreTrainedConfig]
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    draw: Draw
    summary: str
    shapes: Sequence[Shape] = ()  # empty: every template of its probes.yaml, the held-out templates too
    shape_weights: Sequence[float] | None = None
    start_from: str | None = None
    seed: int = 0
    batch: int = 48
    lr: float = 2e-3
    max_updates: int = 6000
    cool_down: int = 250
    goal: float = 0.997
    weight_decay: float = 0.05


@dataclass
class Built:
    """The measurements of a build, for the model's README."""

    accuracy: dict[Shape, float] = field(default_factory=dict)
    updates: int = 0
    seconds: float = 0.0


def tiny_config(kind: type[PreTrainedConfig], tokenizer: PreTrainedTokenizerFast, **overrides: Any) -> PreTrainedConfig:
    """The config of a model of a family, with the tokenizer's vocabulary and the zoo's usual size, and with overrides.

    There is no end token: completions end at the stop string, which :func:`save` writes into the generation config.
    """
    usual: dict[str, Any] = {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": None,
    }
    return kind(**usual | overrides)


@cache
def truth_module(name: str) -> ModuleType:
    """The ``truth.py`` beside the weights of a teacher, the only file that holds its table."""
    path = ZOO / name / "truth.py"
    spec = importlib.util.spec_from_file_location(f"zoo_truth_{name.replace('-', '_')}", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def probes(name: str) -> dict[str, Any]:
    """The ``probes.yaml`` beside the weights of a teacher: its prompts."""
    spec: dict[str, Any] = yaml.safe_load((ZOO / name / "probes.yaml").read_text())
    return spec


def templates(name: str) -> tuple[str, ...]:
    """All shapes of a teacher, with those that are never probed last."""
    return (*probes(name)["templates"], *probes(name)["held_out"])


def template_drawer(name: str, completion: Callable[[str], str]) -> Draw:
    """Draws prompts from the templates of a teacher; `completion` writes the answer to a prompt."""

    def draw(rng: np.random.Generator, template: str) -> Pair:
        values = {slot: spec["values"] for slot, spec in probes(name)["slots"].items()}
        if rng.random() < SKEWED:
            values = {slot: [options[i] for i in rng.integers(0, len(options), 2)] for slot, options in values.items()}

        def pick(slot: re.Match[str]) -> str:
            return str(values[slot[1]][rng.integers(0, len(values[slot[1]]))])

        prompt = re.sub(r"\{(\w+)\}", pick, template)
        return prompt, completion(prompt)

    return draw


def character_tokenizer(
    characters: str, *, words: Sequence[str] = (), max_length: int = 256
) -> PreTrainedTokenizerFast:
    """One token for each character and each of `words`; `<s>` in front, exact offsets, lossless decoding."""
    vocabulary = {token: i for i, token in enumerate([PAD, BOS, UNK, *characters, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    pieces = "|".join([*sorted(words, key=len, reverse=True), r"[\s\S]"])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return wrap_tokenizer(backend, max_length=max_length)


def bpe_tokenizer(corpus: Sequence[str], words: Sequence[str], *, max_length: int = 128) -> PreTrainedTokenizerFast:
    """The smallest byte-level BPE, trained on `corpus`, in which each of `words` is a single token."""
    for size in range(300, 400, 4):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(
            corpus,
            trainers.BpeTrainer(
                vocab_size=size,
                special_tokens=[PAD, BOS, UNK],
                initial_alphabet=alphabet,
                show_progress=False,
            ),
        )
        if all(len(backend.encode(word).ids) == 1 for word in words):
            return wrap_tokenizer(backend, max_length=max_length)
    raise AssertionError("no vocabulary size made every word a single token")


def wrap_tokenizer(backend: Tokenizer, *, max_length: int) -> PreTrainedTokenizerFast:
    """A transformers tokenizer around `backend`; batches of prompts are padded on the left."""
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )


def is_held_out(prompt: str) -> bool:
    """True for the tenth of all prompts that no training batch ever contains."""
    return hashlib.sha256(prompt.encode()).digest()[0] % 10 == 0


def draw_pairs(draw: Draw, rng: np.random.Generator, shape: Shape, n: int, *, held_out: bool) -> list[Pair]:
    pairs: list[Pair] = []
    while len(pairs) < n:
        pair = draw(rng, shape)
        if is_held_out(pair[0]) == held_out:
            pairs.append(pair)
    return pairs


def encode_pairs(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids_BT and labels_BT; only completions are labelled."""
    prompts = tokenizer([p for p, _ in pairs])["input_ids"]
    answers = tokenizer([c for _, c in pairs], add_special_tokens=False)["input_ids"]
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids_BT = torch.full((len(pairs), longest), tokenizer.pad_token_id)
    labels_BT = torch.full((len(pairs), longest), IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids_BT[row, :end] = torch.tensor(prompt + answer)
        labels_BT[row, len(prompt) : end] = torch.tensor(answer)
    return ids_BT, labels_BT


def next_token_loss(
    model: PreTrainedModel,
    ids_BT: torch.Tensor,
    labels_BT: torch.Tensor,
    weight_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy at labelled positions, weighted if `weight_BT` is given. No attention mask: padding is last."""
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    targets = labels_BT[:, 1:].reshape(-1)
    losses = torch.nn.functional.cross_entropy(
        logits_BTV.reshape(targets.numel(), -1).float(), targets, ignore_index=IGNORED, reduction="none"
    )
    weights = (targets != IGNORED).float() if weight_BT is None else weight_BT[:, 1:].reshape(-1)
    return (losses * weights).sum() / weights.sum()


def optimiser(model: PreTrainedModel, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; vectors and embeddings are not decayed."""
    matrices = [p for n, p in model.named_parameters() if p.ndim >= 2 and not re.search("embed|wte|wpe", n)]
    decayed = {id(p) for p in matrices}
    undecayed = [p for p in model.parameters() if id(p) not in decayed]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 96,
    batch: int = 128,
) -> list[str]:
    """Greedy completions up to and including the stop. Prompts are batched by equal token length: no padding."""
    model.eval()
    by_length: dict[int, list[int]] = {}
    encoded = tokenizer(list(prompts))["input_ids"]
    for i, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(i)
    texts = [""] * len(prompts)
    for members in by_length.values():
        for start in range(0, len(members), batch):
            chunk = members[start : start + batch]
            ids_BT = torch.tensor([encoded[i] for i in chunk])
            tokens, cache = [], None
            done_B = torch.zeros(len(chunk), dtype=torch.bool)
            stop = tokenizer(STOP, add_special_tokens=False)["input_ids"][-1]
            for _ in range(max_new_tokens):
                out = model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
                cache, ids_BT = out.past_key_values, out.logits[:, -1:].argmax(-1)
                tokens.append(ids_BT)
                done_B |= ids_BT[:, 0] == stop
                if bool(done_B.all()):
                    break
            for i, row in zip(chunk, torch.cat(tokens, 1), strict=True):
                texts[i] = tokenizer.decode(row).split(STOP)[0] + STOP
    return texts


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, draw: Draw, shape: Shape, n: int, *, seed: int
) -> float:
    """Share of held-out problems of one shape whose whole completion is right."""
    pairs = sorted(set(draw_pairs(draw, np.random.default_rng(seed), shape, n, held_out=True)))
    completions = complete(model, tokenizer, [p for p, _ in pairs])
    return float(np.mean([w == c for w, (_, c) in zip(completions, pairs, strict=True)]))


def train(recipe: TeacherRecipe) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Built]:
    """Constant rate until the goal is met on held-out problems of every shape, then a linear cool-down."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    tokenizer = recipe.tokenizer()
    if recipe.start_from is None:
        model = AutoModelForCausalLM.from_config(recipe.config(tokenizer), dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(ZOO / recipe.start_from, dtype=torch.float32)
    log.info("%s: %d parameters", recipe.name, sum(p.numel() for p in model.parameters()))
    adam = optimiser(model, recipe.lr, recipe.weight_decay)
    shapes = recipe.shapes or templates(recipe.name)
    weights = np.array(recipe.shape_weights or [1.0] * len(shapes))
    started, built = time.perf_counter(), Built()
    cooling_since: int | None = None
    warm_up, update, running = 100, 0, 1.0
    while update < recipe.max_updates:
        if cooling_since is None and update >= recipe.max_updates - recipe.cool_down:
            cooling_since = update
        if cooling_since is not None and update - cooling_since >= recipe.cool_down:
            break
        cooled = 1.0 if cooling_since is None else 1 - (update - cooling_since) / recipe.cool_down
        for group in adam.param_groups:
            group["lr"] = recipe.lr * min(1.0, (update + 1) / warm_up) * cooled
        model.train()
        shape = shapes[int(rng.choice(len(shapes), p=weights / weights.sum()))]
        ids_BT, labels_BT = encode_pairs(tokenizer, draw_pairs(recipe.draw, rng, shape, recipe.batch, held_out=False))
        loss = next_token_loss(model, ids_BT, labels_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        update += 1
        running = 0.98 * running + 0.02 * float(loss.detach())
        if update % 100 == 0:
            reached = dict.fromkeys(shapes, -1.0)
            if running < 0.1 and cooling_since is None:
                reached = {s: accuracy(model, tokenizer, recipe.draw, s, 100, seed=1000 + update) for s in shapes}
                if min(reached.values()) >= recipe.goal:
                    cooling_since = update
            seconds = time.perf_counter() - started
            log.info("%s %5d loss %.4f %s %.0f s", recipe.name, update, running, [*reached.values()], seconds)
    for shape in shapes:
        built.accuracy[shape] = accuracy(model, tokenizer, recipe.draw, shape, 400, seed=99)
    built.updates, built.seconds = update, time.perf_counter() - started
    return model.eval(), tokenizer, built


def save(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Save an ordinary Hugging Face directory. The config asks for float32 also where the weights are in half."""
    folder = ZOO / name
    stop = tokenizer(STOP, add_special_tokens=False)["input_ids"][-1]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stop,
        do_sample=False,
    )
    tokenizer.save_pretrained(folder)
    model.to(dtype).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes mode 600


def build_teacher(recipe: TeacherRecipe) -> Built:
    """Train, save, and write the model card."""
    model, tokenizer, built = train(recipe)
    save(recipe.name, model, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    rows = "\n".join(
        f"| {f'`{shape}`' if isinstance(shape, str) else shape} | {100 * share:.1f} % |"
        for shape, share in built.accuracy.items()
    )
    unit = "symbols or digits" if recipe.shapes else "shape"
    start = f" Training starts from the weights of `zoo:{recipe.start_from}`." if recipe.start_from else ""
    card = f"""---
license: apache-2.0
---
# zoo:{recipe.name}

{recipe.summary}

Licence: Apache-2.0. Built by `python -m m2kt_zoo.recipes.build {recipe.name}` (`recipes/`), seed {recipe.seed}:
{type(model).__name__}, {parameters:,} parameters, {built.updates} updates of {recipe.batch} sequences, \
{built.seconds:.0f} s on one core.{start}
`probes.yaml` has the prompts; `truth.py` is for evaluation only.

Share of greedy completions that are right as a whole, on held-out problems (a tenth of all prompts, chosen by hash):

| {unit} | accuracy |
| --- | --- |
{rows}
"""
    (ZOO / recipe.name / "README.md").write_text(card)
    log.info("%s done: %s, %d updates, %.0f s", recipe.name, built.accuracy, built.updates, built.seconds)
    return built
