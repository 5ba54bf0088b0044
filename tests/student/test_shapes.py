"""Shapes of public tensor functions, checked by jaxtyping and beartype while a small transfer runs.

The import hook must be installed before the modules are imported, hence fresh processes.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("jaxtyping")
pytest.importorskip("beartype")

HOOK = """
from jaxtyping import TypeCheckError, install_import_hook
MODULES = [f"m2kt.student.cal._{n}" for n in ("cache", "context", "heads", "projector", "reader", "flat", "model")]
MODULES += [f"m2kt.models._{n}" for n in ("forward", "record")]
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
    except TypeCheckError:
        continue
    raise SystemExit(f"{name} is not refused")
print("done")
"""


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("done"), done.stderr


@pytest.mark.parametrize(
    ("kind", "family"), [("structured", "llama"), ("structured", "gru"), ("flat", "gpt2")]
)
def test_a_transfer_has_the_annotated_shapes(kind: str, family: str) -> None:
    run_python(HOOK + TRANSFER.format(kind=kind, family=family))


def test_a_wrong_shape_is_refused() -> None:
    run_python(HOOK + WRONG)


def test_annotations_need_no_jaxtyping() -> None:
    run_python("import sys\nsys.modules['jaxtyping'] = None\nimport m2kt.student.cal\nprint('done')")
