"""Numbers and words as tokenizers have them, on both sides: digits that merge, word marks, JSON, added tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from m2kt.auditor import ask
from m2kt.models import LoadedModel, encode_prompt, generate_greedy, load_causal_lm
from m2kt.packet import Packet, ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.pipeline import extract
from m2kt.probes import END, ProbeSpec
from m2kt.student import StudentSettings, train
from tests.formats.teachers import (
    BYTE_FORMATS,
    CONFIG,
    MARK_FORMATS,
    Format,
    Made,
    byte_tokenizer,
    cases,
    mark_tokenizer,
    spec_of,
)
from tests.tiny import tiny_model

# By name: the teacher, its format, the spec's answer, and the student.
CASES: dict[str, tuple[str, Format, str, str]] = {
    "numbers of one token into word marks": ("numbered", BYTE_FORMATS["boxed"], "boxed", "marks"),
    "JSON into single characters": ("numbered", BYTE_FORMATS["json"], "json [-1]", "zoo:pico-gpt2"),
    "word marks into merged digits": ("mark", MARK_FORMATS["lines"], "last line", "bytes"),
}


def student_of(name: str, folder: Path) -> LoadedModel:
    """A random core where no teacher of the zoo has the tokenizer: the reader needs no more of it than its head."""
    if name.startswith("zoo:"):
        return load_causal_lm(name)
    tokenizer: Any = mark_tokenizer() if name == "marks" else byte_tokenizer()
    model = tiny_model("llama" if name == "marks" else "gpt2", len(tokenizer), context=384, width=64)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<|padding|>"})  # without an embedding, as many models have it
    tokenizer.save_pretrained(folder)
    return load_causal_lm(folder)


@dataclass(frozen=True)
class Case:
    """A packet with its spec, and a student with the skill."""

    packet: Packet
    spec: ProbeSpec
    teacher: LoadedModel
    student: LoadedModel


@pytest.fixture(scope="module", params=cases(CASES, slow=["word marks into merged digits"]))
def case(request: Any, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Case:
    teacher, how, answer, student = CASES[request.param]
    spec = spec_of(how, None, answer=answer)
    packet = extract(str(made(teacher)), spec, config=CONFIG).packet
    loaded = student_of(student, tmp_path_factory.mktemp("student"))
    loaded.model = train(loaded, packet, StudentSettings(), updates=0).model.eval()
    return Case(packet, spec, load_causal_lm(made(teacher)), loaded)


def rollouts(packet: Packet, spec: ProbeSpec, n: int) -> dict[str, str]:
    """What the packet says to held-out prompts."""
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    traces = {p.text: execute(p, lookup) for p in spec.sample("evaluation", n, seed=3)}
    return {prompt: trace.completion for prompt, trace in traces.items() if trace.complete}


def test_the_packet_is_the_teachers_table(case: Case) -> None:
    """Vectors are read as what the teacher writes, although a symbol may be several tokens or one of two forms."""
    assert [(rule.arity, len(rule.rows)) for rule in case.packet.program.rules] == [(2, 128)]
    said = rollouts(case.packet, case.spec, 120)
    answers = ask(case.teacher, case.spec, list(said))
    equal = sum(a == b for a, b in zip(answers, said.values(), strict=True))
    assert len(said) == 120 and equal >= 117


def test_the_student_writes_it_to_the_letter(case: Case) -> None:
    said = rollouts(case.packet, case.spec, 60)
    assert ask(case.student, case.spec, list(said)) == list(said.values())
    read = [case.spec.read_answer(text) for text in said.values()]
    assert None not in read and len(set(read)) > 4


def test_a_batch_is_padded_where_the_pad_token_has_no_embedding(case: Case) -> None:
    loaded, said = case.student, rollouts(case.packet, case.spec, 8)
    assert loaded.pad_id < len(loaded.model.get_input_embeddings().weight)
    ids = [encode_prompt(loaded.tokenizer, prompt) for prompt in said]
    alone = [generate_greedy(loaded, [row], 120, END)[0].text for row in ids]
    assert alone == list(said.values())
