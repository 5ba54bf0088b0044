"""Engines to measure by: one that keeps the time of each request, and workers that only wait."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from m2kt._cluster import Cluster, Workers, connected
from m2kt.teacher import Engine
from m2kt.teacher.engine import Ablate, Generate, Patterns, Plain, Predict, Reply, Request, States


class Timed:
    """An engine in this process, with what requests of each kind cost.

    Seconds are of the processor: beside other work they say more than those of the wall. One thread is assumed.
    """

    def __init__(self, engine: Engine) -> None:
        self.facts, self.tokenizer, self._engine = engine.facts, engine.tokenizer, engine
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.sequences: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in order."""
        for request in requests:
            started = time.process_time()
            (reply,) = self._engine.ask([request])
            self.seconds[request.kind] += time.process_time() - started
            self._count(request, reply)
            yield reply

    def _count(self, request: Request, reply: Reply) -> None:
        lengths = [0]
        if isinstance(request, Generate):
            lengths = [len(prompt) - len(request.prefix) for prompt in request.prompts]
            self.tokens["generated"] += int(reply["length_B"].sum())
        elif isinstance(request, Predict | States | Patterns | Ablate):
            lengths = [len(ids) for ids in request.rows.ids]
        elif isinstance(request, Plain):
            lengths = [len(ids) for ids in request.sequences]
        self.sequences[request.kind] += len(lengths)
        self.tokens[request.kind] += sum(lengths)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _waiting(latency: float) -> Callable[[object], object]:
    def wait(item: object) -> object:
        time.sleep(latency)
        return item

    return wait


def parallel_efficiency(workers: int, latency: float, calls: int) -> dict[str, float]:
    """Of the driver: the time that workers need who only wait, over the time that it took them.

    Args:
        latency: seconds that each call takes, like a batch of a teacher.
        calls: for each worker.
    """
    cluster = Cluster(workers=workers)
    with connected(cluster) as ray:
        started = time.monotonic()
        held = Workers(ray, cluster, partial(_waiting, latency))
        total = sum(1 for _ in held.map(range(4 * workers)))  # every process has begun
        begun = time.monotonic() - started
        started = time.monotonic()
        total = sum(1 for _ in held.map(range(workers * calls)))
        seconds = time.monotonic() - started
        held.close()
    ideal = total / workers * latency
    return {
        "workers": workers,
        "latency": latency,
        "calls": total,
        "seconds": round(seconds, 3),
        "efficiency": round(ideal / seconds, 4),
        "start": round(begun, 2),
    }
