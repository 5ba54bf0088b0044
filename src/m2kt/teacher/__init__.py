"""Teacher side (Algorithm 1): ask a teacher, find its program, embed its concepts, measure.

    details = extract(load_causal_lm("zoo:addition"), spec, ExtractionConfig())

Imports probes, packet and models; never the student.
"""

from m2kt.teacher._config import ExtractionConfig as ExtractionConfig
from m2kt.teacher._extract import ExtractionDetails as ExtractionDetails
from m2kt.teacher._extract import extract as extract
from m2kt.teacher._fidelity import RolloutComparison as RolloutComparison
from m2kt.teacher._fidelity import TemplateCounts as TemplateCounts
from m2kt.teacher._fidelity import compare_rollouts as compare_rollouts
from m2kt.teacher._fidelity import refusal as refusal
from m2kt.teacher._oracle import Answer as Answer
from m2kt.teacher._oracle import Forced as Forced
from m2kt.teacher._oracle import Oracle as Oracle
from m2kt.teacher._statistics import k_means as k_means
from m2kt.teacher._try import SpecTrial as SpecTrial
from m2kt.teacher._try import TriedPrompt as TriedPrompt
from m2kt.teacher._try import TriedUnit as TriedUnit
from m2kt.teacher._try import try_spec as try_spec
from m2kt.teacher.engine import Checkpoint as Checkpoint
from m2kt.teacher.engine import Engine as Engine
from m2kt.teacher.engine import LocalEngine as LocalEngine
from m2kt.teacher.engine import RayEngine as RayEngine
from m2kt.teacher.engine import TeacherFacts as TeacherFacts
from m2kt.teacher.engine import TeacherSource as TeacherSource
from m2kt.teacher.program import Skill as Skill
from m2kt.teacher.program import Step as Step
from m2kt.teacher.program import program_of as program_of
from m2kt.teacher.sources import SOURCES as SOURCES
