"""Mistakes in a probe spec that its form does not show: slots that nothing uses, a truth that is not there."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from m2kt.errors import SpecError
from m2kt.probes._fields import ReasoningGym
from m2kt.probes._spec import ProbeSpec
from m2kt.probes._template import Hole, Template


def check_usable(spec: ProbeSpec, base_dir: str | Path | None = None, source: str = "the probe spec") -> None:
    """Raises SpecError for a slot that no template, phrasing or held-out shape uses, and for a truth without its file.

    Args:
        base_dir: the folder of the spec's file; None: the truth is not looked for.
        source: the spec's name in messages.
    """
    unused = [name for name in spec.slots if name not in _used(spec)]
    if unused:
        raise SpecError(
            f"{source}: expected every slot in a template, got the slot {unused[0]!r} in none; write {{{unused[0]}}} "
            f"into a template, or leave it out"
        )
    file = truth_file(spec)
    if base_dir is not None and file is not None and not (Path(base_dir) / file).is_file():
        folder = Path(base_dir) / Path(file).parent
        there = sorted(p.name for p in folder.glob(f"*{Path(file).suffix}")) if folder.is_dir() else []
        meant = get_close_matches(Path(file).name, there, n=1)
        hint = (
            f"; did you mean {meant[0]}?" if meant else "; paths are relative to the spec, and truth: null needs none"
        )
        raise SpecError(f"{source}: truth: expected a file at {Path(base_dir) / file}, got none{hint}")


def truth_file(spec: ProbeSpec) -> str | None:
    """The file that a spec's truth is in, as the spec names it; None: no truth, or none in a file."""
    truth = spec.truth.via if isinstance(spec.truth, ReasoningGym) else spec.truth
    if truth is None:
        return None
    file, colon, _ = truth.rpartition(":")
    return file if colon and file.endswith(".py") else truth


def _used(spec: ProbeSpec) -> set[str]:
    slots = {name: slot.values for name, slot in spec.slots.items()}
    shapes = [(i, False) for i in range(len(spec.templates))] + [(i, True) for i in range(len(spec.held_out))]
    parts = [part for i, held in shapes for part in Template(spec.template_text(i, held), slots).parts]
    return {part.slot for part in parts if isinstance(part, Hole)}
