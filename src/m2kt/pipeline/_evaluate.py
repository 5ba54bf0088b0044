"""Evaluate: right answers of a model, with or without an adapter, by truth, labels, or a teacher."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from m2kt.errors import SpecError
from m2kt.packet import EVALUATION, Packet
from m2kt.pipeline._adapters import adapter_digest, check_writable
from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import EvaluateResult
from m2kt.pipeline._statements import local_signer, require_packet_of, write_statement
from m2kt.probes import ProbeSpec, Prompt, Segmenter, Truth, load_truth, read_labelled
from m2kt.remote import open_packet

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

    from m2kt.models import Dtype


def evaluate(
    model: str,
    probes: str | Path | ProbeSpec,
    *,
    adapter: str | Path | None = None,
    labelled: str | Path | None = None,
    teacher: str | None = None,
    n: int = 200,
    held_out: bool = False,
    packet: str | Path | Packet | None = None,
    statement: str | Path | None = None,
    key: CryptoSigner | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> EvaluateResult:
    """Asks a model evaluation prompts; counts right answers, and answers equal to those of another model, the teacher.

    Args:
        labelled: JSONL of ``{"prompt", "answer"}``; replaces the spec's prompts and truth.
        held_out: ask the held-out shapes instead of the probed ones.
        statement: file for the result, signed by ``key`` (by default the local one) as a statement about ``packet``.
    """
    from m2kt.auditor import Score, ask, score
    from m2kt.models import load_causal_lm

    started, say = time.monotonic(), progress or no_progress
    about = _subject(packet, statement, adapter)
    key = key or local_signer() if about else None
    if statement is not None:
        check_writable(statement)
    spec, prompts, truth = _questions(probes, labelled, n, held_out, seed)
    loaded = load_causal_lm(model, device=device, dtype=dtype)
    loaded = loaded if adapter is None else with_adapter(loaded, adapter)
    completions = ask(loaded, spec, prompts, progress=partial(say, "answering"))
    agreement = None
    if teacher is not None:
        other = load_causal_lm(teacher, device=device, dtype=dtype)
        agreement = _agreement(spec, completions, ask(other, spec, prompts, progress=partial(say, "answering")))
    scored = Score(0, 0) if truth is None else score(spec, prompts, completions, truth)
    result = EvaluateResult(
        accuracy=scored.accuracy if scored.n else None,
        interval=scored.interval if scored.n else None,
        agreement=agreement,
        n=len(prompts),
        judged=scored.n,
        shapes=scored.shapes if labelled is None else [],
        held_out=held_out,
        model=model,
        model_digest=loaded.digest,
        adapter=None if adapter is None else str(adapter),
        adapter_digest=None if adapter is None else adapter_digest(adapter),
        probes=spec.public().digest,
        wrong=scored.wrong,
        seconds=round(time.monotonic() - started, 2),
    )
    if about is not None and statement is not None:
        write_statement(statement, about, EVALUATION, result, key)
    return result


def _agreement(spec: ProbeSpec, completions: list[str], reference: list[str]) -> float | None:
    """Share of equal answers; None of no completions."""
    pairs = zip(map(spec.read_answer, completions), map(spec.read_answer, reference), strict=True)
    equal = [a == b for a, b in pairs]
    return sum(equal) / len(equal) if equal else None


def _subject(
    packet: str | Path | Packet | None, statement: str | Path | None, adapter: str | Path | None
) -> Packet | None:
    """The packet that a statement is about; None without a statement."""
    if (packet is None) != (statement is None):
        raise SpecError("expected both packet and statement or neither, got one; a statement is about a packet")
    if packet is None:
        return None
    packet = open_packet(packet)
    if adapter is not None:
        require_packet_of(adapter, packet)
    return packet


def _questions(
    probes: str | Path | ProbeSpec, labelled: str | Path | None, n: int, held_out: bool, seed: int
) -> tuple[ProbeSpec, list[Prompt], Truth | None]:
    """The spec, the prompts to ask, and the truth if it is known."""
    spec, base = read_spec(probes)
    if labelled is not None:
        answers = read_labelled(labelled)
        cut = Segmenter(spec.values).cut
        return spec, [Prompt(text, 0, False, tuple(cut(text))) for text in list(answers)[:n]], Truth(answers)
    if held_out and not spec.held_out:
        raise SpecError(f"expected held-out shapes in the spec {spec.name}, got none; add them or ask probed shapes")
    truth = load_truth(spec, base)
    return spec, evaluation_prompts(spec, truth, n, seed=seed, held_out=held_out), truth
