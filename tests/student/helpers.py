"""A tiny random student, and a small packet with a random rule table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from m2kt.packet import Concepts, Move, Program, Rule, Start, State, WriteCopy, WriteLiteral, WriteRule
from m2kt.probes import ProbeSpec
from m2kt.student.cal import ExecutedReader, cal_model
from tests.tiny import char_tokenizer, tiny_model

LETTERS = ["a", "b", "c", "d"]
WORDS = ["ant", "bee", "cat", "cow"]


def executed_reader(model: torch.nn.Module) -> ExecutedReader:
    """The reader of an adapted model, which runs a program."""
    reader = cal_model(model).reader()
    assert isinstance(reader, ExecutedReader)
    return reader


@dataclass
class SmallPacket:
    """The parts of a packet that training reads."""

    program: Program
    spec: ProbeSpec
    concepts: Concepts
    outputs: list[int]
    confidence_K: Any = None


@dataclass
class Loaded:
    """A student as the loader returns it, without files."""

    model: Any
    tokenizer: Any
    name: str = "tiny"
    path: str = "tiny"
    pad_id: int = 0
    reference: tuple[str, str | None] = ("tiny", None)
    device: Any = "cpu"

    @property
    def peft_model(self) -> Any:
        return self.model


def loaded(family: str, **options: Any) -> Loaded:
    tokenizer = char_tokenizer()
    return Loaded(tiny_model(family, len(tokenizer), **options), tokenizer)


def small_packet(
    symbols: list[str] = LETTERS, *, verbalised: float = 0.0, seed: int = 0, width: int = 24
) -> SmallPacket:
    """One rule step of a random table: ``a b:`` -> `` a b c.`` and a newline."""
    rng = np.random.default_rng(seed)
    n = len(symbols)
    rows = [(i, j) for i in range(n) for j in range(n)]
    outputs = rng.integers(0, n, len(rows)).tolist()
    verbalised_outputs = [o if rng.random() < verbalised else None for o in outputs]
    at = [Move(of=Start(), by=i) for i in range(5)]
    steps: list[tuple[Any, str]] = [
        (WriteCopy(source=at[0], lead=" "), " □0"),
        (WriteCopy(source=at[1], lead=" "), " □0"),
        (WriteRule(rule=0, sources=[at[3], at[4]], lead=" "), " □0"),
        (WriteLiteral(text="."), "."),
        (WriteLiteral(text="\n"), "\n"),
    ]
    written = ["", *(mask for _, mask in steps)]
    states = [State(after=tuple(written[: i + 1]), decision=step) for i, (step, _) in enumerate(steps)]
    rule = Rule(name="op", arity=2, rows=rows, outputs=verbalised_outputs, range=list(range(n)), family=0, offset=0)
    text = "{x} {x}:"
    program = Program(symbols=symbols, classes=[0] * n, rules=[rule], states=states, stop="\n")
    values = ", ".join(f'"{s}"' for s in symbols)
    spec = ProbeSpec.from_yaml(
        f'name: small\nslots: {{x: {{values: [{values}]}}}}\ntemplates: ["{text}"]\nstop: "\\n"\nanswer: " (.)\\\\."\n'
    )
    mean = rng.normal(size=(n, width)).astype(np.float32)
    symbol_of = np.repeat(np.arange(n), 12)
    samples = (mean[symbol_of] + 0.3 * rng.normal(size=(len(symbol_of), width))).astype(np.float32)
    concepts = Concepts(
        vectors_KD=(mean[outputs] + 0.1 * rng.normal(size=(len(rows), width))).astype(np.float32),
        spread_basis_KrD=np.zeros((len(rows), 1, width), np.float32),
        spread_scale_Kr=np.zeros((len(rows), 1), np.float32),
        support_K=np.ones(len(rows), np.int32),
        prototypes_SD=np.stack([samples[symbol_of == s].mean(0) for s in range(n)]),
        prototype_count_S=np.full(n, 12),
        prototype_samples_PD=samples,
        prototype_symbol_P=symbol_of,
    )
    return SmallPacket(program, spec, concepts, outputs)


def perturbed(model: Any, seed: int = 1) -> Any:
    """The model, after random noise was added to its trainable parameters: its adapter changes the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model
