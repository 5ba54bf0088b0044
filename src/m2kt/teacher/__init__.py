"""The teacher's room: probe, interrogate, explain, complete, merge, embed, attend, measure (Algorithm 1).

    extraction = extract(load_causal_lm("zoo:addition"), spec, ExtractionConfig())

Imports probes, packet and models; never the student.
"""

from m2kt.teacher._extract import Extraction as Extraction
from m2kt.teacher._extract import ExtractionConfig as ExtractionConfig
from m2kt.teacher._extract import extract as extract
from m2kt.teacher._fidelity import Fidelity as Fidelity
from m2kt.teacher._fidelity import ShapeFidelity as ShapeFidelity
from m2kt.teacher.sources import SOURCES as SOURCES
