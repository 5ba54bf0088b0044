"""Taking a packet in: rehearsal under the composite loss, from a loaded student to a candidate adapter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from m2kt.errors import TrainingError
from m2kt.models import blocks, context_length, decoder, record
from m2kt.packet import lengthen
from m2kt.settings import StudentSettings
from m2kt.student._batching import IGNORE, Batch
from m2kt.student._build import build
from m2kt.student._calibrate import StudentTargets
from m2kt.student._cost import Cost
from m2kt.student._off_domain import OffDomainLoss, quiet_lines
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._tokenisation import Tokenisation, unit_targets
from m2kt.student._validate import require
from m2kt.student.cal import CALConfig, CALModel
from m2kt.student.cal._context import Run
from m2kt.student.cal._flat import FlatReader
from m2kt.student.cal._reader import StructuredReader
from m2kt.student.losses import Loss, Outputs, composite, needs, pointing

Progress = Callable[[int, int, dict[str, float]], None]
Watch = Callable[[int, PeftModel, dict[str, Any]], None]


@dataclass
class Candidate:
    """A trained adapter that nobody has judged yet."""

    model: PeftModel
    ledger: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    spelling: Tokenisation | None = None


def train(
    loaded: Any,
    packet: Any,
    settings: StudentSettings | None = None,
    *,
    updates: int = 60,
    seed: int = 0,
    penalties: Mapping[int, float] | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Candidate:
    """Trains a CAL on a frozen student by rehearsal. ``loaded.model`` is wrapped in place.

    The packet is all that is read.

    Args:
        loaded: a ``LoadedModel``, or anything with ``model``, ``tokenizer`` and ``name``.
        packet: graph, spec and concepts.
        settings: the student side's settings; the defaults are the same for every skill and student.
        updates: optimiser steps of ``settings.rehearsal.batch`` traces each, at most: it ends when the rehearsal is
            mastered.
        seed: of everything that is drawn.
        penalties: Penalty(c_k) of an auditor, by concept; these are filtered, as those that the settings flag.
        progress: called with (update, updates, losses).
        watch: called after every update with (updates done, the model as it is then, what it has cost so far); for
            measurements on the way.

    Raises:
        CompatibilityError: a check of :mod:`m2kt.student._validate` is not passed, such as a symbol it cannot write.
        PacketError: longer shapes are to be rehearsed, but the packet's graph does not foretell them.
        TrainingError: the loss became NaN.
    """
    settings = settings or StudentSettings()
    began = time.monotonic()
    torch.manual_seed(seed)
    packet = lengthen(packet, settings.rehearsal.longer)
    ground = require(loaded, packet, settings, penalties or {}, seed)
    rehearsal, spelling = ground.rehearsal, ground.spelling
    quiet_LT = None
    if settings.losses.silence and settings.reader.kind != "none":
        length = min(settings.rehearsal.quiet_tokens, context_length(loaded.model))
        quiet_LT = quiet_lines(loaded.model, loaded.tokenizer, spelling.traces, length, seed)
    adapted, own = build(loaded, packet, settings, rehearsal, spelling, ground.penalties)
    trainer = Trainer(
        adapted, own, settings, spelling, np.asarray(packet.concepts.prototype_symbol_P), updates
    )
    trainer.cost.add("forward", own.n_tokens)
    if quiet_LT is not None:
        trainer.quiet = OffDomainLoss(
            trainer.tuner, quiet_LT, trainer.config, settings.rehearsal.quiet_lines, settings.losses.retain
        )
        trainer.cost.add("forward", quiet_LT.numel())
    prepared = time.monotonic() - began
    history = trainer.run(rehearsal, progress, watch)
    adapted.eval()
    ledger = {
        "labelled_examples": 0,
        "updates": len(history),
        "rehearsal_sequences": rehearsal.n_traces,
        "rehearsal_tokens": rehearsal.n_tokens,
        **trainer.cost.summary(),
        "verbalised_rows": int((rehearsal.kept_K >= 0).sum()),
        "trainable_parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "start": {"gain": own.gain, "unembedding": own.unembedding, "loss": round(own.start_loss, 4)},
        "prepare_seconds": round(prepared, 2),
        "seconds": round(time.monotonic() - began, 2),
        "seed": seed,
    }
    return Candidate(adapted, ledger, history, spelling)


@dataclass
class ReplayItem:
    """Traces that were drawn, with the frozen core's states where the reader reads, once they are known."""

    batch: Batch
    taps: dict[int, Tensor]


def share_in(term: Loss, batch: Batch) -> float:
    """A micro-batch's part in a term: of all traces, or, where phi is concerned, of those that are written out.

    L_geo goes with L_reason: alone it would pull phi back at the optimiser's full pace.
    """
    return batch.full_forward_share if term.needs & {"logits_NV", "image_PJE"} else batch.share


class Trainer:
    """One run of updates."""

    def __init__(
        self,
        adapted: PeftModel,
        own: StudentTargets,
        settings: StudentSettings,
        spelling: Tokenisation,
        pool_symbol_P: Any,
        updates: int,
    ) -> None:
        self.adapted, self.settings, self.spelling, self.updates = adapted, settings, spelling, updates
        self.tuner = cast(CALModel, adapted.base_model)
        self.config = cast(CALConfig, adapted.peft_config["default"])
        self.backbone = decoder(self.tuner.model)
        self.head: nn.Module = self.tuner.model.get_output_embeddings()
        self.device = self.tuner.model.get_input_embeddings().weight.device
        self.terms = self._terms()
        self.needs = needs(self.terms)
        symbol_P = torch.from_numpy(np.asarray(pool_symbol_P)).long()
        target_SJE, known_SJ = unit_targets(own.by_token, spelling.written, self.config.phases)
        self.own_PJE, self.known_PJ = target_SJE[symbol_P].to(self.device), known_SJ[symbol_P].to(self.device)
        self.quiet: OffDomainLoss | None = None
        self.optimiser = self._optimiser()
        # With steering off, and L_struct to tell the reader where to look, what the reader reads never changes.
        self.frozen = (
            self.config.steering_rank == 0
            and self.config.reader == "structured"
            and settings.losses.struct > 0
            and not settings.reader.stream_gradient
        )
        depth = len(blocks(self.tuner.model))
        self.cost = Cost(
            self.tuner.model,
            sum(p.numel() for p in adapted.parameters() if p.requires_grad),
            read=(max(self.config.read_layers) + 1) / depth,
            write=(self.config.write_layer + 1) / depth,
        )
        self.met: list[list[ReplayItem]] = []  # by fresh update
        self.order = np.random.default_rng(0)
        self.cooling_from: int | None = None
        self.misspelt = False  # the last fresh traces were read without a slip, but not written so

    def _optimiser(self) -> torch.optim.Optimizer:
        rates = self.settings.optimiser
        groups: dict[float, list[nn.Parameter]] = {}
        written = 1.0  # typical entry of what is written into the stream, so that its rate can be relative
        if self.config.reader != "none":
            written = float(self.tuner.reader().projector.head_JFE.detach().square().mean().sqrt()) or 1.0
        for name, parameter in self.adapted.named_parameters():
            if not parameter.requires_grad:
                continue
            if ".cal_A." in name or ".cal_B." in name:
                rate = rates.steering_lr
            elif name.endswith((".head_JFE", ".bias_JE", ".spare_SJE", ".literal_UJE")):
                rate = rates.written_lr * written
            elif ".projector." in name:
                rate = rates.projector_lr
            elif name.endswith(".state.weight"):  # a wide student must not make the reader's input jump
                rate = rates.reader_lr * min(1.0, 128 / parameter.shape[1])
            else:
                rate = rates.reader_lr
            groups.setdefault(rate, []).append(parameter)
        return torch.optim.AdamW(
            [{"params": p, "lr": rate, "peak": rate} for rate, p in groups.items()],
            weight_decay=rates.weight_decay,
            betas=(0.9, 0.98),
        )

    def _rate(self, update: int) -> float:
        """Share of the peak rate: warm-up, constant, and a cosine once cooling has begun."""
        o = self.settings.optimiser
        rising = min(1.0, (update + 1) / (o.warmup + 1))
        if self.cooling_from is None:
            return rising
        x = (update - self.cooling_from) / max(1, self.last - self.cooling_from)
        return rising * (o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * x)))

    def _cool(self, update: int) -> None:
        """Begins the cool-down from ``update`` on; it lasts a share of all updates then done."""
        share = self.settings.optimiser.cool_down
        self.cooling_from = update
        length = math.ceil(update * share / (1 - share)) if share < 1 else self.updates
        self.last = min(self.updates, update + length)

    @torch.enable_grad()
    def run(
        self, rehearsal: Rehearsal, progress: Progress | None, watch: Watch | None = None
    ) -> list[dict[str, float]]:
        """Updates until the rehearsal is mastered, ``updates`` at most, the cool-down included."""
        history: list[dict[str, float]] = []
        if self.config.reader == "flat":
            self._collect_cues(rehearsal)
        self.adapted.train()
        self.last, clean = self.updates, 0
        for update in range(self.updates):
            if update >= self.last:
                break
            if self.cooling_from is None and update >= self.updates * (1 - self.settings.optimiser.cool_down):
                self._cool(update)
            sums, fresh = self._update(update, rehearsal)
            history.append({"update": update, **sums})
            if progress is not None:
                progress(update + 1, self.last, sums)
            if watch is not None:
                self.adapted.eval()
                watch(update + 1, self.adapted, self.cost.summary())
                self.adapted.train()
            if fresh:
                read = all(sums.get(k, 1.0) > 1 - 1e-6 for k in ("class", "edge"))
                self.misspelt = read and sums.get("token", 1.0) <= 1 - 1e-6
                clean = clean + 1 if read and sums.get("token", 1.0) > 1 - 1e-6 else 0
            patience = self.settings.optimiser.mastered
            if self.cooling_from is None and self.frozen and patience and clean >= patience:
                self._cool(update + 1)
        return history

    def _update(self, update: int, rehearsal: Rehearsal) -> tuple[dict[str, float], bool]:
        """One optimiser step; also says whether its traces were fresh."""
        told = self.settings.rehearsal.told * max(0.0, 1 - 2 * update / max(1, self.updates))
        fresh = not self.frozen or update % self.settings.rehearsal.fresh_every == 0
        if fresh:
            # what is read rightly and still written wrongly is learnt from whole passes alone
            written = 1.0 if self.misspelt or not self.frozen else self.settings.rehearsal.written
            traces = [ReplayItem(b, {}) for b in rehearsal.update(self.config, told, self.device, written)]
            if self.frozen:
                self.met.append(traces)
        else:
            traces = self.met[int(self.order.integers(len(self.met)))]
        sums: dict[str, float] = {}
        self.optimiser.zero_grad(set_to_none=True)
        for one in traces:
            self._count(one)
            losses, share = self.losses(one), one.batch.share
            total = torch.stack(
                [w * losses[t.name] * share_in(t, one.batch) for w, t in self.terms if t.name in losses]
            )
            if not torch.isfinite(total).all():
                parts = {k: float(v.detach()) for k, v in losses.items()}
                raise TrainingError(
                    f"the loss of update {update} is not a number ({parts}): lower the learning rates, or use fp32"
                )
            total.sum().backward()
            for key, value in self.hits.items():
                sums[key] = sums.get(key, 0.0) + float(value) * (
                    one.batch.full_forward_share if key == "token" else share
                )
            for _, term in self.terms:
                if term.name in losses:
                    part = float(losses[term.name].detach()) * share_in(term, one.batch)
                    sums[term.name] = sums.get(term.name, 0.0) + part
            if self.frozen:
                one.batch.full_forward_share = 0.0  # met again, it is only read along
        if self.quiet is not None:
            self.cost.add("met_again" if self.quiet.fixed else "whole", self.quiet.n_tokens)
            quiet = self.quiet()
            (self.settings.losses.silence * quiet).backward()
            sums["silence"] = float(quiet.detach())
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        sums["norm"] = float(nn.utils.clip_grad_norm_(trained, self.settings.optimiser.clip))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self._rate(update)
        self.optimiser.step()
        return sums, fresh

    def _count(self, one: ReplayItem) -> None:
        tokens = int(one.batch.mask_BT.sum())
        if not self.frozen:
            self.cost.add("whole", tokens)
        elif one.batch.full_forward_share:
            self.cost.add("written", tokens)
        else:
            self.cost.add("met_again" if one.taps else "read_along", tokens)

    @torch.no_grad()
    def _collect_cues(self, rehearsal: Rehearsal, rounds: int = 8) -> None:
        """For the flat reader: the frozen student's own state where it is about to write each concept."""
        reader = cast(FlatReader, self.tuner.reader())
        count_K = torch.zeros_like(reader.has_cue_K)
        for _ in range(rounds):
            for batch in rehearsal.update(self.config, 0.0, self.device):
                with (
                    self.adapted.disable_adapter(),
                    record(self.adapted, [i + 1 for i in self.config.read_layers]) as seen,
                ):
                    self.backbone(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
                state_BTX = torch.cat([seen[i + 1].float() for i in self.config.read_layers], -1)
                used_BT = batch.teaching.concept_BT >= 0
                k = batch.teaching.concept_BT[used_BT]
                reader.cue_KX.index_add_(0, k, state_BTX[used_BT])
                count_K.index_add_(0, k, torch.ones_like(k, dtype=count_K.dtype))
        reader.cue_KX.div_(count_K.clamp(min=1)[:, None])
        reader.has_cue_K.copy_((count_K > 0).float())

    def losses(self, one: ReplayItem) -> dict[str, Tensor]:
        """The terms in use on one micro-batch; without those on what is written, where it is only read along."""
        batch = one.batch
        outputs = Outputs(self.config)
        alone = self.config.reader == "none"
        batch.teaching.stream_gradient = self.settings.reader.stream_gradient or alone
        # L_struct says where to look, L_reason what to write then; only without L_struct must L_reason do both.
        batch.teaching.selection_gradient = self.settings.losses.struct == 0
        run = self._written(one, outputs) if batch.full_forward_share else self._read_along(one)
        outputs.readers = [] if run is None else run.outputs
        if "image_PJE" in self.needs and batch.full_forward_share and not alone:
            reader = self.tuner.reader()
            outputs.image_PJE = reader.projector.image(cast(Tensor, reader.pool_PD), reader.anchor_SD)
            outputs.own_PJE, outputs.own_known_PJ = self.own_PJE, self.known_PJ
        self.hits = pointing(batch, outputs)
        there = [t for _, t in self.terms if share_in(t, batch)]
        return {term.name: term(batch, outputs) for term in there}

    def _written(self, one: ReplayItem, outputs: Outputs) -> Run | None:
        """The whole pass, to the logits of the answer."""
        batch = one.batch
        with self.tuner.teaching(batch.teaching):
            result = self.backbone(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
        run = self.tuner.last_run
        if "logits_NV" in self.needs:
            answered_BT = batch.label_BT != IGNORE
            outputs.logits_NV = self.head(result.last_hidden_state[answered_BT])
            outputs.labels_N = batch.label_BT[answered_BT]
        if run is not None and self.frozen:
            one.taps = run.taps
        return run

    def _read_along(self, one: ReplayItem) -> Run:
        """The reader alone, on states that are known or computed as far up as it reads."""
        batch = one.batch
        if not one.taps:
            one.taps = self.tuner.states_read(batch.token_BT, batch.mask_BT)
        with self.tuner.teaching(batch.teaching):
            run = self.tuner.reading(batch.token_BT, batch.mask_BT, one.taps)
        reader = cast(StructuredReader, self.tuner.reader())
        run.outputs.append(reader.look_up(run)[0])
        return run

    def _terms(self) -> list[tuple[float, Any]]:
        """Terms of the composite loss; steering alone has no reader for most of them."""
        terms = composite(self.settings.losses)
        return terms if self.config.reader != "none" else [(w, t) for w, t in terms if t.name == "reason"]
