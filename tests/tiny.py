"""Tiny models and tokenizers: classes of transformers with random weights, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAMILIES = ("gpt2", "llama", "neox", "gemma3", "qwen2", "qwen3", "mixtral", "mamba", "gru")
WITH_ATTENTION = tuple(family for family in FAMILIES if family not in ("mamba", "gru"))
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789+:;>.=,"


def char_tokenizer(characters: str = CHARACTERS) -> Any:
    """One token for each character, as in the zoo."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<unk>": 1, **{c: i + 2 for i, c in enumerate(characters)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


def bpe_tokenizer(
    texts: Sequence[str] = ("the uncle's aunt;> 12+34: ;>;> uncle aunt uncle 12 東京 東京\n\n",) * 20,
) -> Any:
    """Byte-level BPE with few merges: characters are split, punctuation is joined; no pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


def metaspace_tokenizer() -> Any:
    """SentencePiece style: a word mark before the first word, byte fallback, and a BOS token."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [c for c in CHARACTERS if c not in " \n"]
    words = ["▁uncle", "▁aunt", ";>"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *letters]
    merges, prefixes = [], []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in prefixes:
                prefixes.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *prefixes])}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def tiny_model(family: str, vocabulary: int, *, context: int = 128, seed: int = 0, width: int = 32) -> Any:
    """A random model of the family with 3 blocks."""
    import torch
    import transformers as t

    from m2kt_zoo._gru import GruLMConfig

    torch.manual_seed(seed)
    shared = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    gqa = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": width // 4}
    wide = {"hidden_size": width, "intermediate_size": 3 * width // 2, "num_hidden_layers": 3}
    rope = {"max_position_embeddings": context}
    configs: dict[str, Any] = {
        "gpt2": lambda: t.GPT2Config(n_embd=width, n_layer=3, n_head=4, n_positions=context, **shared),
        "llama": lambda: t.LlamaConfig(**wide, **gqa, **rope, **shared),
        "neox": lambda: t.GPTNeoXConfig(**wide, num_attention_heads=4, **rope, **shared),
        "gemma3": lambda: t.Gemma3TextConfig(
            **wide, **gqa, **rope, **shared, sliding_window=8, final_logit_softcapping=3.0
        ),
        "qwen2": lambda: t.Qwen2Config(**wide, num_attention_heads=4, num_key_value_heads=2, **rope, **shared),
        "qwen3": lambda: t.Qwen3Config(**wide, **gqa, **rope, **shared),
        "mixtral": lambda: t.MixtralConfig(**wide, **gqa, **rope, **shared, num_local_experts=2),
        "mamba": lambda: t.MambaConfig(hidden_size=width, state_size=8, num_hidden_layers=3, **shared),
        "gru": lambda: GruLMConfig(hidden_size=width, num_hidden_layers=3, **shared),
    }
    model = t.AutoModelForCausalLM.from_config(configs[family]())
    with torch.no_grad():  # larger weights, so that random heads give distinct logits
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval()


def save_tiny(path: Path, family: str, tokenizer: Any, **options: Any) -> Path:
    """Write a tiny model with its tokenizer as a Hugging Face directory."""
    tiny_model(family, len(tokenizer), **options).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
