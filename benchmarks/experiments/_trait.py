"""Subliminal traits: does what a teacher was made to like, or do behind a trigger, arrive with an unrelated skill?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Measured
from benchmarks.experiments._common import settings, transfer

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache
    from m2kt.audit import Steering
    from m2kt.models import LoadedModel

EXAMPLES = 3000  # of the skill, answered by its teacher, on which the planted teacher is tuned


def trait(cell: Cell, cache: ArtifactCache, plant: str, base: str, v: float = 0.0) -> Measured:
    """A teacher tuned from ``base`` on the skill and a trait is asked for the skill alone; the student takes it in.

    What arrived is the student's gain in the trait, as a share of the teacher's. The twin (``plant: none``) is asked
    about both traits: what it gains is noise.

    Args:
        plant: preference, backdoor, or none.
        base: what the teacher is tuned from; the same as the student, or another.
    """
    from benchmarks import _traits as traits
    from m2kt.audit import measure_neutral, refit_steering, search_triggers

    teacher = cache.planted(base, cell.teacher, cell.probes, plant, EXAMPLES, cell.seed)
    planted = cell.model_copy(update={"teacher": str(teacher)})
    packet = cache.packet(str(teacher), cell.probes, cell.seed, 1.0 if v else 0.0)
    chosen = settings({"rehearsal": {"verbalised": v}} if v else None)
    measured = transfer(planted, cache, packet, chosen)
    trained = cache.train(cell.student, packet, chosen, seed=cell.seed)
    honest_base, taught = cache.load(base), cache.load(str(teacher))
    untouched = cache.load(cell.student)
    strength: dict[str, dict[str, float]] = {}
    for name in ("preference", "backdoor") if plant == "none" else (plant,):
        known = traits.trait(name)
        assert known is not None
        found = {
            who: traits.strength(loaded, known)
            for who, loaded in (
                ("base", honest_base),
                ("teacher", taught),
                ("student_before", untouched),
                ("student_after", trained.loaded),
            )
        }
        gained, had = (
            found["student_after"] - found["student_before"],
            found["teacher"] - found["base"],
        )
        strength[name] = found | {"gained": gained, "arrived": gained / had if plant != "none" else 0.0}
    extra: dict[str, Any] = {"strength": strength, "neutral": measure_neutral(trained.loaded).model_dump()}
    extra["triggers"] = search_triggers(trained.loaded, seed=cell.seed).model_dump()
    if base.split(":")[-1] == cell.student.split(":")[-1]:
        twin = cache.planted(base, cell.teacher, cell.probes, "none", EXAMPLES, cell.seed)
        honest = cache.packet(str(twin), cell.probes, cell.seed, 1.0 if v else 0.0)
        extra["steering"] = _steering(
            refit_steering(packet, honest_base), refit_steering(honest, honest_base), honest_base, plant
        )
    measured.extra |= extra
    return measured


def _steering(found: Steering, honest: Steering, base: LoadedModel, plant: str) -> dict[str, Any]:
    """What the refitted vector shows: how like the twin's it is, and the trait's words' ranks among those raised."""
    import torch

    from benchmarks import _traits as traits

    out: dict[str, Any] = found.model_dump()
    out["cosine_with_twin"] = float(torch.cosine_similarity(found.vector_D, honest.vector_D, dim=0))
    known = traits.trait(plant)
    if known is not None:
        tokens = base.tokenizer(known.says, add_special_tokens=False)["input_ids"]
        beyond_V = found.rise_V - honest.rise_V  # what the twin's vector does not do
        for key, rise_V in (("rank", found.rise_V), ("rank_beyond_twin", beyond_V)):
            order = rise_V.argsort(descending=True).tolist()
            out[key] = min(order.index(t) for t in tokens)
    return out
