"""Probe specs: templates, slots and splits of prompts, and how an answer is read.

Imports nothing but :mod:`m2kt.errors`; loads no torch.
"""

from m2kt._end import END as END
from m2kt.probes._fields import Chat as Chat
from m2kt.probes._fields import Example as Example
from m2kt.probes._fields import ReasoningGym as ReasoningGym
from m2kt.probes._fields import Slot as Slot
from m2kt.probes._fields import WeightedTemplate as WeightedTemplate
from m2kt.probes._longer import longer_specs as longer_specs
from m2kt.probes._new import SCHEMA_FILE as SCHEMA_FILE
from m2kt.probes._new import new_spec as new_spec
from m2kt.probes._reading import FORMS as FORMS
from m2kt.probes._spec import SPLITS as SPLITS
from m2kt.probes._spec import ProbeSpec as ProbeSpec
from m2kt.probes._spec import Split as Split
from m2kt.probes._template import Prompt as Prompt
from m2kt.probes._template import Template as Template
from m2kt.probes._truth import ShapeScore as ShapeScore
from m2kt.probes._truth import Truth as Truth
from m2kt.probes._truth import load_truth as load_truth
from m2kt.probes._truth import read_labelled as read_labelled
from m2kt.probes._units import MASK as MASK
from m2kt.probes._units import Part as Part
from m2kt.probes._units import Segmenter as Segmenter
from m2kt.probes._units import Unit as Unit
from m2kt.probes._units import single_parts as single_parts
from m2kt.probes._usable import check_usable as check_usable
from m2kt.probes._usable import truth_file as truth_file
from m2kt.probes._wordings import MARKS as MARKS
from m2kt.probes._wordings import PROMPT as PROMPT
from m2kt.probes._wordings import SURROUNDINGS as SURROUNDINGS
from m2kt.probes._wordings import Phrasing as Phrasing
