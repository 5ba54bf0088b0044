"""Load any causal LM and fail early on problems that would otherwise surface as wrong results."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from m2kt._libraries import quiet_transformers
from m2kt._plugins import ARCHITECTURES, plugins
from m2kt.errors import ModelError, first_line

from ._digest import digest_of_model
from ._end_tokens import choose_end_token
from ._forward import attention_patterns, make_head_input_contiguous
from ._layers import blocks, input_device, width
from ._names import base_of, copy_of_hub, hub_id_of, licence_of, resolve, snapshot_of
from ._precision import Dtype, pick_dtype
from ._text import named_tokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Device = Literal["auto", "cpu", "cuda", "mps"]
Attention = Literal["sdpa", "eager"]

_PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_log = logging.getLogger(__name__)


@dataclass
class LoadedModel:
    """A model ready for use, with its origin."""

    model: PreTrainedModel | PeftModel
    """The transformers model in eval mode, or an adapter around it."""
    tokenizer: PreTrainedTokenizerBase
    """Its tokenizer, padding on the left."""
    name: str
    """The name it was loaded by: ``zoo:addition``, a directory, a Hub id."""
    path: Path
    digest: str
    """``digest_of_model`` of ``path``."""
    pad_id: int
    """Token that pads a batch; always masked."""
    notes: list[str] = field(default_factory=list)
    """Choices made while loading, such as the pad token."""

    @property
    def peft_model(self) -> PeftModel:
        """The model with its adapter. Raises ModelError if it has none."""
        if not hasattr(self.model, "peft_config"):
            raise ModelError(f"{self.name}: expected a model with an adapter, got {type(self.model).__name__}")
        return cast("PeftModel", self.model)

    @property
    def device(self) -> torch.device:
        return input_device(self.model)

    @property
    def licence(self) -> str | None:
        """The licence that the model directory states."""
        return licence_of(self.path)

    @property
    def base(self) -> str | None:
        """The model that it was tuned from, as its model card says."""
        return base_of(self.path)

    @property
    def hub_id(self) -> str | None:
        """The Hub repository that it is, or was converted from; None if there is none."""
        return hub_id_of(self.name, self.path)

    @property
    def reference(self) -> tuple[str, str | None]:
        """The base in an adapter's configuration: the id (and commit, if known) of the Hub's files, or a directory."""
        return snapshot_of(self.path) or (copy_of_hub(self.path) or str(self.path), None)

    @property
    def quantised(self) -> bool:
        """Whether weights are stored in fewer bits than they compute in, so that no update can be merged."""
        return getattr(self.model, "hf_quantizer", None) is not None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.model.parameters())


def load_causal_lm(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    device_map: str | dict[str, int | str] | None = None,
    attn: Attention | None = None,
) -> LoadedModel:
    """Load a causal LM by name.

    Args:
        name: ``zoo:x``, a directory, a GGUF file, a fetched model's short name, or a Hub id.
        device: ``auto`` takes cuda, then mps, then cpu.
        dtype: ``auto`` is bf16 for models of 20 M parameters and more if the device computes in it, else fp32;
            quantised models keep the type that they were saved in.
        device_map: passed to accelerate for models that need several devices; ``device`` is then ignored.
        attn: ``eager`` to read attention patterns; checked by reading them once. None: the default of transformers.

    Raises:
        ModelError: unreadable, not causal, tokenizer and vocabulary disagree, device or attention not available.
    """
    if device_map is not None and find_spec("accelerate") is None:  # peft brings it, if peft is complete
        raise ModelError("device_map needs accelerate, which is not installed: pip install 'm2kt[device-map]'")
    path = resolve(name)
    _check_architecture(path)
    target = None if device_map is not None else pick_device(device)
    chosen = pick_dtype(path, dtype, target or pick_device("auto"))
    model = _read_model(path, chosen, device_map, attn)
    if target is not None:
        model.to(target)  # type: ignore[arg-type]  # typed as its wrapper by transformers
    model.eval()
    make_head_input_contiguous(model)
    tokenizer = _read_tokenizer(path)
    _drop_sampling_defaults(model)
    loaded = LoadedModel(model, tokenizer, str(name), path, digest_of_model(path), pad_id=0)
    model.name_or_path = loaded.reference[0]  # peft saves it as the base of an adapter
    _choose_padding(loaded)
    choose_end_token(model, tokenizer)
    _check_vocabulary(loaded)
    _check_causal(loaded)
    if attn == "eager":
        attention_patterns(model, torch.zeros(1, 2, dtype=torch.long, device=loaded.device), None)
    return loaded


@cache
def register_architectures() -> None:
    """Import the modules of the entry point group ``m2kt.architectures`` once; each registers a model family."""
    for entry in plugins(ARCHITECTURES).values():
        entry.load()


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, without its weights. Raises ModelError."""
    register_architectures()
    return _read_tokenizer(resolve(name))


def pick_device(device: str) -> torch.device:
    """The device; ``auto`` is the best available one. Raises ModelError if the device is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, yes in available.items() if yes))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"expected a device such as auto, cpu, cuda or mps, got {device!r}") from error
    if not available.get(chosen.type, True):
        names = ", ".join(kind for kind, yes in available.items() if yes)
        raise ModelError(f"device {device} is absent, this machine has: {names}; use --device auto")
    return chosen


def _check_architecture(path: Path) -> None:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    register_architectures()
    raw = json.loads((path / "config.json").read_text(encoding="utf-8"))
    try:
        config: Any = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"{path}: transformers cannot read its configuration ({first_line(error)})") from error
    kind = raw.get("model_type")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{path} is an encoder-decoder ({kind}); expected a causal, decoder-only language model")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{path} is a {kind} model; expected one that transformers can load as a causal LM")


def _read_model(path: Path, dtype: torch.dtype | Literal["auto"], device_map: Any, attn: str | None) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        with quiet_transformers():
            model, info = load(
                path,
                dtype=dtype,
                device_map=device_map,
                attn_implementation=attn,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded as a causal LM ({first_line(error)})") from error
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise ModelError(
            f"{path} is not a complete causal LM: {len(missing)} weights are missing, such as {missing[0]}; "
            "transformers would have initialised them at random"
        )
    loaded: PreTrainedModel = model
    return loaded


def _drop_sampling_defaults(model: PreTrainedModel) -> None:
    """Drop a model's sampling defaults: ``generate`` would merge them into the settings of every call."""
    from transformers import GenerationConfig

    shipped: Any = model.generation_config
    kept = {name: getattr(shipped, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**kept)


def _read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # If the directory names the plain backend class, its tokenizer.json is read: AutoTokenizer would, for model types
    # such as qwen2, use the family's class, which replaces the file's pre-tokenizer.
    try:
        plain = (path / "tokenizer.json").is_file() and _tokenizer_class(path) in _PLAIN_TOKENIZERS
        reader: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"the tokenizer in {path} cannot be loaded ({first_line(error)})") from error
    tokenizer.padding_side = "left"
    return tokenizer


def _tokenizer_class(path: Path) -> str | None:
    file = path / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config.get("tokenizer_class") if isinstance(config, dict) else None


def _choose_padding(loaded: LoadedModel) -> None:
    """Padding is masked everywhere, so any existing id is fine; a new token would change the vocabulary."""
    tokenizer: Any = loaded.tokenizer
    rows = _embeddings(loaded)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < rows:
        loaded.pad_id = int(tokenizer.pad_token_id)
        return
    for name in ("eos_token", "bos_token", "unk_token"):
        token = getattr(tokenizer, f"{name}_id", None)
        if token is not None and token < rows:
            tokenizer.pad_token = getattr(tokenizer, name)
            loaded.pad_id = int(token)
            loaded.notes.append(f"the tokenizer has no pad token: its {name} pads (masked)")
            break
    else:
        loaded.notes.append("the tokenizer has no special token: token 0 pads (masked)")
    _log.info("%s: %s", loaded.name, loaded.notes[-1])


def _embeddings(loaded: LoadedModel) -> int:
    return len(cast(Tensor, loaded.model.get_input_embeddings().weight))


def _check_vocabulary(loaded: LoadedModel) -> None:
    """Added tokens without an embedding are common, such as one for padding; ordinary ones are a mistake."""
    rows, named = _embeddings(loaded), set(named_tokens(loaded.tokenizer).values())
    beyond = [i for i in loaded.tokenizer.get_vocab().values() if i >= rows]
    if not named.issuperset(beyond):
        raise ModelError(
            f"{loaded.name}: the tokenizer has ids up to {max(beyond)}, the model has {rows} embeddings; "
            "the tokenizer belongs to another model"
        )
    if beyond:
        loaded.notes.append(f"{len(beyond)} added tokens have no embedding: texts that hold them cannot be read")


@torch.no_grad()
def _check_causal(loaded: LoadedModel) -> None:
    """Two rows that differ only in the last token must agree before it. Encoders, also BERT with a head, do not."""
    model = loaded.model
    rows = _embeddings(loaded)
    ids = torch.zeros(2, 4, dtype=torch.long, device=loaded.device)
    ids[0, -1], ids[1, -1] = min(1, rows - 1), rows - 1
    try:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    except Exception as error:
        raise ModelError(f"{loaded.name}: a forward pass on four tokens failed ({first_line(error)})") from error
    if not torch.isfinite(logits).all():
        raise ModelError(f"{loaded.name} returns values that are not finite; check its weights and the dtype")
    scale = logits[:, :-1].std().item()
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.05  # kernels may round rows of a batch differently
    if (logits[0, :-1] - logits[1, :-1]).abs().max().item() > tolerance * scale + 1e-7:
        raise ModelError(f"{loaded.name} is not causal: earlier predictions change with later tokens")
    blocks(model)
    width(model)
