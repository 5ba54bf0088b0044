"""Replies kept on disk, so that an extraction that was stopped goes on: the same requests are not asked again.

A file a reply, named by its request's digest. An extraction is a function of the replies, so that it arrives at the
same packet. Arrays are read without pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from m2kt.errors import SpecError, StorageError, explain
from m2kt.teacher.engine._engine import Engine
from m2kt.teacher.engine._requests import Reply, Request, digest_of

FACTS = "teacher.json"


class Checkpoint:
    """An engine that asks another one only what was not replied before."""

    def __init__(self, engine: Engine, folder: Path, *, resume: bool) -> None:
        """Open a checkpoint, or begin it.

        Args:
            folder: of the replies; made where it is missing.
            resume: go on from what is there; else what is there is removed.

        Raises:
            SpecError: the checkpoint is of another teacher, dtype or device.
            StorageError: it cannot be read or written.
        """
        self.facts = engine.facts
        self.tokenizer = engine.tokenizer
        self.found = 0
        self._engine, self._folder = engine, folder
        try:
            if not resume:
                self.remove()
            folder.mkdir(parents=True, exist_ok=True)
            facts, file = json.loads(json.dumps(asdict(engine.facts))), folder / FACTS
            if file.is_file():
                self._check(json.loads(file.read_text(encoding="utf-8")), facts)
            else:
                self._write(FACTS, json.dumps(facts).encode())
        except (OSError, ValueError) as error:
            raise StorageError(f"the checkpoint {folder} cannot be used: {explain(error)}; remove it") from error

    def _check(self, kept: object, facts: dict[str, object]) -> None:
        differing = {name for name in facts if not isinstance(kept, dict) or kept.get(name) != facts[name]}
        differing -= {"name", "path", "licence", "base"}  # one teacher has several names
        if differing:
            name = min(differing)
            was = kept.get(name) if isinstance(kept, dict) else None
            raise SpecError(
                f"expected a checkpoint of this teacher ({name} {facts[name]}), got {self._folder} of another ({name} "
                f"{was}); leave out --resume to begin anew"
            )

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in order; new ones are kept before they are returned."""
        waiting: deque[tuple[str, bool]] = deque()  # digest, kept

        def missing() -> Iterator[Request]:
            for request in requests:
                digest = digest_of(request)
                kept = (self._folder / digest).is_file()
                waiting.append((digest, kept))
                if not kept:
                    yield request

        for reply in self._engine.ask(missing()):
            while waiting[0][1]:
                yield self._kept(waiting.popleft()[0])
            self._keep(waiting.popleft()[0], reply)
            yield reply
        while waiting:
            yield self._kept(waiting.popleft()[0])

    def _kept(self, digest: str) -> Reply:
        file = self._folder / digest
        try:
            with np.load(file, allow_pickle=False) as arrays:
                reply = dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise StorageError(f"the reply {file} cannot be read: {explain(error)}; remove the file") from error
        self.found += 1
        return reply

    def _keep(self, digest: str, reply: Reply) -> None:
        try:
            handle, temporary = tempfile.mkstemp(prefix=".", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **reply)
            Path(temporary).rename(self._folder / digest)
        except OSError as error:
            raise StorageError(f"the checkpoint {self._folder} cannot be written: {explain(error)}") from error

    def _write(self, name: str, content: bytes) -> None:
        temporary = self._folder / f".{name}"
        temporary.write_bytes(content)
        temporary.rename(self._folder / name)

    def close(self) -> None:
        """Close the engine; the replies stay."""
        self._engine.close()

    def remove(self) -> None:
        """Delete the replies."""
        if self._folder.is_dir() and not (self._folder / FACTS).is_file() and any(self._folder.iterdir()):
            raise StorageError(f"expected a checkpoint at {self._folder}, got other files; choose another --out")
        shutil.rmtree(self._folder, ignore_errors=True)
