"""The experiments of the bench. Each is a function of a cell, the artifact cache, and the cell's options.

A new one is a function here and its name in :data:`benchmarks.arms.EXPERIMENTS`. Importing this package loads no torch.
"""

from benchmarks.experiments._controls import flat as flat
from benchmarks.experiments._controls import none as none
from benchmarks.experiments._controls import random_core as random_core
from benchmarks.experiments._controls import random_embeddings as random_embeddings
from benchmarks.experiments._controls import shuffled_rules as shuffled_rules
from benchmarks.experiments._controls import text_lora as text_lora
from benchmarks.experiments._controls import traces_only as traces_only
from benchmarks.experiments._controls import wrong_packet as wrong_packet
from benchmarks.experiments._distil import distil as distil
from benchmarks.experiments._speed import speed as speed
from benchmarks.experiments._trait import trait as trait
from benchmarks.experiments._transfer import counterfactual as counterfactual
from benchmarks.experiments._transfer import dial as dial
from benchmarks.experiments._transfer import learning_curve as learning_curve
from benchmarks.experiments._transfer import longer as longer
from benchmarks.experiments._transfer import m2kt as m2kt
from benchmarks.experiments._transfer import plain as plain
from benchmarks.experiments._transfer import seed1 as seed1
from benchmarks.experiments._transfer import without as without
