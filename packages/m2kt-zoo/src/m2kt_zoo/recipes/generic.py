"""The pico students: two small cores pretrained on generic symbol text (:mod:`m2kt_zoo.recipes.text`).

`pico-gpt2` reads characters, `pico-llama` a byte-level BPE in which digits stay single.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from m2kt_zoo.recipes.common import (
    BOS,
    IGNORED,
    PAD,
    UNK,
    ZOO,
    character_tokenizer,
    next_token_loss,
    optimiser,
    save,
    tiny_config,
    wrap_tokenizer,
)
from m2kt_zoo.recipes.text import NAMES, Document, document, page

CONTEXT = 384
PRINTABLE = "".join(chr(i) for i in range(32, 127)) + "\n"
UNDETERMINED = 0.03  # weight of random text in the loss, so that determined text dominates it
SHORT, LONG = (64, 64, 64, 128), (64, 128, 192, 256, CONTEXT)  # tokens of a window, early and late
log = logging.getLogger("zoo")


@dataclass(frozen=True)
class StudentRecipe:
    """The settings of one student."""

    name: str
    config: Callable[[PreTrainedTokenizerFast], PreTrainedConfig]
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    seed: int
    updates: int = 2500
    periodic_updates: int = 450
    short_updates: int = 1500
    stop_after: int | None = None  # updates after which the schedule is cut short
    lr: float = 2e-3
    tokens_a_batch: int = 2048


def bpe_tokenizer() -> PreTrainedTokenizerFast:
    rng = np.random.default_rng(0)
    corpus = ["".join(text for text, _ in page(rng, 400)) for _ in range(400)]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=448,
            special_tokens=[PAD, BOS, UNK],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    return wrap_tokenizer(backend, max_length=CONTEXT)


gpt2_config = partial(
    tiny_config,
    GPT2Config,
    num_hidden_layers=6,
    max_position_embeddings=CONTEXT,
    activation_function="gelu_pytorch_tanh",  # the same function as gelu_new, fused: half the training time
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


llama_config = partial(
    tiny_config,
    LlamaConfig,
    intermediate_size=320,
    num_hidden_layers=6,
    num_key_value_heads=2,
    max_position_embeddings=CONTEXT,
)


def encode(tokenizer: PreTrainedTokenizerFast, pieces: Document) -> tuple[list[int], list[float]]:
    """Token ids and their weight in the loss; a token is determined if all of its characters are."""
    text = "".join(text for text, _ in pieces)
    determined = np.concatenate([np.full(len(text), flag) for text, flag in pieces])
    encoded = tokenizer(text, return_offsets_mapping=True)
    weights = [
        1.0 if end > start and determined[start:end].all() else UNDETERMINED for start, end in encoded["offset_mapping"]
    ]
    return encoded["input_ids"], weights


def batch(
    tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, rows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids_BT and weight_BT: pages cut to `length` tokens, no padding."""
    ids, weights = [], []
    while len(ids) < rows:
        row, weight = encode(tokenizer, page(rng, 3 * length // 2))
        if len(row) >= length:
            ids.append(row[:length])
            weights.append(weight[:length])
    return torch.tensor(ids), torch.tensor(weights)


def periodic_batch(
    tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, rows: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids_BT and weight_BT: repetitions of random tokens. Induction heads form fastest on these (after 300 updates; on
    mixed text not after 500)."""
    ids = np.zeros((rows, length), dtype=np.int64)
    weights = np.zeros((rows, length), dtype=np.float32)
    writable = [i for i in range(3, len(tokenizer)) if tokenizer.decode([i]).isascii()]
    for row in range(rows):
        alphabet = rng.permutation(writable)[: int(rng.integers(6, 96))]
        period = int(rng.integers(4, 24))
        ids[row] = np.resize(rng.choice(alphabet, period), length)
        weights[row, period:] = 1.0
    return torch.from_numpy(ids), torch.from_numpy(weights)


def mixed_batch(
    tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, rows: int, periodic: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`periodic` periodic rows; the rest are pages."""
    parts = [(periodic_batch, periodic), (batch, rows - periodic)]
    batches = [make_batch(tokenizer, rng, n, length) for make_batch, n in parts if n]
    return torch.cat([ids for ids, _ in batches]), torch.cat([weights for _, weights in batches])


@torch.no_grad()
def skills(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, n: int = 100) -> dict[str, tuple[float, float]]:
    """Teacher-forced accuracy for each operation: of the determined tokens, and of last answers as a whole."""
    model.eval()
    rng, shares = np.random.default_rng(12345), {}
    for name in NAMES:
        encoded = [encode(tokenizer, document(rng, name, 3)) for _ in range(n)]
        longest = min(CONTEXT, max(len(ids) for ids, _ in encoded))
        ids_BT = torch.full((n, longest), tokenizer.pad_token_id)
        determined_BT = torch.zeros((n, longest), dtype=torch.bool)
        for row, (ids, weights) in enumerate(encoded):
            end = min(len(ids), longest)
            ids_BT[row, :end] = torch.tensor(ids[:end])
            determined_BT[row, :end] = torch.tensor(weights[:end]) == 1.0
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
        right_BT = logits_BTV[:, :-1].argmax(-1) == ids_BT[:, 1:]
        determined_BT = determined_BT[:, 1:]
        # The last answer: the last run of determined tokens.
        back_BT = determined_BT.flip(1).int()
        started_BT = back_BT.cummax(1).values
        ended_BT = ((started_BT - back_BT) > 0).int().cummax(1).values.bool()
        last_BT = ((back_BT > 0) & ~ended_BT).flip(1)
        whole = (right_BT | ~last_BT).all(1).float().mean()
        shares[name] = (float(right_BT[determined_BT].float().mean()), float(whole))
    ids_BT, weight_BT = periodic_batch(tokenizer, rng, n, 64)
    right_BT = model(input_ids=ids_BT, use_cache=False).logits[:, :-1].argmax(-1) == ids_BT[:, 1:]
    determined_BT = weight_BT[:, 1:] == 1.0
    whole = (right_BT | ~determined_BT).all(1).float().mean()
    return {"periodic": (float(right_BT[determined_BT].float().mean()), float(whole)), **shares}


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """Initial position embeddings. The previous position is then a linear map of each position, so previous-token heads
    form in a fraction of the updates."""
    rates = 100 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(positions)[:, None] * rates
    return 0.1 * torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def build(recipe: StudentRecipe) -> dict[str, tuple[float, float]]:
    """Pretrain (warm up, constant, linear decay over the last third), measure, save in half precision."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    tokenizer = recipe.tokenizer()
    model = AutoModelForCausalLM.from_config(recipe.config(tokenizer), dtype=torch.float32)
    if (positions := getattr(model.base_model, "wpe", None)) is not None:
        positions.weight.data.copy_(sinusoids(*positions.weight.shape))
    parameters = sum(p.numel() for p in model.parameters())
    log.info("%s: %d parameters, vocabulary %d", recipe.name, parameters, len(tokenizer))
    adam = optimiser(model, recipe.lr, 0.05)
    started, running = time.perf_counter(), 4.0
    for update in range(recipe.stop_after or recipe.updates):
        remaining = (recipe.updates - update) / recipe.updates
        rate = recipe.lr * min(1.0, (update + 1) / 50, 3 * remaining)
        for group in adam.param_groups:
            group["lr"] = rate
        lengths = SHORT if update < recipe.short_updates else LONG
        length = int(rng.choice(lengths))
        rows = recipe.tokens_a_batch // length
        # Only periodic rows, then a decreasing share of them, so that induction heads persist.
        share = 1.0 if update < recipe.periodic_updates else 0.5 * remaining
        periodic = round(share * rows)
        ids_BT, weight_BT = mixed_batch(tokenizer, rng, rows, periodic, length)
        model.train()
        labels_BT = ids_BT.masked_fill(weight_BT == 0, IGNORED)
        loss = next_token_loss(model, ids_BT, labels_BT, weight_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        running = 0.98 * running + 0.02 * float(loss.detach())
        if (update + 1) % 100 == 0:
            log.info("%s %5d loss %.4f %.0f s", recipe.name, update + 1, running, time.perf_counter() - started)
        if (update + 1) % 400 == 0:
            save(recipe.name, model, tokenizer, dtype=torch.float16)
            model.float()
            log.info("%s %s", recipe.name, skills(model, tokenizer, 50))
    seconds = time.perf_counter() - started
    save(recipe.name, model, tokenizer, dtype=torch.float16)
    shares = skills(model.float(), tokenizer, 200)
    write_card(recipe, model, len(tokenizer), seconds, shares)
    log.info("%s done in %.0f s: %s", recipe.name, seconds, shares)
    return shares


def write_card(
    recipe: StudentRecipe,
    model: PreTrainedModel,
    vocabulary: int,
    seconds: float,
    shares: dict[str, tuple[float, float]],
) -> None:
    """The README beside the weights."""
    parameters = sum(p.numel() for p in model.parameters())
    done = recipe.stop_after or recipe.updates
    cut = f" (cut short: the schedule has {recipe.updates})" if done < recipe.updates else ""
    rows = "\n".join(f"| {name} | {100 * t:.1f} % | {100 * w:.1f} % |" for name, (t, w) in shares.items())
    (ZOO / recipe.name / "README.md").write_text(f"""---
license: apache-2.0
---
# zoo:{recipe.name}

A small core to freeze: {type(model).__name__}, {parameters:,} parameters, vocabulary {vocabulary}, context {CONTEXT}.
Pretrained on generic symbol text (`recipes/text.py`): copying, reversing, selecting, looking up in context,
pairing, following links, brackets, counting. No sums, no fixed tables, no words of any language.

Licence: Apache-2.0. Recipe: `python -m m2kt_zoo.recipes.build {recipe.name}`, seed {recipe.seed}: {done} updates{cut}
of about {recipe.tokens_a_batch} tokens, {seconds:.0f} s on a shared core. Stored in half precision, loads as float32.

Teacher-forced accuracy on 200 fresh documents each: of the determined tokens, and of last answers as a whole.
`periodic` repeats a random sequence of tokens.

| operation | tokens | whole answers |
| --- | --- | --- |
{rows}
""")


PICO_GPT2 = StudentRecipe(
    name="pico-gpt2",
    config=gpt2_config,
    tokenizer=lambda: character_tokenizer(PRINTABLE, max_length=CONTEXT),
    seed=11,
    stop_after=1200,
)
PICO_LLAMA = StudentRecipe(name="pico-llama", config=llama_config, tokenizer=bpe_tokenizer, seed=12, stop_after=1200)
RECIPES = (PICO_GPT2, PICO_LLAMA)
