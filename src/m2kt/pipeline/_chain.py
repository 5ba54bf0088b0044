"""Chain: one skill's question behind another's answer, on one student."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from m2kt.merging import chain_packets
from m2kt.packet import Packet, check_target
from m2kt.pipeline._adapters import check_writable
from m2kt.pipeline._report import Report, Result
from m2kt.pipeline._statements import local_signer
from m2kt.remote import open_packet


class Chained(Result):
    """A packet that hands its answer over to another skill."""

    packet: Packet = Field(description="The first packet, ending in the second's question.")
    path: Path | None = Field(description="Where it was saved.")
    second: str = Field(description="Digest of the packet that answers the question; it is unchanged.")
    symbols: list[str] = Field(description="The symbols that may be handed over.")

    def report(self) -> Report:
        return {
            "packet": None if self.path is None else str(self.path),
            "digest": self.packet.digest,
            "second": self.second,
            "symbols": list(self.symbols),
        }

    def headline(self) -> str:
        return f"{self.packet.manifest.name}: hands over {len(self.symbols)} symbols to {self.second}; {self.path}"

    def remarks(self) -> list[str]:
        return ["ingest both packets into one student, and make both adapters active"]


def chain(
    first: str | Path | Packet,
    second: str | Path | Packet,
    question: str,
    *,
    out: str | Path | None = None,
    then: str = "Then",
    symbols: list[str] | None = None,
) -> Chained:
    """Makes the first packet end in a question of the second, about what it found.

    Ingested into one student and active together, the first adapter answers and asks, and the second answers that: two
    skills in one answer, without training either. The second packet and the vectors of both stay as they are.

    Args:
        question: of the second skill, such as ``"{answer} {answer}?"``; ``{answer}`` is the first one's answer, which
            must be one symbol.
        out: where to write; the packet is signed then.
        then: a word between answer and question that the first skill does not write.
        symbols: the symbols that may be handed over; by default those that the first skill answers on 240 prompts. The
            second skill must be able to answer for each.

    Raises:
        SpecError: the question or the word cannot be used.
        PacketError: the first one's answers are not single symbols that the second can be asked about.
    """
    if out is not None:
        local_signer()
        check_target(Path(out))
        check_writable(out)
    opened = open_packet(second)
    made = chain_packets(open_packet(first), opened, question, then, symbols)
    packet, path = made.packet, None
    if out is not None:
        path = packet.save(out)
        packet = Packet.load(path)
    return Chained(packet=packet, path=path, second=opened.digest, symbols=made.symbols)
