"""The student side: a packet becomes a Concept Alignment Layer around a frozen model.

Importing it calls :func:`register`: peft then knows the adapter type.

    candidate = train(load_causal_lm("smollm2-135m"), packet, updates=60)      # rehearsal by following vectors
    candidate.model.save_pretrained("adapter")                                 # PeftModel.from_pretrained opens it
    replace_bank(candidate.model, other_packet)                                # same program: no training
"""

from m2kt.settings import StudentSettings as StudentSettings
from m2kt.student._bank import replace_bank as replace_bank
from m2kt.student._batching import IGNORE as IGNORE
from m2kt.student._batching import NO_BANK as NO_BANK
from m2kt.student._batching import Batch as Batch
from m2kt.student._batching import EncodedTrace as EncodedTrace
from m2kt.student._batching import Encoder as Encoder
from m2kt.student._batching import collate as collate
from m2kt.student._calibrate import StudentTargets as StudentTargets
from m2kt.student._calibrate import student_targets as student_targets
from m2kt.student._causes import Cause as Cause
from m2kt.student._causes import Read as Read
from m2kt.student._chat import own_chat as own_chat
from m2kt.student._chat import student_chat as student_chat
from m2kt.student._consolidate import ConsolidateSettings as ConsolidateSettings
from m2kt.student._consolidate import distil_reader as distil_reader
from m2kt.student._cost import Cost as Cost
from m2kt.student._cost import CostSummary as CostSummary
from m2kt.student._cost import Pass as Pass
from m2kt.student._explain import ExplainedAnswer as ExplainedAnswer
from m2kt.student._explain import ExplainedToken as ExplainedToken
from m2kt.student._explain import explain_answer as explain_answer
from m2kt.student._forget import refusal_vectors as refusal_vectors
from m2kt.student._generate import complete as complete
from m2kt.student._generate import cut_after as cut_after
from m2kt.student._generate import encode_question as encode_question
from m2kt.student._phrasings import other_sentence as other_sentence
from m2kt.student._preflight import Preflight as Preflight
from m2kt.student._preflight import check_fitness as check_fitness
from m2kt.student._prepare import TrainingInputs as TrainingInputs
from m2kt.student._prepare import prepare as prepare
from m2kt.student._tokenisation import Tokenisation as Tokenisation
from m2kt.student._tokenisation import phi_targets as phi_targets
from m2kt.student._tokenisation import tokenise as tokenise
from m2kt.student._tokenisation import unit_targets as unit_targets
from m2kt.student._train import Candidate as Candidate
from m2kt.student._train import TrainingLedger as TrainingLedger
from m2kt.student._train import train as train
from m2kt.student._tune import LabelledTokens as LabelledTokens
from m2kt.student._tune import answer_loss as answer_loss
from m2kt.student._tune import endless_batches as endless_batches
from m2kt.student._tune import fine_tune as fine_tune
from m2kt.student._tune import labelled_tokens as labelled_tokens
from m2kt.student._validate import FitnessCheck as FitnessCheck
from m2kt.student.cal import CALConfig as CALConfig
from m2kt.student.cal import CALModel as CALModel
from m2kt.student.cal import cal_model as cal_model
from m2kt.student.cal import register as register
