"""Chat: a conversation with a student whose adapters are switched on and off between its turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from m2kt.errors import SpecError
from m2kt.pipeline._explain import MAX_NEW_TOKENS, Explanation, explain_loaded
from m2kt.pipeline._inputs import question_ids, with_adapter
from m2kt.pipeline._report import Progress, Result, no_progress

if TYPE_CHECKING:
    from m2kt.models import Dtype, LoadedModel


class ChatTurn(Result):
    """A message and its answer."""

    message: str
    answer: str
    adapters: list[str] = Field(description="Adapters that were on; empty: the student by itself.")
    seconds: float

    def headline(self) -> str:
        return self.answer


class Chat:
    """A conversation. Each message is answered by the student with the adapters that are on.

    A student with a chat template reads earlier turns, too; any other is asked each message alone.
    """

    def __init__(self, loaded: LoadedModel, adapters: Sequence[str | Path], max_new_tokens: int) -> None:
        from m2kt.student import own_chat

        self._loaded, self._max_new_tokens = loaded, max_new_tokens
        self._peft_names: dict[str, str] = {}
        for number, adapter in enumerate(adapters):
            peft_name = f"adapter{number}"
            self._loaded = with_adapter(self._loaded, adapter, peft_name)
            self._peft_names[str(adapter)] = peft_name
        self.on = self.adapters
        self.remembers = own_chat(loaded.tokenizer) is not None
        """Whether the student has a chat template, in which earlier turns stand before a message."""
        self.turns: list[ChatTurn] = []

    @property
    def adapters(self) -> list[str]:
        """All adapters of the conversation, on or off."""
        return list(self._peft_names)

    def use(self, *adapters: str | Path) -> None:
        """Switch on these adapters and no other; none: the student by itself. Raises SpecError for an unknown one."""
        names = [str(adapter) for adapter in adapters]
        unknown = [name for name in names if name not in self._peft_names]
        if unknown:
            raise SpecError(f"expected one of the adapters {', '.join(self.adapters)}, got {unknown[0]}")
        self.on = [name for name in self.adapters if name in names]

    def toggle(self, adapter: str | Path | None = None) -> list[str]:
        """Switch one adapter, or all together: off if any is on. Returns those that are on."""
        if adapter is None:
            self.use(*([] if self.on else self.adapters))
        elif str(adapter) in self.on:
            self.use(*(name for name in self.on if name != str(adapter)))
        else:
            self.use(*self.on, adapter)
        return self.on

    def say(self, message: str) -> ChatTurn:
        """Ask, and keep the turn."""
        from m2kt.models import answer_ends, generate_greedy
        from m2kt.student import cut_after

        if not message.strip():
            raise SpecError("expected a message, got an empty one; write something")
        started = time.monotonic()
        ends = answer_ends(self._loaded, self._stops() or None)
        with self._switched(self.on):
            ids = self._ids(message)
            completion = generate_greedy(self._loaded, [ids], self._max_new_tokens, ends)[0]
        turn = ChatTurn(
            message=message,
            answer=cut_after(completion.text, ends),
            adapters=self.on,
            seconds=round(time.monotonic() - started, 2),
        )
        self.turns.append(turn)
        return turn

    def explain(self, *, progress: Progress | None = None) -> Explanation:
        """What wrote the latest answer, by the adapter of those that were on which wrote most of it.

        Raises SpecError where there is no turn, or none was on.
        """
        if not self.turns or not self.turns[-1].adapters:
            raise SpecError("expected an answer of an adapter to explain, got none; switch one on and ask a question")
        *earlier, turn = self.turns
        explanations = []
        for name in turn.adapters:
            with self._switched([name]):
                ids = self._ids(turn.message, earlier)
                explanations.append(
                    explain_loaded(
                        self._loaded,
                        name,
                        turn.message,
                        ids,
                        max_new_tokens=self._max_new_tokens,
                        progress=progress,
                    )
                )
        return max(explanations, key=lambda e: sum(token.kind != "base" for token in e.tokens))

    def forget(self) -> None:
        """Begin anew: no earlier turn stands before the next message."""
        self.turns.clear()

    def _ids(self, message: str, earlier: Sequence[ChatTurn] | None = None) -> list[int]:
        turns = [(turn.message, turn.answer.strip()) for turn in (self.turns if earlier is None else earlier)]
        return question_ids(self._loaded, message, chat=self.remembers, turns=turns)

    def _stops(self) -> list[str]:
        """What ends an answer of any of the skills: the student by itself is cut there, too, and so comparable."""
        configs = self._loaded.peft_model.peft_config if self._peft_names else {}
        stops = [str(getattr(configs[name], "stop", "")) for name in self._peft_names.values()]
        return list(dict.fromkeys(stop for stop in stops if stop))

    @contextmanager
    def _switched(self, names: Sequence[str]) -> Iterator[None]:
        if not self._peft_names:
            yield
            return
        from m2kt.student import cal_model

        model = self._loaded.peft_model
        cal_model(model).set_adapter([self._peft_names[name] for name in names or self.adapters])
        if names:
            yield
            return
        with model.disable_adapter():
            yield


def chat(
    model: str,
    adapters: Sequence[str | Path] = (),
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Chat:
    """Opens a conversation with a student and its adapters, all of them on.

    Args:
        max_new_tokens: longest answer.

    Raises:
        CompatibilityError: an adapter is damaged, or was made for another model.
        SpecError: an adapter is named twice.
    """
    from m2kt.models import load_causal_lm

    twice = [adapter for adapter in adapters if [str(a) for a in adapters].count(str(adapter)) > 1]
    if twice:
        raise SpecError(f"expected different adapters, got {twice[0]} twice; name each once")
    (progress or no_progress)("loading the student", 0, 1)
    return Chat(load_causal_lm(model, device=device, dtype=dtype), adapters, max_new_tokens)
