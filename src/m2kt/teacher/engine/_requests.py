"""What a teacher is asked: a batch each, with everything that its reply depends on.

A request holds plain data, so that it can be sent to another process, and the digest of its content names its reply.
Replies are arrays by name. Letters: B rows, T tokens, V vocabulary, N selected positions or contexts, L layers,
D width, H heads, R readings, X selected positions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2kt.models import Completion, Ends, generate_greedy, next_token_logits, record, shared_prefix
from m2kt.teacher.engine._host import Ids, ModelHost, Rows

Reply = dict[str, NDArray[np.generic]]


class Request(Protocol):
    """A batch that a teacher is asked. Implementations are frozen dataclasses of plain data."""

    kind: ClassVar[str]

    def on(self, host: ModelHost) -> Reply:
        """The reply, computed by a loaded model.

        Raises:
            ModelError: this model cannot reply.
        """


def digest_of(request: Request) -> str:
    """sha256 of what a request asks, in hexadecimal digits; equal requests have equal replies."""

    def plain(value: object) -> object:
        if isinstance(value, frozenset):
            return sorted(value)
        raise TypeError(type(value).__name__)

    content = json.dumps([request.kind, asdict(request)], default=plain, sort_keys=True)  # type: ignore[call-overload]
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class SharePrefix:
    """Whether a prefix of sequences may be computed once. Reply: ``good``, 1 or 0."""

    kind: ClassVar[str] = "prefix"
    ids: Ids
    sequences: tuple[Ids, ...]

    def on(self, host: ModelHost) -> Reply:
        """Compute it, and compare with whole passes."""
        found = shared_prefix(host.loaded, self.sequences, self.ids)
        if found is not None:
            host.keep(found)
        return {"good": np.array(found is not None)}


@dataclass(frozen=True)
class Generate:
    """Greedy completions of prompts that fit one batch; read the reply with ``completions``."""

    kind: ClassVar[str] = "generate"
    prompts: tuple[Ids, ...]
    prefix: Ids
    """What all prompts begin with, if that is computed once."""
    budget: int
    """Maximum number of new tokens."""
    ends: Ends

    def on(self, host: ModelHost) -> Reply:
        """Generate."""
        found = generate_greedy(
            host.loaded,
            self.prompts,
            self.budget,
            self.ends,
            batch_size=len(self.prompts),
            prefix=host.prefix(self.prefix),
        )
        return {
            "ids": np.array([token for c in found for token in c.ids], dtype=np.int32),
            "length_B": np.array([len(c.ids) for c in found], dtype=np.int32),
            "stop_B": np.array([-1 if c.stop is None else c.stop for c in found], dtype=np.int32),
            **_packed("text", [c.text for c in found]),
            **_packed("ended_by", [c.ended_by or "" for c in found]),
        }


def completions(reply: Reply) -> list[Completion]:
    """What a reply to ``Generate`` says, by prompt."""
    lengths, stops = (reply[name].tolist() for name in ("length_B", "stop_B"))
    ids_B = np.split(reply["ids"], np.cumsum(lengths)[:-1])
    texts, ended_by = _unpacked("text", reply), _unpacked("ended_by", reply)
    return [
        Completion(ids.tolist(), text, None if stop < 0 else stop, end or None)
        for ids, text, stop, end in zip(ids_B, texts, stops, ended_by, strict=True)
    ]


def _packed(name: str, texts: Sequence[str]) -> Reply:
    raw = [text.encode() for text in texts]
    return {
        name: np.frombuffer(b"".join(raw), dtype=np.uint8),
        f"{name}_length_B": np.array([len(part) for part in raw], dtype=np.int32),
    }


def _unpacked(name: str, reply: Reply) -> list[str]:
    parts = np.split(reply[name], np.cumsum(reply[f"{name}_length_B"])[:-1])
    return [part.tobytes().decode() for part in parts]


@dataclass(frozen=True)
class Predict:
    """What the teacher predicts at positions of rows. Reply: ``score_N``, or ``log_p_NV``; rows one behind another."""

    kind: ClassVar[str] = "predict"
    rows: Rows
    positions: tuple[Ids, ...]
    """By row, ascending; counted behind the prefix."""
    what: Literal["choice", "log_p", "distribution"]
    """The argmax token; log P of the token that follows, in nats; or the log P of all tokens."""

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """One forward pass, with logits at the positions only."""
        batch = host.padded(self.rows)
        selected_BT = torch.zeros_like(batch.real_BT, dtype=torch.bool)
        for row, positions in enumerate(self.positions):
            selected_BT[row, list(positions)] = True
        next_N = batch.ids_BT.roll(-1, dims=1)[selected_BT]
        logits_NV = next_token_logits(host.model, batch.ids_BT, batch.mask, selected_BT, past=batch.past())
        if self.what == "choice":
            return {"score_N": logits_NV.argmax(dim=-1).to(torch.int32).cpu().numpy()}
        log_p_NV: Tensor = logits_NV.float().log_softmax(dim=-1)
        if self.what == "distribution":
            return {"log_p_NV": log_p_NV.cpu().numpy()}
        return {"score_N": log_p_NV.gather(1, next_N[:, None])[:, 0].cpu().numpy()}


@dataclass(frozen=True)
class HeadRows:
    """Rows of the output head for tokens. Reply: ``word_WD``, empty for a model without a linear head."""

    kind: ClassVar[str] = "head"
    tokens: Ids

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """Copy them."""
        head = host.model.get_output_embeddings()
        weight_VD = None if head is None else getattr(head, "weight", None)
        if weight_VD is None or weight_VD.ndim != 2:
            return {"word_WD": np.zeros((0, 0), dtype=np.float32)}
        return {"word_WD": weight_VD[list(self.tokens)].float().cpu().numpy()}


@dataclass(frozen=True)
class Plain:
    """The plain path: fp32, a sequence at a time, nothing padded or cached. Reply: ``log_p_NV``, ``state_NLD``."""

    kind: ClassVar[str] = "plain"
    sequences: tuple[Ids, ...]
    firsts: Ids
    """By sequence: the first position that is needed; all later ones are, too."""
    layers: Ids

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """A forward pass a sequence."""
        model = host.plain().model
        log_p, states = [], []
        for ids, first in zip(self.sequences, self.firsts, strict=True):
            with record(model, self.layers) as recorded:
                logits_TV: Tensor = model(input_ids=torch.tensor([ids], device=host.device), use_cache=False).logits[0]
            log_p.append(logits_TV[first:].float().log_softmax(dim=-1).cpu())
            states.append(torch.stack([recorded[layer][0, first:].float().cpu() for layer in self.layers], dim=1))
        return {"log_p_NV": torch.cat(log_p).numpy(), "state_NLD": torch.cat(states).numpy()}
