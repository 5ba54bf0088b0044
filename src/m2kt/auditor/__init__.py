"""The auditor: measures a candidate and returns a verdict. It never writes weights; the pipeline acts on the verdict.

measurements = measure(candidate, packet, packet.spec.sample("evaluation", 200, seed=0))
verdict = judge(measurements, Thresholds())          # verdict.checks: name, value, limit, passed, reason
answers = ask(candidate, packet.spec, ["a b c:"])    # everything that asks a model for answers asks here
"""

from m2kt.auditor._answers import answer_budget as answer_budget
from m2kt.auditor._answers import ask as ask
from m2kt.auditor._causes import Causes as Causes
from m2kt.auditor._causes import measure_causes as measure_causes
from m2kt.auditor._causes import question_ids as question_ids
from m2kt.auditor._certificate import Certificate as Certificate
from m2kt.auditor._certificate import certify as certify
from m2kt.auditor._confidence import Confidence as Confidence
from m2kt.auditor._confidence import measure_confidence as measure_confidence
from m2kt.auditor._consistency import Consistency as Consistency
from m2kt.auditor._consistency import Contradiction as Contradiction
from m2kt.auditor._consistency import check_consistency as check_consistency
from m2kt.auditor._content import ContentAuditor as ContentAuditor
from m2kt.auditor._content import ContentReport as ContentReport
from m2kt.auditor._content import Finding as Finding
from m2kt.auditor._content import Judgement as Judgement
from m2kt.auditor._content import content_auditor as content_auditor
from m2kt.auditor._content import has_content_auditor as has_content_auditor
from m2kt.auditor._diagnose import Diagnosis as Diagnosis
from m2kt.auditor._diagnose import diagnose as diagnose
from m2kt.auditor._geometry import Geometry as Geometry
from m2kt.auditor._geometry import concept_map as concept_map
from m2kt.auditor._geometry import measure_geometry as measure_geometry
from m2kt.auditor._measure import BEFORE_PROMPTS as BEFORE_PROMPTS
from m2kt.auditor._measure import MeasureConfig as MeasureConfig
from m2kt.auditor._measure import measure as measure
from m2kt.auditor._measurements import Measurements as Measurements
from m2kt.auditor._program import Disagreement as Disagreement
from m2kt.auditor._program import ProgramReport as ProgramReport
from m2kt.auditor._program import Suspicion as Suspicion
from m2kt.auditor._program import check_program as check_program
from m2kt.auditor._regression import Regression as Regression
from m2kt.auditor._regression import measure_regression as measure_regression
from m2kt.auditor._regression import regression_tasks as regression_tasks
from m2kt.auditor._retention import Neutral as Neutral
from m2kt.auditor._retention import measure_neutral as measure_neutral
from m2kt.auditor._retention import neutral_text as neutral_text
from m2kt.auditor._safety import Safety as Safety
from m2kt.auditor._safety import measure_safety as measure_safety
from m2kt.auditor._skill import Score as Score
from m2kt.auditor._skill import gap_recovered as gap_recovered
from m2kt.auditor._skill import packet_answers as packet_answers
from m2kt.auditor._skill import packet_traces as packet_traces
from m2kt.auditor._skill import score as score
from m2kt.auditor._skill import trace_answers as trace_answers
from m2kt.auditor._skill import wilson as wilson
from m2kt.auditor._steering import Steering as Steering
from m2kt.auditor._steering import refit_steering as refit_steering
from m2kt.auditor._steps import Steps as Steps
from m2kt.auditor._steps import measure_steps as measure_steps
from m2kt.auditor._surroundings import Surrounding as Surrounding
from m2kt.auditor._surroundings import measure_surroundings as measure_surroundings
from m2kt.auditor._traces import cal_config as cal_config
from m2kt.auditor._triggers import Trigger as Trigger
from m2kt.auditor._triggers import Triggers as Triggers
from m2kt.auditor._triggers import search_triggers as search_triggers
from m2kt.auditor._verdict import Verdict as Verdict
from m2kt.auditor._verdict import VerdictCheck as VerdictCheck
from m2kt.auditor._verdict import judge as judge
from m2kt.auditor._ways import Example as Example
from m2kt.probes import ShapeScore as ShapeScore
from m2kt.settings import Thresholds as Thresholds
