"""The Concept Alignment Layer as a PEFT method. Importing it calls :func:`register`."""

from m2kt.student.cal._base import ReaderBase as ReaderBase
from m2kt.student.cal._compat import CAL_TYPE as CAL_TYPE
from m2kt.student.cal._config import CALConfig as CALConfig
from m2kt.student.cal._config import RuleStructure as RuleStructure
from m2kt.student.cal._context import ReaderOutputs as ReaderOutputs
from m2kt.student.cal._context import Run as Run
from m2kt.student.cal._context import Supervision as Supervision
from m2kt.student.cal._executed import ExecutedReader as ExecutedReader
from m2kt.student.cal._executed import skill_of as skill_of
from m2kt.student.cal._flat import FlatReader as FlatReader
from m2kt.student.cal._follow import Answer as Answer
from m2kt.student.cal._follow import Following as Following
from m2kt.student.cal._follower import Follower as Follower
from m2kt.student.cal._follower import FollowFeature as FollowFeature
from m2kt.student.cal._gap import Gaps as Gaps
from m2kt.student.cal._lexicon import Lexicon as Lexicon
from m2kt.student.cal._lexicon import as_bytes as as_bytes
from m2kt.student.cal._lexicon import as_text as as_text
from m2kt.student.cal._matcher import TokenFeature as TokenFeature
from m2kt.student.cal._matcher import UnitMatcher as UnitMatcher
from m2kt.student.cal._model import CALModel as CALModel
from m2kt.student.cal._model import cal_model as cal_model
from m2kt.student.cal._model import register as register
from m2kt.student.cal._phrase import PhrasingData as PhrasingData
from m2kt.student.cal._phrase import ReadingData as ReadingData
from m2kt.student.cal._projector import Projector as Projector
from m2kt.student.cal._projector import ridge as ridge
from m2kt.student.cal._question import QuestionGrammar as QuestionGrammar
from m2kt.student.cal._reader import StructuredReader as StructuredReader

register()
