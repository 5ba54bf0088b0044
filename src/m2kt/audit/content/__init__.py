"""The content auditor: what the texts of a packet, or any texts, say, and whether somebody should look at them first.

Detectors are pluggable (:data:`DETECTORS`); by default patterns run, and a probe on sentence embeddings and words.
"""

from m2kt.audit.content._audit import ContentAuditor as ContentAuditor
from m2kt.audit.content._audit import ContentReport as ContentReport
from m2kt.audit.content._audit import Finding as Finding
from m2kt.audit.content._audit import Judgement as Judgement
from m2kt.audit.content._audit import packet_texts as packet_texts
from m2kt.audit.content._categories import CATEGORIES as CATEGORIES
from m2kt.audit.content._config import ContentConfig as ContentConfig
from m2kt.audit.content._detectors import DETECTORS as DETECTORS
from m2kt.audit.content._detectors import Detector as Detector
from m2kt.audit.content._probe import READER as READER
from m2kt.audit.content._vectors import vector_penalty as vector_penalty
