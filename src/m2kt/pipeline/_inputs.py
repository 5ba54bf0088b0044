"""What the verbs are given: specs by name, and students with a saved adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m2kt.errors import CompatibilityError, SpecError
from m2kt.probes import ProbeSpec, Prompt, Truth

if TYPE_CHECKING:
    from m2kt.models import LoadedModel


def read_spec(probes: str | Path | ProbeSpec) -> tuple[ProbeSpec, Path]:
    """A spec, and the folder from which its truth is named."""
    if isinstance(probes, ProbeSpec):
        return probes, Path()
    from m2kt.models import resolve

    path = Path(resolve(str(probes))) / "probes.yaml" if str(probes).startswith("zoo:") else Path(probes)
    if path.is_dir():
        path = path / "probes.yaml"
    return ProbeSpec.from_file(path), path.parent


def evaluation_prompts(
    spec: ProbeSpec, truth: Truth | None, n: int, *, seed: int, held_out: bool = False
) -> list[Prompt]:
    """Prompts to judge by ``truth``: drawn by the spec, from the truth's own problems where it has a list of them.

    Raises SpecError where none of those problems is an evaluation prompt of the spec.
    """
    among = None if truth is None else truth.problems
    prompts = spec.sample("evaluation", n, seed=seed, held_out=held_out, among=among)
    if among is not None and not prompts:
        shapes = "held-out shapes" if held_out else "probed shapes, evaluation split"
        raise SpecError(
            f"none of the {len(among)} problems of the truth is a prompt of {spec.name} ({shapes})"
        )
    return prompts


def with_adapter(loaded: LoadedModel, adapter: str | Path) -> LoadedModel:
    """``loaded`` with a saved adapter on it."""
    from peft import PeftModel

    import m2kt.student  # noqa: F401  registers the adapter type with peft

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise CompatibilityError(f"{adapter} is not an adapter directory: it has no adapter_config.json")
    try:
        model = PeftModel.from_pretrained(loaded.model, str(adapter))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CompatibilityError(f"the adapter {adapter} does not fit {loaded.name}: {error}") from error
    model.eval()
    return replace(loaded, model=model)
