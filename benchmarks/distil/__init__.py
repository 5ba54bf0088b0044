"""Distillation by TRL, as a user would do it instead. Importing it loads torch; TRL is loaded when it is used."""

from benchmarks.distil._distil import Distilled as Distilled
from benchmarks.distil._distil import equal_rank as equal_rank
from benchmarks.distil._distil import logits as logits
from benchmarks.distil._distil import lora as lora
from benchmarks.distil._distil import sft as sft
