"""The student side: a packet becomes a Concept Alignment Layer around a frozen model.

Importing it registers CAL with peft.

    candidate = train(load_causal_lm("smollm2-135m"), packet, updates=60)      # rehearsal by following vectors
    candidate.model.save_pretrained("adapter")                                 # PeftModel.from_pretrained opens it
    swap(candidate.model, other_packet)                                        # same graph, other vectors: no training
"""

from m2kt.models import gru as _gru  # noqa: F401 (a base of this family opens by transformers' own doors)
from m2kt.student.cal import CALConfig as CALConfig
from m2kt.student.cal import CALModel as CALModel
from m2kt.student.consolidate import ConsolidateSettings as ConsolidateSettings
from m2kt.student.consolidate import consolidate as consolidate
from m2kt.student.ingest import Candidate as Candidate
from m2kt.student.ingest import train as train
from m2kt.student.plug import swap as swap
from m2kt.student.settings import StudentSettings as StudentSettings
