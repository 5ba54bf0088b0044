"""From a packet and a loaded student to a CAL: structure, bank, closed-form start."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model

from m2kt.errors import CompatibilityError, PacketError
from m2kt.models import blocks, decoder, special_prefix
from m2kt.packet import Graph
from m2kt.settings import StudentSettings
from m2kt.student._batching import IGNORE, collate
from m2kt.student._calibrate import StudentTargets, student_targets
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._tokenisation import Tokenisation, unit_targets
from m2kt.student.cal import CALConfig, CALModel, ReaderBase
from m2kt.student.cal._context import Fact, UnitMatcher

CALIBRATION_TRACES = 16
CALIBRATION_ROUNDS = 12
GAINS = (4.0, 8.0)
WORST = 0.1  # weight of the worst token beside the mean: one literal that is drowned out spoils every trace
SHARES = (0.0, 0.15, 0.3, 0.5, 1.0)


def graph_digest(graph: Graph) -> str:
    """Digest of what an adapter's structure depends on: symbols, argument tables and tries, never outputs."""
    data = graph.model_dump(mode="json")
    for rule in data["rules"]:
        for key in ("outputs", "range", "uses"):
            rule.pop(key, None)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def resolve_flagged(graph: Graph, flagged: list[str]) -> list[int]:
    """Concept indices of flagged entries: a symbol stands for all rows that read it, 'rule(a, b)' for one row."""
    found: set[int] = set()
    for entry in flagged:
        hits: set[int] = set()
        for rule in graph.rules:
            for i, row in enumerate(rule.rows):
                names = [graph.symbols[s] for s in row]
                if entry in names or entry.replace(" ", "") == f"{rule.name}({','.join(names)})".replace(
                    " ", ""
                ):
                    hits.add(rule.offset + i)
        if not hits and entry not in graph.symbols:
            raise CompatibilityError(
                f"flagged concept {entry!r} is not in the packet: expected a symbol or a row such as "
                f"'{graph.rules[0].name if graph.rules else 'rule'}(a, b)'"
            )
        found |= hits
    return sorted(found)


def depths(settings: StudentSettings, depth: int) -> tuple[list[int], int]:
    """Blocks that are read and the one behind which is written, of a student with so many."""
    write = _block(settings.reader.write_depth, depth)
    return sorted({min(write, _block(f, depth)) for f in settings.reader.read_depths}), write


def _block(fraction: float, depth: int) -> int:
    return min(depth - 1, max(0, round(fraction * depth) - 1))


def configure(
    loaded: Any,
    packet: Any,
    settings: StudentSettings,
    spelling: Tokenisation,
    penalties: Mapping[int, float],
) -> CALConfig:
    """The CAL's structure for this student and packet; concepts with a penalty are filtered."""
    graph, concepts = packet.graph, packet.concepts
    depth = len(blocks(loaded.model))
    reads, write = depths(settings, depth)
    base, revision = loaded.reference
    writes_literals = settings.reader.write_literals and settings.reader.kind == "structured"
    config = CALConfig(
        task_type="CAUSAL_LM",
        read_layers=reads,
        write_layer=write,
        reader=settings.reader.kind,
        projector=settings.projector.kind,
        projector_width=settings.projector.width,
        anchor_coordinates=settings.projector.anchor_coordinates,
        gather_width=settings.reader.gather_width,
        gather_rope=settings.reader.gather_rope,
        look_heads=settings.reader.look_heads,
        look_width=settings.reader.look_width,
        state_width=settings.reader.state_width,
        unit_width=settings.reader.unit_width,
        selector_width=settings.reader.selector_width,
        n_places=graph.n_leaves if settings.reader.places else 0,
        silence=settings.reader.silence,
        steering_rank=settings.steering.rank,
        steering_alpha=settings.steering.alpha,
        steering_first_layer=min(depth - 1, round(settings.steering.first_depth * depth)),
        steering_last_layer=_block(settings.steering.last_depth, depth),
        steering_targets=settings.steering.targets,
        symbols=list(graph.symbols),
        symbol_tokens=spelling.symbol_tokens,
        literals=list(spelling.literals) if writes_literals else [],
        literal_tokens=[list(t) for t in spelling.literals.values()] if writes_literals else [],
        context_tokens=[list(t) for t in spelling.context],
        spaces=spelling.spaces,
        rules=[
            {
                "name": r.name,
                "arity": r.arity,
                "family": r.family,
                "offset": r.offset,
                "rows": [list(x) for x in r.rows],
            }
            for r in graph.rules
        ],
        phases=spelling.phases,
        teacher_width=int(concepts.prototype_samples_PD.shape[1]),
        flagged=sorted(penalties),
        penalties=[penalties[k] for k in sorted(penalties)],
        graph_digest=graph_digest(graph),
        space_digest=space_digest(concepts.prototype_samples_PD),
        base_model_name_or_path=base,
        revision=revision,
    )
    config.trails = trails(config, spelling)
    return config


def build(
    loaded: Any,
    packet: Any,
    settings: StudentSettings,
    rehearsal: Rehearsal,
    spelling: Tokenisation,
    penalties: Mapping[int, float],
) -> tuple[PeftModel, StudentTargets]:
    """Puts a CAL into the student, with the bank plugged in and phi started."""
    model, concepts = loaded.model, packet.concepts
    config = configure(loaded, packet, settings, spelling, penalties)
    own = student_targets(
        model,
        calibration_sequences(rehearsal, config, spelling),
        config.read_layers,
        config.write_layer,
        prefix=len(special_prefix(loaded.tokenizer)),
        wanted=spelling.answer_tokens,
    )
    adapted = cast(PeftModel, get_peft_model(model, config))
    tuner = cast(CALModel, adapted.base_model)
    if config.reader == "none":
        return adapted, own
    reader = tuner.reader()
    pool_PD = torch.from_numpy(np.ascontiguousarray(concepts.prototype_samples_PD)).float()
    reader.mean_X.copy_(own.mean_X)
    reader.scale_X.copy_(own.scale_X)
    reader.level.fill_(own.level)
    reader.projector.mean_D.copy_(pool_PD.mean(0))
    reader.projector.scale_D.copy_(pool_PD.std(0).clamp(min=1e-4 * float(pool_PD.std()) + 1e-8))
    reader.pool_PD = pool_PD.to(reader.mean_X.device)
    reader.noise = settings.rehearsal.noise
    load_bank(tuner, packet)
    if settings.projector.start == "ridge":
        choose_start(adapted, own, spelling, concepts.prototype_symbol_P, settings, rehearsal)
    return adapted, own


def trails(config: CALConfig, spelling: Tokenisation) -> list[list[int]]:
    """What the last units are, symbols masked, wherever answers go on in the traces that spelled the skill."""
    matcher = UnitMatcher(*config.alphabet)
    found: set[tuple[int, ...]] = set()
    for trace, first in zip(spelling.traces, spelling.first_answers, strict=True):
        looks_TG = matcher(torch.tensor([trace]))[0, first:, Fact.LOOKS :]
        found.update(map(tuple, looks_TG.tolist()))
    return [list(t) for t in sorted(found)]


def calibration_sequences(rehearsal: Rehearsal, config: CALConfig, spelling: Tokenisation) -> list[list[int]]:
    """Made-up traces in which, if few of them can show it, every token that answers may need is written."""
    sequences: list[list[int]] = []
    missing = set(spelling.answer_tokens)
    for round_ in range(CALIBRATION_ROUNDS):
        for drawn in rehearsal.draw(CALIBRATION_TRACES):
            item = rehearsal.encode(*drawn, config)
            written = {token for token in item.label_T if token != IGNORE}
            if round_ == 0 or written & missing:
                sequences.append(item.ids)
                missing -= written
        if not missing:
            break
    return sequences


@torch.no_grad()
def choose_start(
    adapted: PeftModel,
    own: StudentTargets,
    spelling: Tokenisation,
    pool_symbol_P: Any,
    settings: StudentSettings,
    rehearsal: Rehearsal,
    n: int = 8,
) -> None:
    """Starts phi in closed form, with the size and direction of targets under which the frozen student writes best.

    How strongly a stream must be pushed differs between students. A few made-up traces, with the reader told what to
    write, decide among a handful of choices; nothing is trained.
    """
    tuner = cast(CALModel, adapted.base_model)
    reader, asked = tuner.reader(), settings.projector
    gains = GAINS if asked.gain is None else (asked.gain,)
    shares = SHARES if asked.unembedding is None else (asked.unembedding,)
    choices = [(gain, share) for gain in gains for share in shares]
    scores: list[float] = []
    if len(choices) > 1:
        items = [rehearsal.encode(*drawn, reader.config) for drawn in rehearsal.draw(n)]
        batch = collate(items, reader.mean_X.device, teacher_forced_B=torch.ones(n, dtype=torch.bool))
        answered_BT = batch.label_BT != IGNORE
        for own.gain, own.unembedding in choices:
            start(reader, own, spelling, pool_symbol_P, asked.ridge)
            with tuner.teaching(batch.teaching):
                state = decoder(tuner.model)(
                    input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False
                )
            logits_NV = tuner.model.get_output_embeddings()(state.last_hidden_state[answered_BT]).float()
            loss_N = torch.nn.functional.cross_entropy(
                logits_NV, batch.label_BT[answered_BT], reduction="none"
            )
            scores.append(float(loss_N.mean() + WORST * loss_N.max()))
    own.gain, own.unembedding = choices[int(np.argmin(scores))] if scores else choices[0]
    if scores:
        own.n_tokens += len(choices) * int(batch.mask_BT.sum())
    own.start_loss = min(scores) if scores else float("nan")
    start(reader, own, spelling, pool_symbol_P, asked.ridge)


@torch.no_grad()
def start(
    reader: ReaderBase, own: StudentTargets, spelling: Tokenisation, pool_symbol_P: Any, penalty: float
) -> None:
    """The closed-form start of phi, of literal vectors, and of symbols that came without a state."""
    phases = reader.config.phases
    target_SJE, known_SJ = unit_targets(own.by_token, spelling.written, phases)
    symbol_P = torch.from_numpy(np.asarray(pool_symbol_P)).long()
    assert reader.pool_PD is not None
    reader.projector.start(reader.pool_PD, reader.anchor_SD, symbol_P, target_SJE, known_SJ, penalty)
    reader.spare_SJE.copy_(target_SJE)
    if reader.literal_UJE.shape[0]:
        literal_UJE, _ = unit_targets(
            own.by_token, [Counter([w]) for w in spelling.literals.values()], phases
        )
        reader.literal_UJE.copy_(literal_UJE)


def space_digest(pool_PD: NDArray[np.float32]) -> str:
    """Names a teacher's vector space by its width; equality of teachers is checked by the manifest."""
    return f"D={pool_PD.shape[1]}"


def load_bank(tuner: CALModel, packet: Any) -> None:
    """The packet's true vectors into every reader, after a look at them."""
    concepts = packet.concepts
    for name in ("vectors_KD", "prototypes_SD"):
        if not np.isfinite(getattr(concepts, name)).all():
            raise PacketError(f"{name} of the packet holds NaN or infinite values")
    tuner.set_bank(
        torch.from_numpy(np.ascontiguousarray(concepts.vectors_KD)).float(),
        torch.from_numpy(np.ascontiguousarray(concepts.prototypes_SD)).float(),
        torch.from_numpy(np.asarray(concepts.prototype_count_S) > 0),
    )
