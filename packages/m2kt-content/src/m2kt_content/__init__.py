"""The content auditor: what the texts of a packet, or any texts, say, and whether somebody should look at them first.

Detectors are pluggable (:data:`DETECTORS`); by default patterns run, and a probe on sentence embeddings and words.
"""

from m2kt_content._audit import ContentAuditor as ContentAuditor
from m2kt_content._audit import make_auditor as make_auditor
from m2kt_content._audit import packet_texts as packet_texts
from m2kt_content._categories import CATEGORIES as CATEGORIES
from m2kt_content._config import ContentConfig as ContentConfig
from m2kt_content._detectors import DETECTORS as DETECTORS
from m2kt_content._detectors import Detector as Detector
from m2kt_content._probe import READER as READER
from m2kt_content._vectors import vector_penalty as vector_penalty
