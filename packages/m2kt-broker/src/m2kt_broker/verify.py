"""A packet's bytes, from an upload or from the store, to a packet that holds."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from m2kt.errors import PacketError
from m2kt.packet import Packet

from .errors import Unacceptable
from .stores import Store


def load_packet(file: Path) -> Packet:
    """Every part checked, every signature verified. Raises Unacceptable."""
    try:
        return Packet.load(file)
    except PacketError as error:
        # the name of a file of ours says nothing to the one who sent it
        raise Unacceptable(str(error).replace(str(file), "the packet")) from error


def stored_packet(store: Store, blob: str) -> Packet:
    """A packet from the store."""
    with tempfile.NamedTemporaryFile(suffix=".m2kp") as file:
        for piece in store.read("packets", blob):
            file.write(piece)
        file.flush()
        return load_packet(Path(file.name))


def file_digest(file: Path) -> str:
    """``sha256:...`` of a file."""
    with open(file, "rb") as opened:
        return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
