"""GGUF files as models: unpacked once, into a directory that transformers reads like any other."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from m2kt._home import m2kt_home
from m2kt._libraries import quiet_transformers
from m2kt.errors import ModelError, StorageError, explain

from ._digest import sha256_of_file

if TYPE_CHECKING:
    import torch

_NOT_TAKEN = {
    "gpt2.context_length": "n_positions",
    "gpt2.feed_forward_length": "n_inner",
    "qwen3.attention.key_length": "head_dim",
}


def unpacked(file: Path) -> Path:
    """The directory that holds what a GGUF file holds; made when it is asked for the first time.

    Raises:
        ModelError: no GGUF, or of an architecture or quantisation that transformers does not read.
        StorageError: the disk refused.
    """
    target = m2kt_home() / "models" / f"gguf-{sha256_of_file(file)[:24]}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gguf-", dir=target.parent) as aside:
            written = Path(aside) / "model"
            unpack(file, written)
            if not target.is_dir():  # another process was not faster
                written.rename(target)
    except OSError as error:
        raise StorageError(
            f"cannot unpack {file} to {target}: {explain(error)}; free some space or set M2KT_HOME elsewhere"
        ) from error
    return target


def unpack(file: Path, written: Path) -> None:
    """Writes a GGUF's weights as safetensors, in full precision where it has them so and in 16 bits elsewhere."""
    dtype = _stored(file)
    try:
        model, tokenizer = read_gguf(file, dtype)
        model.config._name_or_path = ""
        model.save_pretrained(written)
        tokenizer.save_pretrained(written)
    except OSError:
        raise
    except Exception as error:
        raise ModelError(f"transformers cannot read the GGUF {file} ({explain(error)})") from error
    for part in written.iterdir():
        part.chmod(0o644)


def read_gguf(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its blocks unpacked. Raises whatever transformers does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    load: Any = AutoModelForCausalLM.from_pretrained
    with quiet_transformers():
        # dequantize: a model whose weights stay in GGUF blocks refuses to be saved
        packed = GgufConfig(dequantize=True)
        model = load(
            file.parent, gguf_file=file.name, dtype=dtype, quantization_config=packed, **left_out(file)
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return model, _plain_tokenizer(tokenizer, model.get_input_embeddings().weight.shape[0])


def _plain_tokenizer(tokenizer: Any, rows: int) -> Any:
    """The tokenizer as it was read, apart from the class that transformers chose by the model's family.

    That class, saved and loaded again, rebuilds the tokenizer in the family's usual way; and behind a vocabulary that
    lacks it, it puts an end of its own, with an id that the model has no embedding for.
    """
    from transformers import PreTrainedTokenizerFast

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["id"] < rows]
    known = backend["model"]["vocab"].keys() | {token["content"] for token in backend["added_tokens"]}
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if str(token) in known}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        chat_template=getattr(tokenizer, "chat_template", None),
        **special,
    )


def left_out(file: Path) -> dict[str, int]:
    """Options that transformers does not take from a GGUF's metadata and must be told, where a file has them."""
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    return {ours: int(fields[theirs].contents()) for theirs, ours in _NOT_TAKEN.items() if theirs in fields}


def _stored(file: Path) -> torch.dtype:
    """What the matrices are kept in: the file's own type where it is a float, bf16 for all that is quantised."""
    import torch
    from gguf import GGMLQuantizationType, GGUFReader

    try:
        kinds = {t.tensor_type for t in GGUFReader(file).tensors if len(t.shape) > 1}
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{file} is no GGUF file ({explain(error)})") from error
    if kinds <= {GGMLQuantizationType.F32}:
        return torch.float32
    return torch.float16 if kinds <= {GGMLQuantizationType.F16} else torch.bfloat16
