"""Shapes of public tensor functions, checked by jaxtyping and beartype while a small transfer runs.

The import hook must be installed before the modules are imported, hence fresh processes.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

pytest.importorskip("jaxtyping")
pytest.importorskip("beartype")

HOOK = """
from jaxtyping import TypeCheckError, install_import_hook
CAL = ("cache", "context", "heads", "projector", "reader", "flat", "matcher", "model", "pass")
MODULES = [f"m2kt.student.cal._{n}" for n in CAL]
MODULES += [f"m2kt.models._{n}" for n in ("forward", "record")]
MODULES += [f"m2kt.student.losses._{n}" for n in ("base", "geo", "struct", "reason", "safety", "off_domain")]
MODULES += [f"m2kt.auditor._{n}" for n in ("certificate", "geometry", "steps", "retention")]
MODULES += ["m2kt.student._start", "m2kt.packet._decode"]
hook = install_import_hook(MODULES, "beartype.beartype")
import torch
import m2kt.student
from m2kt.student import StudentSettings, train
from tests.student.helpers import WORDS, loaded, small_packet
"""
TRANSFER = """
reader = {{"kind": "{kind}", "gather_width": 16, "selector_width": 32}}
settings = StudentSettings.model_validate({{"reader": reader, "steering": {{"rank": 2}}}})
student = loaded("{family}")
model = train(student, small_packet(WORDS), settings, updates=2).model.eval()
ids = torch.tensor([student.tokenizer.encode("ant bee: cow cat ant")])
model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
print("done")
"""
WRONG = """
from m2kt.errors import ModelError
from m2kt.models import add_to_states, next_token_logits
from m2kt.student.cal import Projector, UnitMatcher, ridge
projector = Projector("anchored", 6, 8, 1, 4, n_symbols=3)
ids_BT = torch.zeros(2, 5, dtype=torch.long)
calls = {
    "width": lambda: projector.image(torch.zeros(4, 6), torch.zeros(3, 7)),
    "rank": lambda: UnitMatcher([[[1]]])(ids_BT[0]),
    "dtype": lambda: UnitMatcher([[[1]]])(ids_BT.float()),
    "rows": lambda: ridge(torch.zeros(5, 2), torch.zeros(4, 3), 0.1),
    "mask": lambda: next_token_logits(student.model, ids_BT, torch.ones(2, 4), ids_BT),
}
projector.image(torch.zeros(4, 6), torch.zeros(3, 6))
student = loaded("llama")
for name, call in calls.items():
    try:
        call()
    except (TypeCheckError, ModelError):
        continue
    raise SystemExit(f"{name} is not refused")
print("done")
"""

# Each name has a call with right shapes, which must pass, and one with a wrong shape.
PAIRS = """
from types import SimpleNamespace
import numpy as np
from m2kt.auditor import _certificate, _geometry, _retention, _steps
from m2kt.models import LoadedModel
from m2kt.packet import _decode
from m2kt.student import Batch, _start
from m2kt.student._prepare import TrainingInputs
from m2kt.student.cal import CALConfig, ReaderOutputs
from m2kt.student.losses import OffDomainLoss, Outputs, ReasonLoss, penalised_weight

def made(kind, **fields):
    new = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(new, name, value)
    return new

def inputs(*shape):
    concepts = SimpleNamespace(prototype_symbol_P=np.zeros(shape, np.int32))
    return made(TrainingInputs, packet=SimpleNamespace(concepts=concepts))

def reason(n):
    return ReasonLoss()(Outputs(CALConfig(), logits_NV=torch.zeros(4, 9), labels_N=torch.zeros(n, dtype=torch.long)))

def weight(*shape):
    reader = made(ReaderOutputs, usage_BTK=torch.zeros(shape))
    return penalised_weight(reader, [0], [1.0])

def read_out(*shape):
    _steps.next_token_logits = lambda *_: torch.zeros(10, 9)
    ids_BT = torch.zeros(2, 5, dtype=torch.long)
    batch = made(Batch, token_BT=ids_BT, mask_BT=ids_BT, label_BT=torch.zeros(shape, dtype=torch.long))
    return _steps._read_out(torch.nn.Identity(), batch)

def log_p(t):
    model = lambda **_: SimpleNamespace(logits=torch.zeros(2, 5, 9))
    ids_BT, mask_BT = torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, t, dtype=torch.long)
    return _retention._log_probabilities(made(LoadedModel, model=model), ids_BT, mask_BT)

def prototypes(n):
    samples_PD = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return _decode.NearestPrototype(samples_PD, np.array([0, 0, 1, 1, 1][:n], np.int32), samples_PD[:2])

pairs = {
    "token loss": (lambda: reason(4), lambda: reason(3)),
    "scalar loss": (
        lambda: OffDomainLoss()(Outputs(CALConfig(), log_none=torch.zeros(()))),
        lambda: OffDomainLoss()(Outputs(CALConfig(), log_none=torch.zeros(2))),
    ),
    "concept weights": (lambda: weight(2, 5, 3), lambda: weight(5, 3)),
    "start": (lambda: _start.symbol_of_sample(inputs(3)), lambda: _start.symbol_of_sample(inputs(3, 1))),
    "prototypes": (lambda: prototypes(4), lambda: prototypes(5)),
    "margins": (lambda: _decode.margins(np.zeros((4, 3))), lambda: _decode.margins(np.zeros(4))),
    "certificate": tuple(
        lambda n=n: _certificate._token_errors(torch.zeros(4, 9), torch.zeros(n, dtype=torch.long)) for n in (4, 3)
    ),
    "geometry": tuple(lambda n=n: _geometry._project(np.ones((3, 4)), np.ones((3, n))) for n in (4, 5)),
    "steps": (lambda: read_out(2, 5), lambda: read_out(2, 5, 1)),
    "retention": (lambda: log_p(5), lambda: log_p(4)),
}
for name, (right, wrong) in pairs.items():
    right()
    try:
        wrong()
    except TypeCheckError:
        continue
    raise SystemExit(f"{name} is not refused")
print("done")
"""


def run_python(code: str) -> None:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip().endswith("done"), process.stderr


@pytest.mark.parametrize(("kind", "family"), [("structured", "llama"), ("structured", "gru"), ("flat", "gpt2")])
def test_a_transfer_has_the_annotated_shapes(kind: str, family: str) -> None:
    run_python(HOOK + TRANSFER.format(kind=kind, family=family))


def test_a_wrong_shape_is_refused() -> None:
    run_python(HOOK + WRONG)


def test_a_wrong_shape_is_refused_where_a_right_one_passes() -> None:
    run_python(HOOK + PAIRS)


def test_annotations_need_no_jaxtyping() -> None:
    run_python("import sys\nsys.modules['jaxtyping'] = None\nimport m2kt.student.cal\nprint('done')")
