"""A teacher in the workers of a Ray cluster: each holds it, and replies to the requests that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from m2kt._cluster import Cluster, Workers, connected, everywhere
from m2kt.models import Dtype, load_causal_lm, load_tokenizer, quieten, set_end_token
from m2kt.teacher.engine._engine import TeacherFacts, facts_of
from m2kt.teacher.engine._host import ModelHost
from m2kt.teacher.engine._requests import Reply, Request


@dataclass(frozen=True)
class TeacherSource:
    """How a worker loads the teacher: the arguments of ``load_causal_lm``."""

    name: str
    device: str = "auto"
    dtype: Dtype = "auto"
    device_map: str | None = None


class RayEngine:
    """Workers that hold the teacher. Which worker replies, and how many there are, is not in any reply."""

    def __init__(self, source: TeacherSource, cluster: Cluster) -> None:
        """Start the workers; the teacher is loaded in one of them before this returns.

        Raises:
            ModelError: there is no such cluster, or the teacher cannot be loaded there.
        """
        with ExitStack() as stack:
            ray = stack.enter_context(connected(cluster))
            found = replace(source, name=everywhere(source.name))
            self._workers = Workers(ray, cluster, partial(_held, found))
            stack.callback(self._workers.close)
            (facts,) = self._workers.map([None])
            self.facts = replace(cast(TeacherFacts, facts), name=source.name)
            self.tokenizer = load_tokenizer(self.facts.path if Path(source.name).exists() else source.name)
            if self.facts.end is not None:
                set_end_token(self.tokenizer, self.facts.end)
            self._stack = stack.pop_all()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in order, whoever computed them."""
        return cast(Iterator[Reply], self._workers.map(requests))

    def close(self) -> None:
        """End the workers, and the Ray that was started for them."""
        self._stack.close()


def _held(source: TeacherSource) -> Callable[[Request | None], Reply | TeacherFacts]:
    """What a worker holds: a function from a request to its reply, and from None to the teacher's facts."""
    import torch

    quieten()
    torch.set_num_threads(1)  # sums may depend on the number of threads: it must not depend on the machine
    loaded = load_causal_lm(source.name, device=source.device, dtype=source.dtype, device_map=source.device_map)
    host = ModelHost(loaded)

    def reply(request: Request | None) -> Reply | TeacherFacts:
        return facts_of(loaded) if request is None else request.on(host)

    return reply
