"""Coverage-guided fuzzing of the reader with atheris (extra ``fuzz``): ``python -m tests.fuzz.guided SECONDS``.

The input is one part of a packet, signed anew by an attacker; nothing but PacketError may come out of it.
"""

from __future__ import annotations

import sys

from attacks._forge import resign
from m2kt.errors import PacketError
from tests.fuzz.campaign import GOOD
from tests.fuzz.judge import original, use


def one_input(data: bytes) -> None:
    """The first byte says which part the rest replaces."""
    from m2kt.packet import Packet

    if not data:
        return
    parts, _ = original(GOOD)
    names = sorted(parts)
    try:
        packet = Packet.from_parts(resign({**parts, names[data[0] % len(names)]: data[1:]}), "fuzz")
    except PacketError:
        return
    use(packet)


def main() -> int:
    """Runs for some seconds from the good packet's parts."""
    try:
        import atheris
    except ImportError:
        print("atheris is not installed (pip install 'm2kt[fuzz]'): nothing done", file=sys.stderr)
        return 0
    import tempfile
    from pathlib import Path

    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    corpus = Path(tempfile.mkdtemp(prefix="m2kt-corpus-"))
    parts, _ = original(GOOD)
    for i, name in enumerate(sorted(parts)):
        (corpus / name).write_bytes(bytes([i]) + parts[name])
    atheris.instrument_all()
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-len_control=0",
        ],
        one_input,
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
