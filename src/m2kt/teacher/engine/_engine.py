"""The interface of what computes a teacher, and the plain one: the model in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from m2kt.models import (
    LoadedModel,
    blocks,
    context_length,
    digest_of_tokenizer,
    end_token,
    end_tokens,
    own_end_tokens,
    width,
)
from m2kt.teacher.engine._host import ModelHost
from m2kt.teacher.engine._requests import Reply, Request


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher without asking it."""

    name: str
    """The name it was loaded by."""
    path: str
    digest: str
    tokenizer_digest: str
    architecture: str
    parameters: int
    dtype: str
    """Such as ``float32``."""
    device: str
    """Kind of device, such as ``cpu``."""
    context: int
    """Tokens of a pass at most."""
    width: int
    layers: int
    vocabulary: int
    """Rows of the output head."""
    own_ends: tuple[int, ...]
    ends: tuple[int, ...]
    end: int | None
    """The token that ``END`` stands for."""
    licence: str | None
    base: str | None


def facts_of(loaded: LoadedModel) -> TeacherFacts:
    """The facts of a loaded model."""
    model, tokenizer = loaded.model, loaded.tokenizer
    head = model.get_output_embeddings()
    weight_VD = None if head is None else getattr(head, "weight", None)
    return TeacherFacts(
        name=loaded.name,
        path=str(loaded.path),
        digest=loaded.digest,
        tokenizer_digest=digest_of_tokenizer(loaded.path),
        architecture=type(model).__name__,
        parameters=loaded.parameters,
        dtype=str(model.dtype).removeprefix("torch."),
        device=loaded.device.type,
        context=context_length(model),
        width=width(model),
        layers=len(blocks(model)),
        vocabulary=len(tokenizer) if weight_VD is None else int(weight_VD.shape[0]),
        own_ends=tuple(own_end_tokens(model, tokenizer)),
        ends=tuple(end_tokens(model, tokenizer)),
        end=end_token(tokenizer),
        licence=loaded.licence,
        base=loaded.base,
    )


class Engine(Protocol):
    """Computes a teacher. What is asked, and in which batches, never depends on the engine."""

    facts: TeacherFacts
    tokenizer: PreTrainedTokenizerBase

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in the order of the requests, which are taken as they are needed.

        Raises:
            ModelError: the model cannot reply.
        """

    def close(self) -> None:
        """Free what the engine holds; it is not asked again."""


class LocalEngine:
    """The model in this process, one request after another."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.facts = facts_of(loaded)
        self.tokenizer = loaded.tokenizer
        self._host = ModelHost(loaded)

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in order."""
        for request in requests:
            yield request.on(self._host)

    def close(self) -> None:
        """Nothing: whoever loaded the model holds it."""


def engine_of(teacher: LoadedModel | Engine) -> Engine:
    """The engine; of a loaded model, the one in this process."""
    return LocalEngine(teacher) if isinstance(teacher, LoadedModel) else teacher
