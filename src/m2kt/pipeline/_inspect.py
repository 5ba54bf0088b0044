"""Inspect and diff: the contents of a packet, and the differences of two, as data and as pages."""

from __future__ import annotations

from pathlib import Path

from m2kt.errors import StorageError, explain
from m2kt.packet import (
    Packet,
    PacketDescription,
    PacketDiff,
    bill_of_materials,
    canonical_json,
    describe,
    diff_packets,
)
from m2kt.pipeline._report import Report, Result, to_report
from m2kt.remote import open_packet


class Inspection(Result):
    """A verified packet and its description, which is the report."""

    packet: Packet
    description: PacketDescription

    def report(self) -> Report:
        return to_report(self.description)

    def headline(self) -> str:
        return f"{self.packet!r}"


def inspect(
    packet: str | Path | Packet, *, html: str | Path | None = None, bom: str | Path | None = None
) -> Inspection:
    """Verifies a packet and describes its symbols, rules, program, fidelity, ledger and signer.

    Args:
        html: file for a page with pictures.
        bom: file for a CycloneDX 1.6 bill of materials, JSON.

    Raises:
        PacketError: the packet does not verify.
        SpecError: ``html`` needs the extra ``m2kt[html]``.
        StorageError: a file cannot be written.
    """
    packet = open_packet(packet)
    if html is not None:
        from m2kt.render import packet_page, save_page

        save_page(packet_page(packet), html)
    if bom is not None:
        try:
            Path(bom).write_bytes(canonical_json(bill_of_materials(packet)))
        except OSError as error:
            raise StorageError(
                f"cannot write the bill of materials {bom}: {explain(error)}; choose another path"
            ) from error
    return Inspection(packet=packet, description=describe(packet))


def diff(a: str | Path | Packet, b: str | Path | Packet, *, html: str | Path | None = None) -> PacketDiff:
    """Compares two packets: provenance, symbols, rules and their rows, vectors, shapes, fidelity.

    Args:
        html: file for a page.
    """
    names = [str(packet.digest if isinstance(packet, Packet) else packet) for packet in (a, b)]
    differences = diff_packets(open_packet(a), open_packet(b))
    if html is not None:
        from m2kt.render import diff_page, save_page

        save_page(diff_page(differences, *names), html)
    return differences
