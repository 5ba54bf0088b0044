"""The check of explanations: does each token depend on the concept that is named for it, and on no other?"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from m2kt.pipeline._inputs import evaluation_prompts, read_spec, with_adapter
from m2kt.pipeline._report import Progress, Report, Result, no_progress
from m2kt.probes import ProbeSpec, load_truth
from m2kt.render import percent

if TYPE_CHECKING:
    from m2kt.auditor import Causes
    from m2kt.models import Dtype
else:  # importing the pipeline loads no torch
    Causes = object


class ExplanationCheck(Result):
    """Whether explanations name what the tokens depend on."""

    model: str
    adapter: str
    probes: str
    concepts: Causes = Field(description="Units that a rule's row wrote.")
    copies: Causes = Field(description="Units that a copy wrote.")
    seconds: float

    def report(self) -> Report:
        shares = {
            f"{name}_{kind}": share
            for name, causes in (("concepts", self.concepts), ("copies", self.copies))
            for kind, share in (("exchange", causes.exchange_share), ("removal", causes.removal_share))
        }
        return {**super().report(), **shares}

    def headline(self) -> str:
        return (
            f"{percent(self.concepts.exchange_share, 2)} of {self.concepts.exchanged} units depend on the concept that "
            "is named for them, and on no other"
        )

    def table(self) -> dict[str, str]:
        def line(causes: Causes) -> str:
            return (
                f"exchange {percent(causes.exchange_share, 2)} of {causes.exchanged}; removal "
                f"{percent(causes.removal_share, 2)} of {causes.units - causes.base_says_so} "
                f"({causes.base_says_so} more the student says by itself)"
            )

        return {
            "answers": str(self.concepts.answers),
            "concepts": line(self.concepts),
            "copies": line(self.copies),
            "seconds": f"{self.seconds:.1f}",
        }


def check_explanations(
    model: str,
    probes: str | Path | ProbeSpec,
    *,
    adapter: str | Path,
    n: int = 100,
    seed: int = 0,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> ExplanationCheck:
    """Explains the answers to evaluation prompts, then removes and exchanges every concept and copy they name.

    Args:
        n: number of prompts.
    """
    from m2kt.auditor import measure_causes
    from m2kt.models import load_causal_lm

    started, say = time.monotonic(), progress or no_progress
    spec, base = read_spec(probes)
    loaded = with_adapter(load_causal_lm(model, device=device, dtype=dtype), adapter)
    prompts = evaluation_prompts(spec, load_truth(spec, base), n, seed=seed)
    concepts, copies = measure_causes(
        loaded, spec, prompts, kinds=("concept", "copy"), progress=partial(say, "intervening")
    )
    seconds = round(time.monotonic() - started, 2)
    return ExplanationCheck(
        model=model, adapter=str(adapter), probes=spec.name, concepts=concepts, copies=copies, seconds=seconds
    )
