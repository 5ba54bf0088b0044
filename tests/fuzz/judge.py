"""The outcome of a mutated packet: refused, accepted, or a crash.

``kept``: the original signature stays, so any change must be refused. ``resigned``: an attacker with a key corrects
digests, ledger and signature; then the packet must be refused for its content, or be usable.
"""

from __future__ import annotations

import io
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

from attacks._forge import resign
from m2kt.errors import PacketError
from m2kt.packet import Packet, ProgramExecutor, describe, fixed_lookup, read_outputs
from m2kt.packet._parts import SIGNATURE, read_zip, zip_bytes
from tests.fuzz.mutations import KINDS, SCRAPS, Parts, flip

Mode = Literal["kept", "resigned"]
Outcome = Literal["refused", "accepted", "unchanged"]
SECONDS = 10  # of this process for one packet; more is a hang. Other processes on the machine do not count


@cache
def original(path: Path) -> tuple[Parts, bytes]:
    """The parts of a good packet, and its single-file form."""
    raw = path.read_bytes()
    return read_zip(io.BytesIO(raw), len(raw), str(path)), raw


def kinds(mode: Mode) -> list[str]:
    """Kinds of mutation that make sense in a mode."""
    if mode == "kept":
        return [*KINDS, "frame"]
    return [name for name in KINDS if not name.startswith("signature")]


def judge(mode: Mode, kind: str, rng: random.Random, good: Path) -> Outcome:
    """Mutates and loads. Any error other than PacketError is a crash, and raised."""
    parts, raw = original(good)
    with _limit():
        if kind == "frame":
            changed = _spoil_frame(rng, raw)
            if changed == raw:
                return "unchanged"
            with suppress(PacketError):
                Packet.from_parts(read_zip(io.BytesIO(changed), len(changed), "fuzz"), "fuzz")
                return "accepted"
            return "refused"
        mutated = KINDS[kind](rng, parts)
        if mutated == parts:
            return "unchanged"
        if mode == "resigned":
            mutated = resign(mutated)
        try:
            packet = Packet.from_parts(mutated, "fuzz")
        except PacketError:
            return "refused"
        if mode == "resigned":
            use(packet)
        return "accepted"


def use(packet: Packet) -> None:
    """What users do with a packet: describe it, roll it out, read answers, write it again."""
    describe(packet)
    outputs = [output or 0 for output in read_outputs(packet)]
    executor, table = ProgramExecutor(packet.program), fixed_lookup(outputs, packet.program)
    for prompt in packet.spec.sample("probing", 4, seed=0):
        packet.spec.read_answer(executor(prompt, table).completion)
    packet.program.first_leaves()
    # without a signature, which would be verified by the same code again
    again = Packet.from_parts({**packet.replace()._fresh_parts(), SIGNATURE: b""}, "fuzz, anew", verify=False)
    assert again.program == packet.program and again.spec == packet.spec


def _spoil_frame(rng: random.Random, raw: bytes) -> bytes:
    """Changes of the single file, most of them in its headers."""
    action = rng.randrange(5)
    if action == 0:
        return flip(rng, raw)
    if action == 1:  # a header: those of the directory are at the end
        tail = rng.randint(1, 700)
        return raw[:-tail] + flip(rng, raw[-tail:])
    at = rng.choice(_marks(raw)) + rng.randrange(46) if action == 2 else rng.randrange(len(raw))
    if action == 2:
        return raw[:at] + rng.randbytes(1) + raw[at + 1 :]
    if action == 3:
        return raw[:at] + rng.choice(SCRAPS) + raw[at:]
    return rng.choice(
        [
            raw[:at],
            raw + rng.randbytes(rng.randint(1, 40)),
            raw + raw,
            raw[at:],
            zip_bytes(original_shuffled(rng, raw)),
        ]
    )


def original_shuffled(rng: random.Random, raw: bytes) -> Parts:
    parts = read_zip(io.BytesIO(raw), len(raw), "fuzz")
    a, b = rng.sample(sorted(parts), 2)
    return parts | {a: parts[b], b: parts[a]}


@cache
def _marks(raw: bytes) -> tuple[int, ...]:
    return tuple(i for i in range(len(raw) - 4) if raw[i : i + 2] == b"PK" and raw[i + 2] < 7)


@contextmanager
def _limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s for one packet")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
