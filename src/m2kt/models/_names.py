"""From a model's name to its directory: ``zoo:`` names, directories, fetched models, Hub ids."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from m2kt._home import m2kt_home
from m2kt._plugins import missing
from m2kt.errors import ModelError, SpecError, explain, first_line

from ._digest import MARK_FILE, digest_of_model, weight_files
from ._gguf import converted

FETCHED_NAMES = {
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "gemma-3-270m": "google/gemma-3-270m",
    "qwen2.5-coder-0.5b-instruct": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
    "qwen2.5-coder-1.5b-instruct": "Qwen/Qwen2.5-Coder-1.5B-Instruct",
}
"""Models that ``m2kt models get`` downloads, with their Hub repositories."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Files of a Hub repository that a model needs."""


def fetched_dir(name: str) -> Path:
    """Directory to which ``m2kt models get NAME`` downloads."""
    return m2kt_home() / "models" / name


def zoo_dir() -> Path:
    """The zoo: ``M2KT_ZOO``, else the installed distribution m2kt-zoo. Raises SpecError without either."""
    override = os.environ.get("M2KT_ZOO")
    if override:
        return Path(override).expanduser()
    package = find_spec("m2kt_zoo")
    if package is None or package.origin is None:
        raise missing("a zoo: name", "m2kt-zoo")
    return Path(package.origin).parent


def local_zoo_dir() -> Path:
    """Zoo models that are trained on this machine and not shipped (``make zoo-llm``)."""
    return m2kt_home() / "zoo"


def list_zoo() -> list[str]:
    """Names of the zoo's models, without ``zoo:``."""
    return sorted({p.parent.name for root in _zoo_roots() for p in root.glob("*/config.json")})


def _zoo_roots() -> list[Path]:
    """Directories of zoo models."""
    try:
        return [zoo_dir(), local_zoo_dir()]
    except SpecError:
        return [local_zoo_dir()]


def resolve(name: str | Path) -> Path:
    """The directory of the model called ``name``; a Hub id is downloaded, a GGUF file converted.

    Args:
        name: ``zoo:addition``, a directory, a GGUF file, a fetched model's short name, or a Hub id.

    Raises:
        ModelError: no such model, or the directory is not a model's.
    """
    text = str(name)
    if text.startswith("zoo:"):
        return _resolve_zoo(text.removeprefix("zoo:"))
    path = Path(text).expanduser()
    if path.is_dir():
        return _checked(path)
    if path.is_file() and path.suffix == ".gguf":
        return _checked(converted(path))
    if path.exists():
        raise ModelError(
            f"expected a model directory or a .gguf file, {path} is another file; name the directory that contains it"
        )
    if text in FETCHED_NAMES:
        return _resolve_fetched(text)
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(text):
        raise ModelError(f"no such model directory: {text}; give a directory, a Hub id, or a zoo: name")
    return _resolve_hub(text)


def licence_of(path: Path) -> str | None:
    """The licence in a model directory's mark file or in the front matter of its README."""
    mark = path / MARK_FILE
    if mark.is_file():
        return str(json.loads(mark.read_text(encoding="utf-8")).get("licence"))
    return _stated(path, "licen[sc]e")


def base_of(path: Path) -> str | None:
    """The model that a directory's model was tuned from, as the front matter of its README says."""
    return _stated(path, "base_model")


def _stated(path: Path, field: str) -> str | None:
    """A field of the front matter of a model's README; of a list the first entry."""
    readme = path / "README.md"
    if not readme.is_file():
        return None
    text = readme.read_text(encoding="utf-8", errors="replace")
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    match = re.search(rf"^{field}:[ \t]*(?:\n\s*-\s*)?['\"]?([^'\"\n]+)", front, re.MULTILINE)
    return match.group(1).strip() if match else None


def snapshot_of(path: Path) -> tuple[str, str] | None:
    """Repository and commit of a directory in the Hub's cache; None for any other directory."""
    repository = path.parents[1].name if len(path.parents) > 1 else ""
    if path.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), path.name


def copy_of_hub(path: Path) -> str | None:
    """The Hub repository whose files a fetched model's directory holds unaltered; None if they came from elsewhere."""
    mark = path / MARK_FILE
    source = str(json.loads(mark.read_text(encoding="utf-8")).get("source")) if mark.is_file() else ""
    return source.removeprefix("hub:") if source.startswith("hub:") else None


def hub_id_of(name: str, path: Path) -> str | None:
    """The Hub repository of a model, if its name or directory tells."""
    snapshot = snapshot_of(path)
    return snapshot[0] if snapshot else FETCHED_NAMES.get(name)


def _resolve_zoo(short: str) -> Path:
    for root in _zoo_roots():
        if re.fullmatch(r"[\w-]+", short) and (root / short).is_dir():
            return _checked(root / short)
    known = ", ".join(f"zoo:{n}" for n in list_zoo()) or "none"
    raise ModelError(f"the zoo at {zoo_dir()} has no model zoo:{short}; it has: {known}")


def _resolve_fetched(name: str) -> Path:
    path = fetched_dir(name)
    if not path.is_dir():
        raise ModelError(f"{name} has not been fetched (looked in {path}); run `m2kt models get {name}`")
    mark = path / MARK_FILE
    if mark.is_file():
        expected = json.loads(mark.read_text(encoding="utf-8")).get("digest")
        digest = digest_of_model(path)
        if expected != digest:
            raise ModelError(
                f"{path} was altered after it was fetched: expected digest {expected}, got {digest}; "
                f"remove it and run `m2kt models get {name}`"
            )
    return _checked(path)


def _resolve_hub(hub_id: str) -> Path:
    advice = "give a directory, a zoo: name, or `m2kt models list` for those that need no Hub"
    try:
        return _checked(Path(snapshot_download(hub_id, allow_patterns=HUB_PATTERNS)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = first_line(error)
        raise ModelError(f"{hub_id!r} is not a directory, and the Hub did not give it ({reason}); {advice}") from error


def _checked(path: Path) -> Path:
    """Refuse a directory that is not a model's, with a clearer error than that of transformers."""
    config = path / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is not a Hugging Face model directory: expected config.json in it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{config} cannot be read as JSON ({explain(error)}); restore the file") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f"{config} names no model_type; expected a transformers configuration")
    if not weight_files(path):
        raise ModelError(f"{path} holds no weights: expected *.safetensors or pytorch_model*.bin")
    if not any(path.glob("tokenizer*")) and not any(path.glob("*.model")) and not any(path.glob("vocab*")):
        raise ModelError(f"{path} holds no tokenizer: expected tokenizer.json")
    return path
