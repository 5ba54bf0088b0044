"""Every hostile packet is refused: for its own reason, on one line, with bounded work and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attacks.__main__ import table
from attacks._forge import ATTACKS, Attack
from m2kt.errors import PacketError
from m2kt.packet import Packet
from tests.packet.work import MOST_CALLS, count_calls

ROOT = Path(__file__).parents[2]
MEMORY = 1 << 30  # of address space, libraries included


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=lambda attack: attack.name)
def test_refused(attack: Attack, tmp_path: Path) -> None:
    path = attack.write(tmp_path / attack.name)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    messages: list[str] = []

    def load() -> None:
        with pytest.raises(PacketError, match=attack.refusal) as refused:
            Packet.load(path)
        messages.append(str(refused.value))

    assert count_calls(load) < MOST_CALLS
    (message,) = messages
    assert message.isprintable() and len(message) <= 600
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_all_in_little_memory(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
from m2kt.errors import PacketError
from m2kt.packet import Packet
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
for path in map(Path, sys.stdin.read().split()):
    try:
        Packet.load(path)
        print("accepted", path)
    except PacketError:
        pass
"""
    paths = [a.write(tmp_path / a.name) for a in ATTACKS.values()]
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_list_is_complete() -> None:
    assert table() in (ROOT / "attacks" / "README.md").read_text(), "python -m attacks --table"


def test_the_same_every_time(tmp_path: Path) -> None:
    for name in ("zip-twice", "json-deep", "signature-second", "not-a-number"):
        one, two = (ATTACKS[name].write(tmp_path / x / name) for x in ("a", "b"))
        for path in [one] if one.is_file() else one.iterdir():
            assert path.read_bytes() == (two if one.is_file() else two / path.name).read_bytes()
