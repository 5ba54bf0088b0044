"""Phrasings in one student: a linear map of its own states, in closed form, says whether a sentence puts the question.

The student reads the listed phrasings with many values, and other sentences with the same symbols. Of each the mean
state over the frame (the sentence without its symbols) is taken; ridge regression tells them apart. The inputs are the
probe spec, sentences that ship with the package, and the student alone.

Letters: N sentences, X width of the states read, C columns of the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import cycle, islice
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from m2kt.models import LoadedModel, encode_prompt, pad_batch, record
from m2kt.packet import Packet
from m2kt.probes import Phrasing, ProbeSpec
from m2kt.student._chat import own_chat
from m2kt.student.cal import CALConfig, ExecutedReader, Following, PhrasingData, ReadingData, skill_of

FILLS = 16  # values for each phrasing
ARTICLES = ("", "", "the ", "my ")  # before the symbols of other sentences, for phrasings may have them
PROMPTS = 400
RIDGE = 0.1
THRESHOLD = 0.2
READ_DEPTHS = (0.4, 0.67)  # of the student's blocks, where what a sentence means is read
_ROWS = 16


@dataclass(frozen=True)
class PhraseMap:
    """What an executed reader needs to read phrasings."""

    mean_X: Tensor
    scale_X: Tensor
    map_CX: Tensor
    n_tokens: int
    """Tokens of all forward passes for it."""


def phrasing_data(packet: Packet) -> PhrasingData | None:
    """What the listed phrasings ask, for the adapter's configuration; None without any."""
    readings: list[ReadingData] = []
    columns = _columns(packet.spec)
    for phrasing in packet.spec.phrased():
        sides = any(len(group) > 1 for shape in phrasing.templates for group in shape.groups)
        long = sides or packet.program.granularity != "values"
        for texts in dict.fromkeys(shape.texts for shape in phrasing.templates):
            column = columns[_kind(phrasing)]
            reading = ReadingData(texts=list(texts), order=list(phrasing.order), long=long, column=column)
            readings += [reading] if reading not in readings else []
    return PhrasingData(readings=readings, threshold=THRESHOLD) if readings else None


def _kind(phrasing: Phrasing) -> tuple[int, ...]:
    """Phrasings of one kind share a column: all that keep the prompt's order, else those of one order."""
    return () if phrasing.order == tuple(sorted(phrasing.order)) else phrasing.order


def _columns(spec: ProbeSpec) -> dict[tuple[int, ...], int]:
    return {kind: i for i, kind in enumerate(dict.fromkeys(map(_kind, spec.phrased())))}


@torch.no_grad()
def phrase_map(loaded: LoadedModel, config: CALConfig, spec: ProbeSpec) -> PhraseMap:
    """Fit the map to the frozen student.

    Args:
        loaded: the student, without an adapter.
        config: the adapter's configuration, with its phrasings.
    """
    assert config.phrasings is not None
    put, columns = list(_phrased(spec)), _columns(spec)
    listed = {text for text, _ in put}
    other = [text for text in _other_sentences(spec) if text not in listed]
    frame_NX, kept, n_tokens = _frames(loaded, config, [*(text for text, _ in put), *other])
    label_N = torch.tensor([columns[kind] for _, kind in put] + [-1] * len(other))[kept]
    mean_X, scale_X = frame_NX[label_N < 0].mean(0), frame_NX[label_N < 0].std(0)
    scale_X = scale_X.clamp(min=1e-3 * float(scale_X.median()) + 1e-6)
    z_NX = nn.functional.pad(((frame_NX - mean_X) / scale_X).clamp(-5.0, 5.0), (0, 1), value=1.0).double()
    rows = []
    for column in range(len(columns)):
        is_it_N = label_N == column
        weight_N = torch.where(is_it_N, 0.5 / is_it_N.sum(), 0.5 / (~is_it_N).sum()).double()
        gram_XX = (z_NX * weight_N[:, None]).T @ z_NX
        gram_XX += RIDGE * gram_XX.diagonal().mean() * torch.eye(len(gram_XX), dtype=torch.float64)
        rows.append(torch.linalg.solve(gram_XX, z_NX.T @ (weight_N * torch.where(is_it_N, 1.0, -1.0))).float())
    return PhraseMap(mean_X, scale_X, torch.stack(rows), n_tokens)


def load_phrase_map(reader: ExecutedReader, fitted: PhraseMap) -> None:
    """Load a fitted map into a reader."""
    reader.phrase_mean_X.copy_(fitted.mean_X)
    reader.phrase_scale_X.copy_(fitted.scale_X)
    reader.phrase_map_CX.copy_(fitted.map_CX)
    reader.matcher.clear()


def _phrased(spec: ProbeSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Rehearsal prompts in the listed phrasings."""
    prompts = spec.sample("rehearsal", PROMPTS, seed=0)
    for phrasing in spec.phrased():
        texts = [text for prompt in prompts if (text := spec.put(prompt, phrasing)) is not None]
        yield from ((text, _kind(phrasing)) for text in islice(cycle(texts), FILLS))


def _other_sentences(spec: ProbeSpec) -> Iterator[str]:
    """Sentences about the same symbols that are no questions of the skill."""
    lines = _other_lines()
    values = dict.fromkeys(tuple(v) for v in _values(spec))
    for n in {len(groups) for groups in values}:
        drawn = cycle([groups for groups in values if len(groups) == n])
        for line in lines:
            for article in ARTICLES:
                yield other_sentence(line.replace("{}", article + "{}"), next(drawn))


def _other_lines() -> list[str]:
    """Sentences with two holes that ship with the package."""
    return files("m2kt.student").joinpath("other_questions.txt").read_text(encoding="utf-8").splitlines()


def _values(spec: ProbeSpec) -> Iterator[list[str]]:
    """What stands in the groups of rehearsal prompts that have phrasings."""
    phrasings = spec.phrased()
    for prompt in spec.sample("rehearsal", PROMPTS, seed=1):
        yield from (values for phrasing in phrasings if (values := spec.groups(prompt, phrasing)) is not None)


def other_sentence(line: str, groups: Sequence[str]) -> str:
    """A sentence with two holes about any number of groups."""
    before, between, after = line.split("{}")
    if len(groups) == 1:
        return f"{before}{groups[0]}{after}"
    return f"{before}{', '.join(groups[:-1])}{between}{groups[-1]}{after}"


def _frames(loaded: LoadedModel, config: CALConfig, texts: Sequence[str]) -> tuple[Tensor, list[int], int]:
    """Mean states of the frames of all sentences that may be questions, (N, X), which those are, and tokens passed."""
    tokenizer, skill = loaded.tokenizer, skill_of(config)
    chat, lines = own_chat(tokenizer), _other_lines()
    asked: list[tuple[int, list[int], list[int]]] = []
    for i, text in enumerate(texts):
        # a sentence also stands behind a line, and in a chat's turn: what is read of it must not depend on that
        before = lines[i * 7 % len(lines)].replace("{}", "") + "\n" if i % 2 else ""
        ids = encode_prompt(tokenizer, before + text, chat if i % 4 == 2 else None)
        state, frame = Following.start(skill), list[int]()
        for t, token in enumerate(ids):
            state = state.advance(token, False)
            if state.asked is not None:
                frame = [t - back for back in state.asked.frame]
        if frame:
            asked.append((i, ids, frame))
    asked.sort(key=lambda one: len(one[1]))
    layers = [layer + 1 for layer in config.read_layers]  # layer i + 1 of a recording is the output of block i
    mean_NX, n_tokens = list[Tensor](), 0
    model = cast(PreTrainedModel, loaded.model)
    for first in range(0, len(asked), _ROWS):
        rows = asked[first : first + _ROWS]
        ids_BT, mask_BT = pad_batch([ids for _, ids, _ in rows], loaded.pad_id, side="right", device=loaded.device)
        with record(model, layers) as states:
            model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        state_BTX = torch.cat([states[layer].float() for layer in layers], -1)
        mean_NX += [state_BTX[b, frame].mean(0).cpu() for b, (_, _, frame) in enumerate(rows)]
        n_tokens += int(mask_BT.sum())
    order = sorted(range(len(asked)), key=lambda n: asked[n][0])
    return torch.stack([mean_NX[n] for n in order]), [asked[n][0] for n in order], n_tokens
