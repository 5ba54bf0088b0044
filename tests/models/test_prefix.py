"""A prefix that is computed once: answers, predictions and states are those of whole passes, on every family."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from m2kt.models import LoadedModel, encode_prompt, generate_greedy, load_causal_lm, shared_prefix
from m2kt.probes import Example, ProbeSpec
from m2kt.teacher._attention import measure_attention
from m2kt.teacher._edges import Edge, Use
from m2kt.teacher._states import Context, record_contexts
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import FINAL_NORM
from m2kt.teacher.program._cut import Sample
from tests.tiny import FAMILIES, char_tokenizer, save_tiny

WHOLE = {"gemma3", "mamba", "gru"}  # a window, or a state: no cache stands for a prefix there


def _loaded(family: str, folder: Path) -> LoadedModel:
    return load_causal_lm(save_tiny(folder / family, family, char_tokenizer()), dtype="fp32")


def _sequences(n_prefix: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    head = [rng.randrange(3, 30) for _ in range(n_prefix)]
    return [[*head, 3 + i % 20, *(rng.randrange(3, 30) for _ in range(rng.randrange(1, 9)))] for i in range(9)]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_without_it(family: str, tmp_path: Path) -> None:
    loaded, prompts = _loaded(family, tmp_path), _sequences(20, 0)
    prefix = shared_prefix(loaded, prompts)
    assert (prefix is None) == (family in WHOLE)
    whole = generate_greedy(loaded, prompts, 8, "\n", batch_size=4)
    assert generate_greedy(loaded, prompts, 8, "\n", batch_size=4, prefix=prefix) == whole
    if prefix is not None:
        assert prefix.ids == tuple(prompts[0][:20]) and prefix.cache.get_seq_length() == 20  # handed out, not used up
        others = [*prompts[:3], prompts[0][:20], [5, 6, 7]]  # nothing behind it, and another beginning
        assert generate_greedy(loaded, others, 8, "\n", prefix=prefix) == generate_greedy(loaded, others, 8, "\n")


def test_it_is_worth_it_and_right(tmp_path: Path) -> None:
    loaded = _loaded("llama", tmp_path)
    assert shared_prefix(loaded, _sequences(9, 0)) is None  # short
    assert shared_prefix(loaded, _sequences(20, 0)[:1]) is None  # shared by nobody
    assert shared_prefix(loaded, []) is None
    handle = loaded.model.get_input_embeddings().register_forward_hook(lambda m, a, out: out + out.mean(1, True))
    assert shared_prefix(loaded, _sequences(20, 0)) is None  # a model that reads the whole pass
    handle.remove()
    assert shared_prefix(loaded, _sequences(20, 0)) is not None


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_a_teacher_asks_behind_it(family: str, tmp_path: Path) -> None:
    """Predictions and states, of answers behind the prefix and of texts that do not begin with it, in one call."""
    spec = ProbeSpec(
        name="x",
        slots={"x": {"values": list("abc")}},
        templates=["of {x} {x}:", "of {x} {x} {x}:"],
        examples=[Example(question="a b:", answer=" b a c b > c."), Example(question="c a:", answer=" c c a > a.")],
        stop="\n",
        max_new_tokens=4,
    )
    loaded = _loaded(family, tmp_path)
    teacher = Teacher(loaded, spec)
    prompts = spec.sample("probing", 6, seed=0)
    teacher.complete(prompts, "")
    longest, frame = (
        encode_prompt(teacher.tokenizer, "of ", teacher.chat),
        encode_prompt(teacher.tokenizer, "", teacher.chat),
    )
    assert [list(prefix) for prefix in teacher.prefixes] == ([] if family in WHOLE else [longest, frame])
    whole = Teacher(loaded, spec)  # which has been asked nothing
    texts = [([u.text for u in p.units] + [" a", " b", ".", "\n"], len(p.units)) for p in prompts]
    traces = [teacher.tokenise(units, n) for units, n in texts]
    other = Teacher(loaded, spec.model_copy(update={"examples": []})).tokenise(*texts[0])
    framed = teacher.tokenise(["b", " of", " b", ".", "\n"], 2)
    traces[2:2] = [other, framed]
    for a, b in zip(teacher.choices(traces, ""), whole.choices(traces, ""), strict=True):
        assert np.array_equal(a, b)
    units = [teacher._segmenter.cut("".join(t)) for t, _ in texts]
    contexts = [
        Context(Sample(p, u, len(p.units)), len(p.units) + i % 3)
        for i, (p, u) in enumerate(zip(prompts, units, strict=True))
    ]
    for layers in ([1, 2], [1, FINAL_NORM]):
        a, b = (record_contexts(t, contexts, layers, "") for t in (teacher, whole))
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), atol=1e-5, rtol=1e-4)
    edges = [Edge(0, 0, i, -1, [Use(context, i, (i, 1))]) for i, context in enumerate(contexts[:3])]
    a, b = (measure_attention(t, edges, [0.0] * 3) for t in (teacher, whole))
    assert a.note is None and a.causal_M.tolist() == b.causal_M.tolist()
    torch.testing.assert_close(torch.tensor(a.weight_MLH), torch.tensor(b.weight_MLH), atol=1e-5, rtol=1e-4)
    assert a.weight_MLH.sum() > 0
