"""How a teacher is computed: requests in, replies out; in this process, or in workers of a cluster.

    engine = LocalEngine(load_causal_lm("zoo:addition"))
    (reply,) = engine.ask([Predict(Rows((ids,)), ((3, 4),), "choice")])

A request is plain data with a digest, and its reply depends on nothing else, so that whoever asks gets the same reply
from any engine, and a stopped extraction goes on from the replies that were kept.
"""

from m2kt.teacher.engine._checkpoint import Checkpoint as Checkpoint
from m2kt.teacher.engine._engine import Engine as Engine
from m2kt.teacher.engine._engine import LocalEngine as LocalEngine
from m2kt.teacher.engine._engine import TeacherFacts as TeacherFacts
from m2kt.teacher.engine._engine import engine_of as engine_of
from m2kt.teacher.engine._host import Ids as Ids
from m2kt.teacher.engine._host import ModelHost as ModelHost
from m2kt.teacher.engine._host import Rows as Rows
from m2kt.teacher.engine._measures import FINAL_NORM as FINAL_NORM
from m2kt.teacher.engine._measures import Ablate as Ablate
from m2kt.teacher.engine._measures import Attribute as Attribute
from m2kt.teacher.engine._measures import Patterns as Patterns
from m2kt.teacher.engine._measures import States as States
from m2kt.teacher.engine._measures import Steer as Steer
from m2kt.teacher.engine._ray import RayEngine as RayEngine
from m2kt.teacher.engine._ray import TeacherSource as TeacherSource
from m2kt.teacher.engine._requests import Generate as Generate
from m2kt.teacher.engine._requests import HeadRows as HeadRows
from m2kt.teacher.engine._requests import Plain as Plain
from m2kt.teacher.engine._requests import Predict as Predict
from m2kt.teacher.engine._requests import Reply as Reply
from m2kt.teacher.engine._requests import Request as Request
from m2kt.teacher.engine._requests import SharePrefix as SharePrefix
from m2kt.teacher.engine._requests import completions as completions
from m2kt.teacher.engine._requests import digest_of as digest_of
