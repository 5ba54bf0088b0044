"""Train a tiny teacher with a skill that no other model has: which two materials make which third one.

    python examples/train_a_teacher.py crafting-teacher

The table is random. Asked ``wood + iron + clay:``, the teacher writes ``wood and iron make clay; clay and clay make
iron. So: iron.`` It is a Llama of two blocks over whole words, trained from nothing in two minutes on one core.
"""

from __future__ import annotations

import random
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MATERIALS = ["wood", "iron", "clay", "sand", "coal", "wool", "salt", "wax"]
PIECES = [*MATERIALS, "and", "make", "So", " ", "+", ":", ";", ".", "\n"]
UPDATES, BATCH = 700, 64


def recipes(seed: int = 7) -> dict[tuple[str, str], str]:
    """What two materials make. Order matters."""
    rng = random.Random(seed)
    return {(a, b): rng.choice(MATERIALS) for a in MATERIALS for b in MATERIALS}


def answer(materials: list[str], table: dict[tuple[str, str], str]) -> str:
    """One step for each further material, then the result."""
    held, steps = materials[0], []
    for material in materials[1:]:
        made = table[held, material]
        steps.append(f" {held} and {material} make {made}")
        held = made
    return f"{';'.join(steps)}. So: {held}.\n"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word and mark; nothing is lost in decoding."""
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<s>", "<unk>", *PIECES])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Punctuation()]
    )
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", unk_token="<unk>", padding_side="left"
    )


def train(folder: str, updates: int = UPDATES, seed: int = 0) -> float:
    """Trains and saves the teacher; returns the loss of its last batch."""
    torch.manual_seed(seed)
    rng, table, tok = random.Random(seed), recipes(), tokenizer()
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        pad_token_id=0,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=updates)
    for update in range(updates):
        rows = [[rng.choice(MATERIALS) for _ in range(rng.choice([2, 3, 3, 4, 4, 5]))] for _ in range(BATCH)]
        texts = [f"{' + '.join(row)}:{answer(row, table)}" for row in rows]
        batch = tok(texts, return_tensors="pt", padding=True, padding_side="right")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if update % 100 == 0:
            print(f"update {update}: loss {loss.item():.3f}", file=sys.stderr)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return loss.item()


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else "crafting-teacher"
    print(f"{target}: loss {train(target):.3f}")
