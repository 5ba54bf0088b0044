"""``m2kt sign PACKET --key K``: vouch for a packet that somebody else wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2kt.cli._options import Json, Key
from m2kt.cli._output import print_json, reported, stdout
from m2kt.cli._trust import ask_passphrase, key_file

NAME = "sign"


@reported
def command(
    packet: Annotated[Path, typer.Argument(help="Packet directory or .m2kp file.")],
    key: Key = "ed25519",
    json_: Json = False,
) -> None:
    """Add a signature to a packet. Its digest and all its parts stay as they are.

    A locked key asks for its passphrase, or takes it from M2KT_PASSPHRASE. Exit 7: the packet is damaged, or
    signed by this key already. Exit 9: the key cannot be used.
    """
    from m2kt.packet import Packet, cosign

    path = key_file(key)
    loaded = Packet.load(packet)  # nobody should vouch for what does not even hold together
    signature = cosign(packet, path, ask_passphrase(path))
    if json_:
        print_json({"packet": str(packet), "digest": loaded.digest, "signers": list(signature.keyids)})
        return
    lines = [f"{packet} ({loaded.digest}) is signed by", *signature.keyids]
    for line in lines:
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)
