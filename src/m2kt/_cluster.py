"""Ray: where many workers run, if the user asks for it. Imports nothing of Ray until then.

    with connected(Cluster(workers=4)) as ray: ...

Every worker is an actor that holds what is costly to load, and takes one call after another.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar, cast

from m2kt._plugins import missing
from m2kt.errors import M2KTError, ModelError, SpecError, first_line

AHEAD = 2  # the next call waits where it will run
WINDOW = 4  # replies per worker that may wait for an earlier one, before no more is asked
DEATHS = 10  # of one worker, before the work is given up
OBJECT_STORE = 256 * 2**20  # bytes of a local Ray; what travels is small
_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_HOME", "M2KT_HOME", "SOURCE_DATE_EPOCH")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Cluster:
    """Where to run, and on how much.

    Args:
        address: of a Ray cluster, ``auto`` for the one of this machine; None: a local Ray is started and ended.
        workers: None: as many as have room on the cluster.
        gpus_per_worker: GPUs of each worker; 0: workers compute on processors. A share such as 0.5 is possible.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SpecError(f"expected at least one worker, got {self.workers}")
        if self.gpus_per_worker < 0 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1):
            raise SpecError(f"expected a number of GPUs, or a share of one, for a worker, got {self.gpus_per_worker}")


class _Call(Protocol):
    """A method of an actor."""

    def remote(self, *args: object) -> object: ...


class _Actor(Protocol):
    """The handle of an actor whose class has ``call`` alone."""

    call: _Call


class _ActorClass(Protocol):
    def options(self, **options: object) -> _ActorClass: ...

    def remote(self, *args: object) -> _Actor: ...


class Ray(Protocol):
    """The functions of the library that are used here."""

    def init(self, **options: object) -> object: ...
    def is_initialized(self) -> bool: ...
    def shutdown(self) -> None: ...
    def remote(self, function: type) -> _ActorClass: ...
    def get(self, reference: object) -> object: ...
    def wait(self, references: Sequence[object], *, num_returns: int) -> tuple[list[object], list[object]]: ...
    def kill(self, actor: _Actor, *, no_restart: bool) -> None: ...
    def cluster_resources(self) -> dict[str, float]: ...


def everywhere(name: str | Path) -> str:
    """A path as workers have it, whose working directory is another one; other names as they are."""
    path = Path(name)
    return str(path.absolute()) if path.exists() else str(name)


@contextmanager
def connected(cluster: Cluster) -> Iterator[Ray]:
    """Ray, connected; a Ray that was started here ends with the context.

    Raises:
        SpecError: Ray is not installed.
        ModelError: no cluster answers at the address.
    """
    if find_spec("ray") is None:
        raise missing("--engine ray", "Ray", "m2kt[ray]")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray as library

    ray = cast(Ray, library)
    mine = not ray.is_initialized()
    if mine:
        local = {
            "num_cpus": max(os.cpu_count() or 1, cluster.workers or 1),
            "object_store_memory": OBJECT_STORE,
            "include_dashboard": False,
        }
        try:
            ray.init(
                address=cluster.address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": _environment()},
                **({} if cluster.address else local),
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"expected a Ray cluster at {cluster.address or 'this machine'}, got none ({first_line(error)}); start "
                "one by ray start --head, or leave out --address"
            ) from error
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _environment() -> dict[str, str]:
    """What workers need to import the same code and read the same files."""
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path if Path(entry or ".").is_dir()]
    given = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {"PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false", **given}


class _Worker:
    """Runs in a process of its own: makes what it holds at the first call, then calls it."""

    def __init__(self, make: Callable[[], Callable[[object], object]]) -> None:
        self._make = make
        self._held: Callable[[object], object] | None = None

    def call(self, item: object) -> tuple[object, M2KTError | None]:
        """What the held function returns, or the error that it raised on purpose."""
        try:
            if self._held is None:
                self._held = self._make()
            return self._held(item), None
        except M2KTError as error:
            return None, error


class Workers:
    """Actors that each hold a function, and calls spread over them.

    Args:
        make: makes the function, in the worker; importable, or a ``functools.partial`` of what is.
        ahead: calls that a worker has at once; 1 for long ones, of which none should wait for a busy worker.
    """

    def __init__(
        self, ray: Ray, cluster: Cluster, make: Callable[[], Callable[..., object]], ahead: int = AHEAD
    ) -> None:
        self._ray, self._ahead = ray, ahead
        n = cluster.workers or self._room(cluster)
        hidden = {} if cluster.gpus_per_worker else {"CUDA_VISIBLE_DEVICES": ""}  # Ray itself may leave them visible
        actor = ray.remote(_Worker).options(
            num_cpus=1,
            num_gpus=cluster.gpus_per_worker,
            max_restarts=DEATHS,
            max_task_retries=DEATHS,
            runtime_env={"env_vars": {**_environment(), "OMP_NUM_THREADS": "1", **hidden}},
        )
        self._actors = [actor.remote(make) for _ in range(n)]

    def _room(self, cluster: Cluster) -> int:
        resources = self._ray.cluster_resources()
        if cluster.gpus_per_worker:
            return max(1, int(resources.get("GPU", 0) / cluster.gpus_per_worker))
        return max(1, int(resources.get("CPU", 1)))

    def __len__(self) -> int:
        return len(self._actors)

    def map(self, items: Iterable[object]) -> Iterator[object]:
        """Results in the order of the items, which are taken as workers get free.

        Items of a worker that dies are computed again.

        Raises:
            M2KTError: as the held function raised it, for the first item in order for which it did.
            ModelError: a worker died too often, or failed otherwise.
        """
        source = enumerate(items)
        free = deque(actor for _ in range(self._ahead) for actor in self._actors)
        running: dict[object, tuple[int, _Actor]] = {}
        arrived: dict[int, tuple[object, M2KTError | None]] = {}
        following, ended = 0, False
        while True:
            while free and not ended and len(running) + len(arrived) < WINDOW * len(self._actors):
                number, item = next(source, (None, None))
                if number is None:
                    ended = True
                else:
                    actor = free.popleft()
                    running[actor.call.remote(item)] = number, actor
            while following in arrived:
                value, error = arrived.pop(following)
                if error is not None:
                    raise error
                following += 1
                yield value
            if not running:
                return
            for reference in self._ray.wait(list(running), num_returns=1)[0]:
                number, actor = running.pop(reference)
                arrived[number] = self._result(reference)
                free.append(actor)

    def _result(self, reference: object) -> tuple[object, M2KTError | None]:
        from ray.exceptions import RayError

        try:
            return cast(tuple[object, M2KTError | None], self._ray.get(reference))
        except RayError as error:
            raise ModelError(
                f"a worker failed: {first_line(error)} (after {DEATHS} new starts, if it died); give workers more "
                "memory, or run fewer of them on a machine"
            ) from error

    def close(self) -> None:
        """End the workers."""
        for actor in self._actors:
            self._ray.kill(actor, no_restart=True)
        self._actors = []
