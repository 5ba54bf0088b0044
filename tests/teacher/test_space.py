"""The space in front of a teacher's head: what stands there, and what it lets symbol states read."""

from __future__ import annotations

import numpy as np

from m2kt.models import blocks, load_causal_lm, zoo_dir
from m2kt.probes import ProbeSpec
from m2kt.teacher._ask import Teacher
from m2kt.teacher._pool import Pool
from m2kt.teacher._probe import RidgeProbe
from m2kt.teacher._space import Space, head_space, in_front_of_head
from m2kt.teacher._states import IN_FRONT_OF_HEAD, Floats, Request, gather


def nearest(vector_ND: Floats, anchors: dict[int, Floats], middle_D: Floats) -> list[int]:
    """By cosine, as a student's phi compares them."""
    a_SD = np.stack(list(anchors.values())) - middle_D
    cosine_NS = (vector_ND - middle_D) @ (a_SD / np.linalg.norm(a_SD, axis=1, keepdims=True)).T
    return [list(anchors)[i] for i in cosine_NS.argmax(axis=1)]


def test_the_heads_own_directions_read_rules_that_copies_do_not() -> None:
    rng = np.random.default_rng(0)
    row_SD = rng.normal(size=(6, 96)).astype(np.float32)
    row_SD -= row_SD.mean(axis=0)
    basis_DR = np.linalg.svd(row_SD, full_matrices=False)[2][:5].T
    # what else a state holds differs by symbol, and differently where symbols are copied and where a rule writes them
    copied, ruled = (
        (x_SD := 5 * rng.normal(size=(6, 96)).astype(np.float32)) - x_SD @ basis_DR @ basis_DR.T
        for _ in range(2)
    )
    symbol_P, symbol_N = (
        np.repeat(np.arange(6, dtype=np.int32), 16),
        np.repeat(np.arange(6, dtype=np.int32), 5),
    )
    pool_PD = (row_SD + copied)[symbol_P] + rng.normal(size=(96, 96)).astype(np.float32)
    rule_ND = (row_SD + ruled)[symbol_N] + rng.normal(size=(30, 96)).astype(np.float32)
    plain, head = Space(3), head_space(3, row_SD, range(6), {s: [s] for s in range(6)})
    assert head is not None
    share = {}
    for space in (plain, head):
        pool, rules = space.symbols(pool_PD), space(rule_ND)
        read = nearest(rules, space.anchors(pool, symbol_P), pool.mean(axis=0))
        share[space.name] = float(np.mean(np.array(read) == symbol_N))
    assert share["stream"] < 0.5 and share["head"] == 1.0
    wide_PD, wide_P = head.widened(head.symbols(pool_PD), symbol_P, rng)
    assert len(wide_PD) == len(wide_P) > len(pool_PD) and set(wide_P.tolist()) == set(range(6))
    before, after = RidgeProbe(head.symbols(pool_PD), symbol_P), RidgeProbe(wide_PD, wide_P)
    assert np.mean(after.predict(head(rule_ND)) == symbol_N) >= np.mean(
        before.predict(head(rule_ND)) == symbol_N
    )
    assert plain.widened(pool_PD, symbol_P, rng)[0] is pool_PD


def test_what_stands_in_front_of_the_head_is_what_the_head_reads() -> None:
    spec = ProbeSpec.from_file(zoo_dir() / "secret" / "probes.yaml")
    teacher, pool = Teacher(load_causal_lm("zoo:secret"), spec), Pool(spec)
    pool.add(teacher.answer(spec.sample("probing", 30, seed=0))[0])
    pool.arrange()
    requests = [
        Request(sample, unit)
        for shape in pool.shapes
        for sample in shape.samples
        for unit in range(sample.n_prompt, len(sample.units))
        if sample.units[unit].symbol is not None
    ]
    state_ND = gather(teacher, requests, [IN_FRONT_OF_HEAD], "reading")[:, 0]
    weight_VD = teacher.model.get_output_embeddings().weight.detach().numpy()
    forced = [teacher.force([u.text for u in r.sample.units], r.sample.n_prompt) for r in requests]
    written = [f.ids[f.content[r.unit][0]] for f, r in zip(forced, requests, strict=True)]
    assert (state_ND @ weight_VD.T).argmax(axis=1).tolist() == written
    symbols = {s: teacher.tokenizer.encode(s, add_special_tokens=False) for s in spec.values}
    space = in_front_of_head(teacher, len(blocks(teacher.model)), dict(enumerate(symbols.values())))
    assert space is not None and space.name == "head" and space.basis_DR is not None
    assert space.basis_DR.shape == (128, len(symbols) - 1), "words are told apart by their differences"
