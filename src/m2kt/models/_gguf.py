"""GGUF files as models: converted once into a directory that transformers loads like any other."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from m2kt._home import m2kt_home
from m2kt._libraries import quiet_transformers
from m2kt.errors import ModelError, StorageError, explain

from ._digest import sha256_of_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_IGNORED_FIELDS = {
    "gpt2.context_length": "n_positions",
    "gpt2.feed_forward_length": "n_inner",
    "qwen3.attention.key_length": "head_dim",
}
"""GGUF metadata that transformers ignores, with the configuration option that each one sets."""


def gguf_library() -> ModuleType:
    """The optional package gguf, which has no types. Raises ModelError if it is not installed."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise ModelError("a GGUF file needs gguf, which is not installed: pip install 'm2kt[gguf]'") from None


def converted(file: Path) -> Path:
    """The directory of a GGUF file's model, below ``M2KT_HOME``; converted on first use.

    Raises:
        ModelError: not a GGUF file, an architecture or quantisation that transformers does not read, or no gguf.
        StorageError: the directory cannot be written.
    """
    target = m2kt_home() / "models" / f"gguf-{sha256_of_file(file)[:24]}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gguf-", dir=target.parent) as temporary:
            written = Path(temporary) / "model"
            convert(file, written)
            if not target.is_dir():  # another process may have converted it meanwhile
                written.rename(target)
    except OSError as error:
        raise StorageError(
            f"cannot unpack {file} to {target}: {explain(error)}; free some space or set M2KT_HOME elsewhere"
        ) from error
    return target


def convert(file: Path, directory: Path) -> None:
    """Write a GGUF file as a model directory: floats keep their type, quantised weights become bf16."""
    dtype = _stored_dtype(file)
    try:
        model, tokenizer = read_gguf(file, dtype)
        model.config._name_or_path = ""
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    except OSError:
        raise
    except Exception as error:
        raise ModelError(f"transformers cannot read the GGUF {file} ({explain(error)})") from error
    for path in directory.iterdir():
        path.chmod(0o644)


def read_gguf(file: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model and tokenizer of a GGUF file, dequantised. Raises whatever transformers raises."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    load: Any = AutoModelForCausalLM.from_pretrained
    overrides = gguf_config_overrides(file)
    with quiet_transformers():
        # dequantize: transformers refuses to save a model whose weights are still in GGUF blocks
        quantisation = GgufConfig(dequantize=True)
        model = load(file.parent, gguf_file=file.name, dtype=dtype, quantization_config=quantisation, **overrides)
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return model, _plain_tokenizer(tokenizer, model.get_input_embeddings().weight.shape[0])


def _plain_tokenizer(tokenizer: Any, n_rows: int) -> PreTrainedTokenizerFast:
    """The same tokenizer without the class that transformers chose by the model's family.

    Saved and loaded again, that class rebuilds the tokenizer by the family's defaults; if the vocabulary has no end
    token, it adds one whose id has no embedding.
    """
    from transformers import PreTrainedTokenizerFast

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["id"] < n_rows]
    vocabulary = backend["model"]["vocab"].keys() | {token["content"] for token in backend["added_tokens"]}
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if str(token) in vocabulary}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        chat_template=getattr(tokenizer, "chat_template", None),
        **special,
    )


def gguf_config_overrides(file: Path) -> dict[str, int]:
    """Configuration options to pass to transformers because it ignores them in a GGUF file's metadata."""
    fields = gguf_library().GGUFReader(file).fields
    return {option: int(fields[key].contents()) for key, option in _IGNORED_FIELDS.items() if key in fields}


def _stored_dtype(file: Path) -> torch.dtype:
    """The matrices' own type if it is a float, bf16 if they are quantised."""
    import torch

    gguf = gguf_library()
    kind = gguf.GGMLQuantizationType
    try:
        kinds = {t.tensor_type for t in gguf.GGUFReader(file).tensors if len(t.shape) > 1}
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{file} is no GGUF file ({explain(error)})") from error
    if kinds <= {kind.F32}:
        return torch.float32
    return torch.float16 if kinds <= {kind.F16} else torch.bfloat16
