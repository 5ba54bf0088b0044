"""One extraction, measured: time in the model by kind of request, and outside of it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from benchmarks.scale._engines import Timed
from m2kt.models import Dtype, load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.teacher import ExtractionConfig, LocalEngine, extract


def measured(teacher: str, probes: str | Path, config: ExtractionConfig, dtype: Dtype = "auto") -> dict[str, object]:
    """An extraction in this process: processor seconds in and outside the model, passes, tokens, memory."""
    loaded = load_causal_lm(teacher, dtype=dtype)
    engine = Timed(LocalEngine(loaded))
    spec, _ = read_spec(probes)
    started = time.process_time()
    details = extract(engine, spec, config)
    seconds = time.process_time() - started
    in_model = sum(engine.seconds.values())
    computed, shared = details.teacher_tokens, details.teacher_tokens_shared
    return {
        "teacher": teacher,
        "dtype": engine.facts.dtype,
        "parameters": loaded.parameters,
        "spec": spec.name,
        "probes": config.probes_per_template * spec.n_templates,
        "agreement": details.fidelity.agreement,
        "coverage": details.fidelity.coverage,
        "concepts": details.program.n_concepts,
        "passes": details.teacher_passes,
        "tokens": computed,
        "tokens_shared": shared,
        "tokens_down": round((computed + shared) / max(1, computed), 2),
        "seconds": round(seconds, 2),
        "seconds_by_kind": {kind: round(value, 2) for kind, value in sorted(engine.seconds.items())},
        "sequences_by_kind": dict(sorted(engine.sequences.items())),
        "tokens_by_kind": dict(sorted(engine.tokens.items())),
        "seconds_outside": round(seconds - in_model, 2),
        "outside_the_model": round(1 - in_model / seconds, 4),
        "peak_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "equality": None if details.equality is None else details.equality.model_dump(),
    }
