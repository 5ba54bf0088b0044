"""Inputs of the verbs: probe specs by name, evaluation prompts, students with a saved adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m2kt.errors import CompatibilityError, SpecError
from m2kt.probes import ProbeSpec, Prompt, Truth

if TYPE_CHECKING:
    from m2kt.models import LoadedModel


def read_spec(probes: str | Path | ProbeSpec) -> tuple[ProbeSpec, Path]:
    """A spec, and the directory that its truth is relative to."""
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
    """Prompts of the evaluation split, drawn by the spec, among the truth's problems where it lists them.

    Raises SpecError where none of those problems is an evaluation prompt of the spec.
    """
    among = None if truth is None else truth.problems
    prompts = spec.sample("evaluation", n, seed=seed, held_out=held_out, among=among)
    if among is not None and not prompts:
        shapes = "held-out shapes" if held_out else "probed shapes, evaluation split"
        raise SpecError(
            f"expected problems of the truth that are prompts of {spec.name} ({shapes}), got none of the {len(among)} "
            "problems; check the truth's prompts"
        )
    return prompts


def with_adapter(loaded: LoadedModel, adapter: str | Path) -> LoadedModel:
    """``loaded`` with a saved adapter on it."""
    from peft import PeftModel

    import m2kt.student  # noqa: F401  registers the adapter type with peft

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise CompatibilityError(
            f"expected an adapter directory, got {adapter} without adapter_config.json; name the output of m2kt ingest"
        )
    try:
        model = PeftModel.from_pretrained(loaded.model, str(adapter))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CompatibilityError(
            f"expected the base of the adapter {adapter}, got {loaded.name} ({error}); name its base"
        ) from error
    model.eval()
    return replace(loaded, model=model)
