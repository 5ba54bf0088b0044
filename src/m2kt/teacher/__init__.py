"""Teacher side (Algorithm 1): probe a teacher, intervene, explain its steps, complete the graph, embed, measure.

    details = extract(load_causal_lm("zoo:addition"), spec, ExtractionConfig())

Imports probes, packet and models; never the student.
"""

from m2kt.teacher._completion import CompletionRound as CompletionRound
from m2kt.teacher._config import ExtractionConfig as ExtractionConfig
from m2kt.teacher._extract import ExtractionDetails as ExtractionDetails
from m2kt.teacher._extract import extract as extract
from m2kt.teacher._fidelity import RolloutComparison as RolloutComparison
from m2kt.teacher._fidelity import TemplateCounts as TemplateCounts
from m2kt.teacher._statistics import k_means as k_means
from m2kt.teacher.sources import SOURCES as SOURCES
