"""The space after the final norm: its states, and how well its prototypes decode rule states."""

from __future__ import annotations

import numpy as np

from m2kt.models import blocks, load_causal_lm, zoo_dir
from m2kt.probes import ProbeSpec, Segmenter, Unit
from m2kt.teacher._space import Space, final_norm_space, head_space
from m2kt.teacher._states import Context, Floats, record_contexts
from m2kt.teacher._statistics import RidgeProbe
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import FINAL_NORM
from m2kt.teacher.program._cut import Sample


def nearest(vector_ND: Floats, prototypes: dict[int, Floats], centre_D: Floats) -> list[int]:
    """Nearest prototype by cosine, as the student's phi compares vectors."""
    prototype_SD = np.stack(list(prototypes.values())) - centre_D
    cosine_NS = (vector_ND - centre_D) @ (prototype_SD / np.linalg.norm(prototype_SD, axis=1, keepdims=True)).T
    return [list(prototypes)[i] for i in cosine_NS.argmax(axis=1)]


def test_head_directions_decode_rules_that_copies_do_not() -> None:
    rng = np.random.default_rng(0)
    row_SD = rng.normal(size=(6, 96)).astype(np.float32)
    row_SD -= row_SD.mean(axis=0)
    basis_DX = np.linalg.svd(row_SD, full_matrices=False)[2][:5].T
    # the rest of a state differs by symbol, and between copies and rule outputs
    copied, ruled = (
        (x_SD := 5 * rng.normal(size=(6, 96)).astype(np.float32)) - x_SD @ basis_DX @ basis_DX.T for _ in range(2)
    )
    symbol_P, symbol_N = (
        np.repeat(np.arange(6, dtype=np.int32), 16),
        np.repeat(np.arange(6, dtype=np.int32), 5),
    )
    prototype_samples_PD = (row_SD + copied)[symbol_P] + rng.normal(size=(96, 96)).astype(np.float32)
    rule_ND = (row_SD + ruled)[symbol_N] + rng.normal(size=(30, 96)).astype(np.float32)
    plain, head = Space(3), head_space(3, row_SD, range(6), {s: [s] for s in range(6)})
    assert head is not None
    share = {}
    for space in (plain, head):
        samples, rules = space.prototype_samples(prototype_samples_PD), space(rule_ND)
        read = nearest(rules, space.prototypes(samples, symbol_P), samples.mean(axis=0))
        share[space.name] = float(np.mean(np.array(read) == symbol_N))
    assert share["stream"] < 0.5 and share["head"] == 1.0
    wide_PD, wide_P = head.augmented(head.prototype_samples(prototype_samples_PD), symbol_P, rng)
    assert len(wide_PD) == len(wide_P) > len(prototype_samples_PD) and set(wide_P.tolist()) == set(range(6))
    before, after = (
        RidgeProbe(head.prototype_samples(prototype_samples_PD), symbol_P),
        RidgeProbe(wide_PD, wide_P),
    )
    assert np.mean(after.predict(head(rule_ND)) == symbol_N) >= np.mean(before.predict(head(rule_ND)) == symbol_N)
    assert plain.augmented(prototype_samples_PD, symbol_P, rng)[0] is prototype_samples_PD


def test_states_after_the_final_norm_give_the_heads_choice() -> None:
    spec = ProbeSpec.from_file(zoo_dir() / "secret" / "probes.yaml")
    loaded, cut = load_causal_lm("zoo:secret"), Segmenter(spec.values).cut
    teacher = Teacher(loaded, spec)
    samples = [
        Sample(a.prompt, [*a.prompt.units, *cut(a.completion), Unit(spec.stop)], len(a.prompt.units))
        for a in teacher.answer(spec.sample("probing", 30, seed=0))[0]
    ]
    contexts = [
        Context(sample, unit)
        for sample in samples
        for unit in range(sample.n_prompt, len(sample.units))
        if sample.units[unit].symbol is not None
    ]
    state_ND = record_contexts(teacher, contexts, [FINAL_NORM], "reading")[:, 0]
    weight_VD = loaded.model.get_output_embeddings().weight.detach().numpy()
    traces = [teacher.tokenise([u.text for u in r.sample.units], r.sample.n_prompt) for r in contexts]
    output_tokens = [f.ids[f.content[r.unit][0]] for f, r in zip(traces, contexts, strict=True)]
    assert (state_ND @ weight_VD.T).argmax(axis=1).tolist() == output_tokens
    symbols = {s: teacher.tokenizer.encode(s, add_special_tokens=False) for s in spec.values}
    space = final_norm_space(teacher, len(blocks(loaded.model)), dict(enumerate(symbols.values())))
    assert space is not None and space.name == "head" and space.basis_DX is not None
    assert space.basis_DX.shape == (128, len(symbols) - 1), "words differ in one direction less than there are words"
