"""Many packets on one student at once: what each answers alone and with all others on, bytes, milliseconds a token.

Sixteen packets are made of that of ``zoo:secret``: four alphabets, four marks behind questions, and a random
table each. So symbols are shared by four skills, and only the mark says which of them is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

import m2kt
from benchmarks.merging.conflicts import Say, _honest
from m2kt.models import LoadedModel, load_causal_lm
from m2kt.packet import Packet, ProgramExecutor, fixed_lookup, read_outputs
from m2kt.probes import ProbeSpec, Prompt
from m2kt.student.cal import cal_model

ALPHABETS = ("abcdefghij", "klmnopqrst", "0123456789", "ABCDEFGHIJ")
MARKS = (":", "?", "!", "=")
SIZES = (2, 4, 8, 16)
PROMPTS = 30
HEAD = (
    "| packets | alone, mean | all on, mean | largest loss | bytes of the adapters | ms a token | removal "
    "bit-exact |\n| --- |" + " --- |" * 6
)
OTHER_TEXT = "The ship left the harbour before dawn, and nobody on the quay knew where it was going."


@dataclass(frozen=True)
class Composed:
    """The first n packets on one student."""

    student: str
    packets: int
    alone: float
    together: float
    largest_loss: float
    adapter_bytes: int
    ms_a_token: float
    removal_exact: bool

    def line(self) -> str:
        """A row of a Markdown table."""
        return (
            f"| {self.packets} | {self.alone:.1%} | {self.together:.1%} | {self.largest_loss:+.1%} "
            f"| {self.adapter_bytes:,} | {self.ms_a_token:.1f} | {'yes' if self.removal_exact else 'no'} |"
        )


def variants(of: Packet) -> Iterator[Packet]:
    """The packets: another alphabet, another mark, another table."""
    outputs = read_outputs(of)
    for i, (mark, alphabet) in enumerate(product(MARKS, ALPHABETS)):
        rng = np.random.default_rng(i)
        chosen = []
        for rule in of.program.rules:
            writers = {s: [k for k in rule.concepts if outputs[k] == s] for s in rule.range}
            chosen += [int(rng.choice(writers[int(rng.choice(rule.range))])) for _ in rule.rows]
        program = of.program.model_copy(update={"symbols": list(alphabet)})
        spec = of.spec.model_copy(
            update={
                "name": f"table-{i}",
                "slots": {"x": of.spec.slots["x"].model_copy(update={"values": list(alphabet)})},
                "templates": [str(template).replace(":", mark) for template in of.spec.templates],
                "held_out": [],
            }
        )
        spec = ProbeSpec.from_yaml(spec.to_yaml(), source="variant")
        concepts = of.concepts.replace(vectors_KD=np.ascontiguousarray(of.concepts.vectors_KD[chosen]))
        manifest = of.manifest.model_copy(update={"name": spec.name})
        yield of.replace(program=program, spec=spec, concepts=concepts, manifest=manifest, attention={})


def composition(
    work: Path, say: Say, student: str, n_prompts: int = PROMPTS, sizes: Sequence[int] = SIZES
) -> list[dict[str, object]]:
    """Ingest each packet once, then measure with 2, 4, 8 and 16 of them active."""
    folder = work / "composed" / student.replace(":", "-").replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    packets, adapters = [], []
    config = m2kt.IngestConfig(evaluation_prompts=20, certificate_traces=0, trigger_strings=0)
    for i, variant in enumerate(variants(_honest(work))):
        packet = Packet.load(variant.save(folder / f"{i}.m2kp"))
        if not (folder / f"adapter-{i}" / "adapter_config.json").is_file():
            ingestion = m2kt.ingest(student, packet, folder / f"adapter-{i}", config=config)
            if not ingestion.accepted:
                say(f"packet {i} was rejected: {ingestion.verdict.reasons}")
        packets.append(packet)
        adapters.append(folder / f"adapter-{i}")
    loaded = load_causal_lm(student)
    model = PeftModel.from_pretrained(loaded.model, str(adapters[0]), adapter_name="skill0")
    for i, adapter in enumerate(adapters[1:], 1):
        model.load_adapter(str(adapter), adapter_name=f"skill{i}")
    model.eval()
    asked = [packet.spec.sample("evaluation", n_prompts, seed=1) for packet in packets]
    alone = []
    for i, packet in enumerate(packets):
        cal_model(model).set_adapter([f"skill{i}"])
        alone.append(_accuracy(loaded, model, packet, asked[i]))
    say(f"student {student}\n{HEAD}")
    results = []
    for n in sizes:
        names = [f"skill{i}" for i in range(n)]
        cal_model(model).set_adapter(names)
        together = [_accuracy(loaded, model, packets[i], asked[i]) for i in range(n)]
        exact = _removal_is_exact(loaded, model, names, asked[0][0].text)
        result = Composed(
            student=student,
            packets=n,
            alone=float(np.mean(alone[:n])),
            together=float(np.mean(together)),
            largest_loss=max(a - t for a, t in zip(alone, together, strict=False)),
            adapter_bytes=sum(file.stat().st_size for i in range(n) for file in adapters[i].glob("adapter_*")),
            ms_a_token=_speed(loaded, model, names),
            removal_exact=exact,
        )
        say(result.line())
        results.append(asdict(result))
    return results


def _accuracy(loaded: LoadedModel, model: PeftModel, packet: Packet, prompts: list[Prompt]) -> float:
    """Share of prompts whose whole answer is that of the packet's rollout."""
    outputs = [o if o is not None else -1 for o in read_outputs(packet)]
    execute, lookup = ProgramExecutor(packet.program), fixed_lookup(outputs, packet.program)
    right = 0
    for prompt in prompts:
        expected = execute(prompt, lookup).completion
        right += _answer(loaded, model, prompt.text).startswith(expected)
    return right / len(prompts)


def _answer(loaded: LoadedModel, model: PeftModel, text: str) -> str:
    ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=120,
        do_sample=False,
        pad_token_id=loaded.pad_id,
        stop_strings=["\n"],
        tokenizer=loaded.tokenizer,
    )
    return str(loaded.tokenizer.decode(out[0, ids.shape[1] :]))


@torch.no_grad()
def _logits(loaded: LoadedModel, model: PeftModel, text: str) -> Tensor:
    return cast(Tensor, model(input_ids=loaded.tokenizer(text, return_tensors="pt")["input_ids"]).logits)


def _removal_is_exact(loaded: LoadedModel, model: PeftModel, names: list[str], prompt: str) -> bool:
    """Whether the last one, switched on and off again, leaves every bit of what the others and the base say."""
    texts = (prompt, f"{OTHER_TEXT} {prompt}", OTHER_TEXT)
    cal_model(model).set_adapter(names[:-1])
    before = [_logits(loaded, model, text) for text in texts]
    cal_model(model).set_adapter(names)
    for text in texts:
        _logits(loaded, model, text)
    cal_model(model).set_adapter(names[:-1])
    after = [_logits(loaded, model, text) for text in texts]
    cal_model(model).set_adapter(names)
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _speed(loaded: LoadedModel, model: PeftModel, names: list[str]) -> float:
    """Milliseconds a generated token behind other text; the fastest of three."""
    cal_model(model).set_adapter(names)
    ids = loaded.tokenizer(OTHER_TEXT, return_tensors="pt")["input_ids"]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=32,
            min_new_tokens=32,
            do_sample=False,
            pad_token_id=loaded.pad_id,
        )
        seconds.append((time.perf_counter() - began) / int(out.shape[1] - ids.shape[1]))
    return 1000 * min(seconds)
