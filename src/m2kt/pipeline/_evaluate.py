"""Evaluate: any model, with or without an adapter, against truth, labels, or a teacher."""

from __future__ import annotations

import time
from pathlib import Path

from m2kt.errors import SpecError
from m2kt.pipeline._adapters import adapter_digest
from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._results import EvaluateResult, Progress
from m2kt.probes import ProbeSpec, Prompt, Truth, load_truth, read_labelled


def evaluate(
    model: str,
    probes: str | Path | ProbeSpec,
    *,
    adapter: str | Path | None = None,
    labelled: str | Path | None = None,
    teacher: str | None = None,
    n: int = 200,
    held_out: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> EvaluateResult:
    """Asks ``model`` evaluation prompts of the spec, or labelled ones, and counts right answers.

    Args:
        labelled: JSONL of ``{"prompt", "answer"}``; replaces the spec's own prompts and truth.
        teacher: another model; ``agreement`` is the share of equal answers.
        held_out: ask the held-out shapes instead of the probed ones.
    """
    from m2kt.audit import ask, score
    from m2kt.models import load_causal_lm

    started = time.monotonic()
    say: Progress = progress or (lambda stage, done, total: None)
    spec, base = read_spec(probes)
    if labelled is not None:
        answers = read_labelled(labelled)
        prompts = [_plain_prompt(spec, text) for text in list(answers)[:n]]
        truth: Truth | None = Truth(answers)
    else:
        if held_out and not spec.held_out:
            raise SpecError(f"the spec {spec.name} has no held-out shapes")
        truth = load_truth(spec, base)
        prompts = evaluation_prompts(spec, truth, n, seed=seed, held_out=held_out)
    loaded = load_causal_lm(model, device=device, dtype=dtype)  # type: ignore[arg-type]
    if adapter is not None:
        loaded = with_adapter(loaded, adapter)
    completions = ask(loaded, spec, prompts, progress=lambda done, total: say("answering", done, total))
    agreement = None
    if teacher is not None:
        other = load_causal_lm(teacher, device=device, dtype=dtype)  # type: ignore[arg-type]
        reference = ask(other, spec, prompts, progress=lambda done, total: say("answering", done, total))
        equal = [
            spec.read_answer(a) == spec.read_answer(b) for a, b in zip(completions, reference, strict=True)
        ]
        agreement = sum(equal) / len(equal) if equal else None
    scored = score(spec, prompts, completions, truth) if truth is not None else None
    known = scored is not None and scored.n > 0
    return EvaluateResult(
        accuracy=scored.accuracy if scored is not None and known else None,
        interval=scored.interval if scored is not None and known else None,
        agreement=agreement,
        n=len(prompts),
        judged=scored.n if scored is not None else 0,
        shapes=[s.model_dump() for s in scored.shapes] if scored is not None and labelled is None else [],
        held_out=held_out,
        model=model,
        model_digest=loaded.digest,
        adapter=None if adapter is None else str(adapter),
        adapter_digest=None if adapter is None else adapter_digest(Path(adapter)),
        probes=spec.public().digest,
        wrong=scored.wrong if scored is not None else [],
        seconds=round(time.monotonic() - started, 2),
    )


def _plain_prompt(spec: ProbeSpec, text: str) -> Prompt:
    from m2kt.probes import Segmenter

    return Prompt(text, 0, False, tuple(Segmenter(spec.values).cut(text)))
