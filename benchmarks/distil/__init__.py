"""Distillation by TRL, as a user would run it: LoRA on all linear layers of a frozen student.

``sft`` trains on the teacher's answers (sequence-level distillation), ``logits`` on its next-token distributions.
Importing this needs TRL and loads torch.

What makes the baseline strong:

* Tokens are the student's own for the whole text: the prompt as the evaluation encodes it, no truncation, no chat
  template, no end-of-text token behind the stop string (no evaluation asks for it). Loss on the completion alone.
* No activation checkpointing (TRL's default, which costs a quarter of the speed); batches grouped by length.
* The learning rate decays with the budget, so that a run that ends by tokens or seconds ends annealed.
* Evaluation costs neither tokens nor seconds, and the first evaluation at the target ends the run.
"""

from m2kt.errors import CompatibilityError

try:
    import trl  # noqa: F401
except ImportError as error:
    raise CompatibilityError(
        f"the distillation baselines need TRL, and it cannot be imported ({error}): pip install 'm2kt[bench]'"
    ) from error

from benchmarks._lora import equal_rank as equal_rank
from benchmarks._lora import lora as lora
from benchmarks.distil._curve import Distilled as Distilled
from benchmarks.distil._curve import Settings as Settings
from benchmarks.distil._logits import logits as logits
from benchmarks.distil._sft import sft as sft
