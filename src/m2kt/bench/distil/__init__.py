"""Distillation by TRL, as a user would do it instead. Importing it loads torch; TRL is loaded when it is used."""

from m2kt.bench.distil._distil import Distilled as Distilled
from m2kt.bench.distil._distil import equal_rank as equal_rank
from m2kt.bench.distil._distil import logits as logits
from m2kt.bench.distil._distil import lora as lora
from m2kt.bench.distil._distil import sft as sft
