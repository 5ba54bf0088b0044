"""Training loop: updates on rehearsal, replayed and off-domain batches under the composite loss.

Letters: B sequences, T tokens, N answer tokens, P prototype samples, J token index within a unit, E student width,
K concepts, X width of all blocks read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from m2kt.errors import TrainingError
from m2kt.models import blocks, decoder, record
from m2kt.student._batching import IGNORE, Batch
from m2kt.student._calibrate import StudentTargets
from m2kt.student._cost import Cost, CostSummary, Pass
from m2kt.student._off_domain import OffDomainPass
from m2kt.student._optimiser import Schedule, build_optimiser
from m2kt.student._prepare import TrainingInputs
from m2kt.student._replay import ReplayBuffer, ReplayItem
from m2kt.student._start import symbol_of_sample
from m2kt.student._tokenisation import phi_targets
from m2kt.student.cal import CALConfig, FlatReader, Run, StructuredReader, cal_model
from m2kt.student.losses import Loss, Outputs, composite, needed_outputs, reader_accuracy

Progress = Callable[[int, int, dict[str, float]], None]
Watch = Callable[[int, PeftModel, CostSummary], None]

CUE_ROUNDS = 8  # of rehearsal traces for the keys of the flat reader
CONFIDENT = 0.9  # probability of every token from which on the executed reader needs no training
PERFECT = 1 - 1e-6  # accuracy, up to rounding of weighted means


def share_of(term: Loss, batch: Batch) -> float:
    """A micro-batch's share of a term in its update: among all traces, or among those with a full forward pass.

    L_geo goes with L_reason: on other passes it alone would move phi at the optimiser's full rate.
    """
    return batch.full_forward_share if term.needs & {"logits_NV", "image_PJE"} else batch.share


class Trainer:
    """One training run.

    Args:
        adapted: the student with its CAL.
        targets: student targets for L_geo.
        updates: maximum number of optimiser steps.
        seed: of the replay order.
        off_domain: passes for the off-domain term, or None without one.
    """

    def __init__(
        self,
        adapted: PeftModel,
        targets: StudentTargets,
        inputs: TrainingInputs,
        updates: int,
        *,
        seed: int = 0,
        off_domain: OffDomainPass | None = None,
    ) -> None:
        self.adapted, self.updates, self.settings = adapted, updates, inputs.settings
        self.rehearsal, self.off_domain = inputs.rehearsal, off_domain
        self.tuner = cal_model(adapted)
        self.config = cast(CALConfig, adapted.peft_config["default"])
        self.backbone = decoder(self.tuner.model)
        self.head: nn.Module = self.tuner.model.get_output_embeddings()
        self.device: torch.device = self.tuner.model.get_input_embeddings().weight.device
        losses = self.settings.losses
        self.executed = self.config.reader == "executed"
        if self.executed:  # nothing selects, attends or stays silent by training
            losses = losses.model_copy(update={"struct": 0.0, "safety": 0.0, "silence": 0.0})
        self.terms = composite(losses)
        self.needed = needed_outputs(self.terms)
        symbol_P = symbol_of_sample(inputs)
        target_SJE, known_SJ = phi_targets(targets.by_token, inputs.tokenisation, self.config)
        self.target_PJE = target_SJE[symbol_P].to(self.device)
        self.target_known_PJ = known_SJ[symbol_P].to(self.device)
        stream_rms = 1.0
        if self.config.reader != "none":
            head_JFE = self.tuner.reader().projector.head_JFE.detach()
            stream_rms = float(head_JFE.square().mean().sqrt()) or 1.0
        self.optimiser = build_optimiser(adapted, self.settings.optimiser, stream_rms)
        self.schedule = Schedule(self.settings.optimiser, updates)
        # With steering off, and L_struct to train the attention, the states that the reader reads do not change.
        self.frozen = (
            self.config.steering_rank == 0
            and self.config.reader == "structured"
            and self.settings.losses.struct > 0
            and not self.settings.reader.stream_gradient
        )
        n_blocks = len(blocks(self.tuner.model))
        self.cost = Cost(
            self.tuner.model,
            sum(p.numel() for p in adapted.parameters() if p.requires_grad),
            read=(max(self.config.read_layers) + 1) / n_blocks,
            write=(self.config.write_layer + 1) / n_blocks,
        )
        self.replay = ReplayBuffer(seed)
        self.tokens_wrong = False  # the latest fresh traces: class and edges correct, tokens not

    @torch.enable_grad()
    def run(self, progress: Progress | None = None, watch: Watch | None = None) -> list[dict[str, float]]:
        """Update until the rehearsal is mastered, ``updates`` times at most, cool-down included."""
        history: list[dict[str, float]] = []
        if self.executed and self._is_mastered():
            return history
        if self.config.reader == "flat":
            self._collect_cues()
        self.adapted.train()
        scheduler = LambdaLR(self.optimiser, self.schedule)
        patience, n_perfect = self.settings.optimiser.mastered, 0
        for update in range(self.updates):
            if update >= self.schedule.end:
                break
            fresh = not self.frozen or update % self.settings.rehearsal.fresh_every == 0
            metrics = self._update(update, fresh)
            history.append({"update": update, **metrics})
            if progress is not None:
                progress(update + 1, self.schedule.end, metrics)
            if watch is not None:
                self.adapted.eval()
                watch(update + 1, self.adapted, self.cost.summary())
                self.adapted.train()
            if fresh:
                structure = all(metrics.get(key, 1.0) > PERFECT for key in ("class", "edge"))
                tokens = metrics.get("token", 1.0) > PERFECT
                self.tokens_wrong = structure and not tokens
                n_perfect = n_perfect + 1 if structure and tokens else 0
            if (self.frozen or self.executed) and patience and n_perfect >= patience:
                self.schedule.cool_down(update + 1)
            scheduler.step()
        return history

    @torch.no_grad()
    def _is_mastered(self) -> bool:
        """Whether the closed-form start writes every token of fresh traces with confidence already."""
        p_N = [torch.zeros(0, device=self.device)]
        for batch in self.rehearsal.update(self.config, 1.0, self.device):
            outputs = self.forward(ReplayItem(batch))
            self._count(ReplayItem(batch))
            if outputs.logits_NV is not None and outputs.labels_N is not None:
                p_NV = outputs.logits_NV.float().softmax(-1)
                p_N.append(p_NV.gather(1, outputs.labels_N[:, None])[:, 0])
        return bool((torch.cat(p_N) >= CONFIDENT).all())

    def _update(self, update: int, fresh: bool) -> dict[str, float]:
        """One optimiser step; its losses and accuracies."""
        items = self._draw(update, fresh)
        metrics: dict[str, float] = {}
        self.optimiser.zero_grad(set_to_none=True)
        for item in items:
            self._backward(update, item, metrics)
            if self.frozen:
                item.batch.full_forward_share = 0.0  # a replay is reader-only
        if self.off_domain is not None:
            self.cost.add(Pass.REPLAY if self.off_domain.frozen else Pass.END_TO_END, self.off_domain.n_tokens)
            outputs = self.off_domain()
            for term in self.terms:
                if outputs.has(term.needs):
                    loss = term(outputs)
                    (term.weight * loss).backward()
                    metrics[term.name] = float(loss.detach())
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.optimiser.clip)
        metrics["norm"] = float(norm)
        self.optimiser.step()
        return metrics

    def _draw(self, update: int, fresh: bool) -> list[ReplayItem]:
        """The micro-batches of an update."""
        if not fresh:
            return self.replay.draw()
        settings = self.settings.rehearsal
        # Once class and edges are correct and tokens are wrong, only full passes (L_reason) help.
        full_forward = 1.0 if self.tokens_wrong or not self.frozen else settings.written
        teacher_forced = settings.told * max(0.0, 1 - 2 * update / max(1, self.updates))
        batches = self.rehearsal.update(self.config, teacher_forced, self.device, full_forward)
        items = [ReplayItem(batch) for batch in batches]
        if self.frozen:
            self.replay.add(items)
        return items

    def _backward(self, update: int, item: ReplayItem, metrics: dict[str, float]) -> None:
        """Accumulate the gradients and metrics of one micro-batch."""
        batch = item.batch
        self._count(item)
        outputs = self.forward(item)
        losses = {term: term(outputs) for term in self.terms if outputs.has(term.needs)}
        total = torch.stack([term.weight * loss * share_of(term, batch) for term, loss in losses.items()])
        if not torch.isfinite(total).all():
            values = {term.name: float(loss.detach()) for term, loss in losses.items()}
            raise TrainingError(
                f"update {update}: expected a finite loss, got {values}; lower the learning rates, or use fp32"
            )
        total.sum().backward()
        for key, accuracy in reader_accuracy(outputs).items():
            share = batch.full_forward_share if key == "token" else batch.share
            metrics[key] = metrics.get(key, 0.0) + float(accuracy) * share
        for term, loss in losses.items():
            part = float(loss.detach()) * share_of(term, batch)
            metrics[term.name] = metrics.get(term.name, 0.0) + part

    def _count(self, item: ReplayItem) -> None:
        tokens = int(item.batch.mask_BT.sum())
        if not self.frozen:
            self.cost.add(Pass.END_TO_END, tokens)
        elif item.batch.full_forward_share:
            self.cost.add(Pass.FULL_FORWARD, tokens)
        else:
            self.cost.add(Pass.REPLAY if item.states else Pass.READER_ONLY, tokens)

    def forward(self, item: ReplayItem) -> Outputs:
        """One pass over a micro-batch: a full forward pass, or the reader alone."""
        batch, outputs = item.batch, Outputs(self.config, item.batch)
        has_reader = self.config.reader != "none"
        batch.supervision.stream_gradient = self.settings.reader.stream_gradient or not has_reader
        # L_struct trains the attention and L_reason the tokens; without L_struct, L_reason must train both.
        batch.supervision.selection_gradient = self.settings.losses.struct == 0
        run = self._full_forward(item, outputs) if batch.full_forward_share else self._reader_only(item)
        outputs.readers = [] if run is None else run.outputs
        if "image_PJE" in self.needed and batch.full_forward_share and has_reader:
            reader = self.tuner.reader()
            outputs.image_PJE = reader.projector.image(cast(Tensor, reader.pool_PD), reader.anchor_SD)
            outputs.target_PJE, outputs.target_known_PJ = self.target_PJE, self.target_known_PJ
        return outputs

    def _full_forward(self, item: ReplayItem, outputs: Outputs) -> Run | None:
        """The whole student, up to the logits of the answer."""
        batch = item.batch
        with self.tuner.observed(batch.supervision) as runs:
            out = self.backbone(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
        run = runs[-1] if runs else None
        if "logits_NV" in self.needed:
            answer_BT = batch.label_BT != IGNORE
            outputs.logits_NV = self.head(out.last_hidden_state[answer_BT])
            outputs.labels_N = batch.label_BT[answer_BT]
        if run is not None and self.frozen:
            item.states = run.states
        return run

    def _reader_only(self, item: ReplayItem) -> Run:
        """The reader alone, on stored states or on states from the blocks up to the last one that it reads."""
        batch = item.batch
        if not item.states:
            item.states = self.tuner.read_states(batch.token_BT, batch.mask_BT)
        run = self.tuner.reader_only_run(batch.token_BT, batch.mask_BT, item.states, batch.supervision)
        reader = cast(StructuredReader, self.tuner.reader())
        run.outputs.append(reader.look_up(run)[0])
        return run

    @torch.no_grad()
    def _collect_cues(self) -> None:
        """Keys of the flat reader: the frozen student's mean state where it is about to write each concept."""
        reader = cast(FlatReader, self.tuner.reader())
        count_K = torch.zeros_like(reader.has_cue_K)
        layers = [i + 1 for i in self.config.read_layers]  # layer i + 1 of a recording is the output of block i
        for _ in range(CUE_ROUNDS):
            for batch in self.rehearsal.update(self.config, 0.0, self.device):
                with self.adapted.disable_adapter(), record(self.adapted, layers) as states:
                    self.backbone(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
                state_BTX = torch.cat([states[layer].float() for layer in layers], -1)
                used_BT = batch.supervision.concept_BT >= 0
                concept_N = batch.supervision.concept_BT[used_BT]
                reader.cue_KX.index_add_(0, concept_N, state_BTX[used_BT])
                count_K.index_add_(0, concept_N, torch.ones_like(concept_N, dtype=count_K.dtype))
        reader.cue_KX.div_(count_K.clamp(min=1)[:, None])
        reader.has_cue_K.copy_((count_K > 0).float())
