"""The student side: a packet becomes a Concept Alignment Layer around a frozen model.

Importing it calls :func:`register`: peft then knows the adapter type.

    candidate = train(load_causal_lm("smollm2-135m"), packet, updates=60)      # rehearsal by following vectors
    candidate.model.save_pretrained("adapter")                                 # PeftModel.from_pretrained opens it
    replace_bank(candidate.model, other_packet)                                # same graph: no training
"""

from m2kt.settings import StudentSettings as StudentSettings
from m2kt.student._bank import replace_bank as replace_bank
from m2kt.student._consolidate import ConsolidateSettings as ConsolidateSettings
from m2kt.student._consolidate import consolidate as consolidate
from m2kt.student._train import Candidate as Candidate
from m2kt.student._train import train as train
from m2kt.student.cal import CALConfig as CALConfig
from m2kt.student.cal import CALModel as CALModel
from m2kt.student.cal import register as register
