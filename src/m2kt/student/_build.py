"""From training inputs to a student with a CAL: configuration, concept bank, closed-form start of phi."""

from __future__ import annotations

import hashlib
import json
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from m2kt.errors import PacketError
from m2kt.models import LoadedModel, blocks, special_prefix
from m2kt.packet import Packet, Program
from m2kt.settings import StudentSettings
from m2kt.student._calibrate import StudentTargets, student_targets
from m2kt.student._chat import turns_of_roles
from m2kt.student._compile import lexicon, program_data, question_grammar
from m2kt.student._phrasings import READ_DEPTHS, load_phrase_map, phrase_map, phrasing_data
from m2kt.student._prepare import TrainingInputs
from m2kt.student._start import calibration_sequences, choose_start
from m2kt.student._tokenisation import Tokenisation
from m2kt.student.cal import CALConfig, CALModel, ExecutedReader, TokenFeature, UnitMatcher, cal_model
from m2kt.student.cal._config import RuleStructure


def program_digest(program: Program) -> str:
    """Digest of all of a program that an adapter depends on: symbols, argument tables and states, without outputs."""
    data = program.model_dump(mode="json", by_alias=True)
    for rule in data["rules"]:
        for key in ("outputs", "range", "uses"):
            rule.pop(key, None)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def layer_indices(settings: StudentSettings, n_blocks: int) -> tuple[list[int], int]:
    """Indices of the blocks that the reader reads, and of the block after which it writes."""
    write = _block_index(settings.reader.write_depth, n_blocks)
    return sorted({min(write, _block_index(f, n_blocks)) for f in settings.reader.read_depths}), write


def _block_index(fraction: float, n_blocks: int) -> int:
    return min(n_blocks - 1, max(0, round(fraction * n_blocks) - 1))


def configure(loaded: LoadedModel, inputs: TrainingInputs) -> CALConfig:
    """The CAL's configuration for this student and packet; concepts with a penalty are filtered."""
    program, settings, tokenisation = inputs.packet.program, inputs.settings, inputs.tokenisation
    n_blocks = len(blocks(loaded.model))
    read_layers, write_layer = layer_indices(settings, n_blocks)
    base, revision = loaded.reference
    executed = settings.reader_kind == "executed"
    literals = tokenisation.literal_units if executed else tokenisation.literals
    if not executed and not (settings.reader.write_literals and settings.reader.kind == "structured"):
        literals = {}
    config = CALConfig(
        task_type="CAUSAL_LM",
        read_layers=_read_layers(inputs, write_layer, n_blocks) if executed else read_layers,
        write_layer=write_layer,
        reader=settings.reader_kind,
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
        n_places=program.n_leaves if settings.reader.places else 0,
        silence=settings.reader.silence,
        steering_rank=settings.steering.rank,
        steering_alpha=settings.steering.alpha,
        steering_first_layer=min(n_blocks - 1, round(settings.steering.first_depth * n_blocks)),
        steering_last_layer=_block_index(settings.steering.last_depth, n_blocks),
        steering_targets=settings.steering.targets,
        symbols=list(program.symbols),
        symbol_tokens=tokenisation.symbol_tokens,
        literals=list(literals),
        literal_tokens=[list(tokens) for tokens in literals.values()],
        context_tokens=[list(tokens) for tokens in tokenisation.context],
        spaces=tokenisation.space_tokens,
        rules=_rules(program),
        phases=tokenisation.unit_length,
        stop=program.stop,
        teacher_width=int(inputs.packet.concepts.prototype_samples_PD.shape[1]),
        flagged=sorted(inputs.penalties),
        penalties=[inputs.penalties[k] for k in sorted(inputs.penalties)],
        answer_tokens=tokenisation.longest_answer,
        program_digest=program_digest(program),
        base_model_name_or_path=base,
        revision=revision,
    )
    if executed:
        _add_program(config, loaded, inputs)
    else:
        config.trails = context_whitelist(config, tokenisation)
    return config


def _read_layers(inputs: TrainingInputs, write_layer: int, n_blocks: int) -> list[int]:
    """An executed reader reads states only for phrasings."""
    if not inputs.packet.spec.listed_phrasings:
        return [write_layer]
    return sorted({min(_block_index(depth, n_blocks), write_layer) for depth in READ_DEPTHS})


def _rules(program: Program) -> list[RuleStructure]:
    """The tables' arguments, as a reader's configuration holds them."""
    return [
        {"name": r.name, "arity": r.arity, "family": r.family, "offset": r.offset, "rows": [list(x) for x in r.rows]}
        for r in program.rules
    ]


def _add_program(config: CALConfig, loaded: LoadedModel, inputs: TrainingInputs) -> None:
    """What an executed reader needs besides: the program, how questions look, and what the student's tokens spell."""
    program, tokenisation = inputs.packet.program, inputs.tokenisation
    grammar = question_grammar(program, inputs.packet.spec)
    embedding = cast(torch.nn.Embedding, cast(PreTrainedModel, loaded.model).get_input_embeddings())
    vocabulary = embedding.weight.shape[0]
    config.leads = list(tokenisation.lead_forms)
    config.phases = tokenisation.longest_unit * len(config.leads)
    config.program, config.questions = program_data(program), grammar.data()
    config.afters = inputs.packet.spec.afters
    config.lexicon = lexicon(loaded.tokenizer, vocabulary, program, grammar, config.afters).packed()
    config.gaps = turns_of_roles(loaded.tokenizer)
    config.phrasings = phrasing_data(inputs.packet)


def context_whitelist(config: CALConfig, tokenisation: Tokenisation) -> list[list[int]]:
    """The last unit types at every answer position of the traces; ``trails`` in CALConfig."""
    matcher = UnitMatcher(*config.alphabet)
    contexts: set[tuple[int, ...]] = set()
    for sequence, start in zip(tokenisation.sequences, tokenisation.answer_starts, strict=True):
        unit_types_TG = matcher(torch.tensor([sequence]))[0, start:, TokenFeature.TYPES :]
        contexts.update(map(tuple, unit_types_TG.tolist()))
    return [list(context) for context in sorted(contexts)]


def build(loaded: LoadedModel, inputs: TrainingInputs) -> tuple[PeftModel, StudentTargets]:
    """Wrap the student in a CAL with the packet's bank loaded and phi started."""
    model, concepts = cast(PreTrainedModel, loaded.model), inputs.packet.concepts
    config = configure(loaded, inputs)
    targets = student_targets(
        model,
        calibration_sequences(inputs.rehearsal, config, inputs.tokenisation),
        config.read_layers,
        config.write_layer,
        prefix=len(special_prefix(loaded.tokenizer)),
        required=inputs.tokenisation.answer_tokens,
    )
    fitted = None if config.phrasings is None else phrase_map(loaded, config, inputs.packet.spec)
    adapted = cast(PeftModel, get_peft_model(model, config))
    tuner = cal_model(adapted)
    if config.reader == "none":
        return adapted, targets
    reader = tuner.reader()
    sample_PD = as_tensor(concepts.prototype_samples_PD)
    reader.mean_X.copy_(targets.mean_X)
    reader.scale_X.copy_(targets.scale_X)
    reader.level.fill_(targets.stream_scale)
    reader.projector.mean_D.copy_(sample_PD.mean(0))
    reader.projector.scale_D.copy_(sample_PD.std(0).clamp(min=1e-4 * float(sample_PD.std()) + 1e-8))
    reader.pool_PD = sample_PD.to(reader.mean_X.device)
    reader.noise = inputs.settings.rehearsal.noise
    if fitted is not None:
        load_phrase_map(cast(ExecutedReader, reader), fitted)
        targets.n_tokens += fitted.n_tokens
    load_bank(tuner, inputs.packet)
    if inputs.settings.projector.start == "ridge":
        choose_start(tuner, targets, inputs)
    return adapted, targets


def load_bank(tuner: CALModel, packet: Packet) -> None:
    """Load the packet's concept vectors and prototypes into the reader.

    Raises:
        PacketError: a value is NaN or infinite.
    """
    concepts = packet.concepts
    for name in ("vectors_KD", "prototypes_SD"):
        if not np.isfinite(getattr(concepts, name)).all():
            raise PacketError(f"{name}: expected finite values, got NaN or infinity; get the packet again")
    tuner.set_bank(
        as_tensor(concepts.vectors_KD),
        as_tensor(concepts.prototypes_SD),
        torch.from_numpy(np.asarray(concepts.prototype_count_S) > 0),
    )


def as_tensor(array: NDArray[np.floating]) -> Tensor:
    """A float32 tensor from an array of any memory layout."""
    return torch.from_numpy(np.ascontiguousarray(array)).float()
