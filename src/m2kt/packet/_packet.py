"""The knowledge packet P = (C, A, R, M, sigma): all that passes from a teacher to a student."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2kt._html import html_table
from m2kt.errors import PacketError, SpecError
from m2kt.probes import ProbeSpec

from ._card import write_card
from ._check import check_card, check_packet, check_tensors
from ._concepts import Concepts
from ._convert import check_nodes, convert, convert_tensors
from ._encrypt import ENCRYPTED_SUFFIX, read_encrypted
from ._format1 import check_against_spec, check_graph, parse_graph
from ._json import JSONObject, canonical_json, check_printable_data, one_line
from ._manifest import FORMAT_VERSION, Manifest, parse_manifest
from ._merged import PACKETS, check_sources, parts_within
from ._parts import (
    CARD,
    GRAPH,
    MANIFEST,
    PROGRAM,
    SIGNATURE,
    SPEC,
    TENSORS,
    check_size,
    read_parts,
    write_parts,
    zip_bytes,
)
from ._program import Program, parse_program
from ._sign import Signature, sign_files, verify_files
from ._tensors import Array, Arrays, read_arrays, write_arrays


@dataclass(frozen=True, eq=False, repr=False)
class Packet:
    """A knowledge packet in memory. :meth:`replace` makes variants, which are signed again when they are saved."""

    manifest: Manifest
    """M: provenance, fidelity, ledger."""
    program: Program
    """A: symbols, rules, and what to write in each state."""
    spec: ProbeSpec
    """The prompts, without the truth."""
    concepts: Concepts
    """C: a vector for each rule row, prototypes of the symbols."""
    attention: Arrays = field(default_factory=dict)
    """A: the teacher's attention from steps to the units that they read."""
    traces: Arrays = field(default_factory=dict)
    """R: sequences of latent states, and ``confidence_K``."""
    signature: Signature | None = None
    """The signers; None for a packet that is new, changed, or was loaded without verification."""
    _parts: dict[str, bytes] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path, verify: bool = True) -> Packet:
        """Read a packet, directory or single file, and verify and check all of it.

        Args:
            path: a packet directory, a ``.m2kp`` file, or an encrypted one (``.age``) for this user.
            verify: False skips digests and signature, to inspect a damaged packet; all other checks are made.

        Raises:
            PacketError: truncated, edited, not finite, a part missing, inconsistent shapes, unknown version.
        """
        where = str(path)
        try:
            encrypted = Path(path).suffix == ENCRYPTED_SUFFIX
            parts = read_encrypted(Path(path)) if encrypted else read_parts(Path(path))
            return cls.from_parts(parts, where, verify=verify)
        except PacketError as error:  # it may quote untrusted text: one short printable line
            raise PacketError(one_line(str(error))) from error

    @classmethod
    def from_parts(cls, parts: dict[str, bytes], where: str = "packet", *, verify: bool = True) -> Packet:
        """A packet from the bytes of its parts, with the checks of :meth:`load`, the signature first."""
        for name, content in parts.items():
            check_size(name, len(content), where)
        signature = None
        if verify:
            signed = {name: content for name, content in parts.items() if name != SIGNATURE}
            signature = verify_files(signed, parts[SIGNATURE], where)
        manifest = parse_manifest(parts[MANIFEST], where)
        if verify:
            _check_digests(manifest, parts, where)
            named = () if manifest.merged is None else tuple(source.digest for source in manifest.merged.sources)
            if signature is not None and signature.materials != named:
                raise PacketError(
                    f"{where}: {SIGNATURE} names {len(signature.materials)} packets that it was merged from, the "
                    f"manifest {len(named)}, or others; get the packet again"
                )
        check_card(parts[CARD], f"{where}: {CARD}")
        skill = GRAPH if manifest.format_version == 1 else PROGRAM
        if (GRAPH in parts, PROGRAM in parts) != (skill == GRAPH, skill == PROGRAM):
            raise PacketError(
                f"{where} is of format {manifest.format_version}, but has no {skill}, or another part beside it; "
                "get the packet again"
            )
        spec = _read_spec(parts[SPEC], f"{where}: {SPEC}")
        if manifest.format_version == 1:
            program, concepts, attention, traces = _read_format1(parts, manifest, spec, where)
        else:
            program = parse_program(parts[PROGRAM], where)
            arrays, attention, traces = (read_arrays(parts[name], f"{where}: {name}") for name in TENSORS)
            concepts = Concepts.from_arrays(arrays, where)
        packet = cls(manifest, program, spec, concepts, attention, traces, signature, parts)
        packet.check(where)
        if verify:
            check_sources(manifest.merged, traces, where)
        if verify:
            _check_ledger(packet, where)
        return packet

    def save(self, path: str | Path, *, key: Path | None = None) -> Path:
        """Write the packet, as a single file where ``path`` ends in ``.m2kp``, else as a directory.

        A packet that is unchanged since it was loaded keeps its signature; any other is signed with ``key``, by
        default the local one, also one that was of format 1: it becomes one of this format. A failure leaves an older
        packet at ``path`` as it was.

        Raises:
            StorageError: the disk refused, or ``path`` holds something other than a packet.
            PacketError: the packet is inconsistent.
        """
        self.check(str(path))
        parts = self._signed_parts(key)
        Packet.from_parts(parts, str(path), verify=False)  # a packet that cannot be read back is not written
        write_parts(Path(path), parts)
        return Path(path)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, token: str | None = None) -> Packet:
        """A packet by path, or by the id of a repository on the Hub, with the checks of :meth:`load`.

        Args:
            revision: branch, tag or commit of the repository.
            token: of the Hub; by default that of the login.
        """
        if Path(name).exists() or isinstance(name, Path):
            return cls.load(name)
        from ._hub import download

        with tempfile.TemporaryDirectory() as folder:
            download(name, revision, Path(folder), token=token)
            return cls.load(folder)

    def save_pretrained(self, path: str | Path) -> Path:
        """As :meth:`save`, by the name that transformers uses."""
        return self.save(path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        commit_message: str = "Knowledge packet",
        branch: str | None = None,
        key: Path | None = None,
    ) -> str:
        """Upload the packet to a repository on the Hub, created if needed. Returns the commit's address.

        Args:
            token: of the Hub; by default that of the login.
            branch: created if needed; the main one by default.
            key: as for :meth:`save`.

        Raises:
            PacketError: the Hub refused, or the packet is inconsistent.
        """
        from ._hub import upload

        with tempfile.TemporaryDirectory() as folder:
            saved = self.save(Path(folder) / "packet", key=key)
            return upload(saved, repo_id, private=private, token=token, message=commit_message, branch=branch)

    def file_bytes(self) -> bytes:
        """The single-file form of a signed packet.

        Raises:
            PacketError: it has no verified signature, or was changed since it was loaded.
        """
        parts = self._current_parts()
        if self.signature is None or SIGNATURE not in parts:
            raise PacketError(f"{self!r} is not signed, or was changed since it was loaded; save it and load it again")
        return zip_bytes(parts)

    def replace(self, **changes: Any) -> Packet:
        """A variant with some fields replaced, unsigned until it is saved. Arrays are not copied."""
        return dataclasses.replace(self, **changes, signature=None, _parts=None)

    def __repr__(self) -> str:
        return f"Packet({', '.join(f'{name}={value}' for name, value in self._summary().items())})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_table("", self._summary())

    def _summary(self) -> dict[str, str]:
        try:
            digest = self.digest.removeprefix("sha256:")[:12]
        except PacketError:  # a variant in memory that cannot be written
            digest = "invalid"
        return {
            "name": self.manifest.name,
            "concepts": f"{self.n_concepts}",
            "rules": f"{len(self.program.rules)}",
            "teacher": self.manifest.teacher.name,
            "digest": digest,
            "signer": self.signature.keyid[:12] if self.signature else "none",
        }

    def check(self, where: str = "packet") -> None:
        """Raise PacketError unless all parts are consistent and every number is finite."""
        check_packet(self.manifest, self.program, self.spec, self._tensors(), where)

    @property
    def n_concepts(self) -> int:
        """K."""
        return self.program.n_concepts

    @property
    def confidence_K(self) -> Array | None:
        """The teacher's probability of what it writes at each row, mean over contexts; None: not measured."""
        return self.traces.get("confidence_K")

    @property
    def sources(self) -> list[Packet]:
        """The packets that it was merged from, each verified; none where it was extracted from a teacher."""
        merged = self.manifest.merged
        if merged is None:
            return []
        packets = [
            Packet.from_parts(parts, f"the packet {source.digest} in it")
            for source, parts in zip(merged.sources, parts_within(merged, self.traces[PACKETS]), strict=True)
        ]
        for packet, source in zip(packets, merged.sources, strict=True):
            if packet.manifest.merged is not None:
                raise PacketError(f"the packet {source.digest} in it was merged itself; expected extracted ones")
            if packet.digest != source.digest:
                raise PacketError(f"the packet in it has the digest {packet.digest}, expected {source.digest}")
        return packets

    @property
    def digest(self) -> str:
        """``sha256:...`` of the manifest, which lists the digests of all other parts."""
        return "sha256:" + hashlib.sha256(self._current_parts()[MANIFEST]).hexdigest()

    @property
    def space(self) -> str:
        """Teacher and layer. Vectors of different spaces cannot be compared."""
        return f"{self.manifest.teacher.digest}/{self.manifest.embedding.layer}"

    @property
    def card(self) -> str:
        """The card, for people: Markdown without HTML."""
        return self._current_parts()[CARD].decode()

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts except manifest, card and signature, as in the ledger."""
        return _payload_size(self._content_parts())

    def _tensors(self) -> dict[str, Arrays]:
        return dict(zip(TENSORS, (self.concepts.arrays(), self.attention, self.traces), strict=True))

    def _content_parts(self) -> dict[str, bytes]:
        parts = {name: write_arrays(arrays, name) for name, arrays in self._tensors().items()}
        parts[SPEC] = self.spec.public().to_yaml().encode()
        parts[PROGRAM] = canonical_json(self.program.model_dump(mode="json", by_alias=True))
        return parts

    def _fresh_parts(self) -> dict[str, bytes]:
        """All parts except the signature, as they would be written now."""
        parts = self._content_parts()
        size = _payload_size(parts)
        ledger = self.manifest.ledger.model_copy(update={"packet_bytes": size, "concepts": self.program.n_concepts})
        fresh = {"ledger": ledger, "files": {}, "format_version": FORMAT_VERSION}
        manifest = self.manifest.model_copy(update=fresh)
        parts[CARD] = write_card(manifest, self.program, self.spec).encode()
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(parts.items())}
        manifest = manifest.model_copy(update={"files": digests})
        parts[MANIFEST] = canonical_json(manifest.model_dump(mode="json"))
        return parts

    def _current_parts(self) -> dict[str, bytes]:
        """The parts as loaded if nothing was changed since (arrays may be modified in place); else fresh ones."""
        if self._parts is not None and parse_manifest(self._parts[MANIFEST], "") == self.manifest:
            content = self._content_parts()
            if self.manifest.format_version == 1:
                read = _read_format1(self._parts, self.manifest, self.spec, "")
                as_loaded = dataclasses.replace(
                    self, program=read[0], concepts=read[1], attention=read[2], traces=read[3]
                )
                unchanged = as_loaded._content_parts() == content
            else:
                unchanged = all(self._parts[name] == part for name, part in content.items() if name != SPEC)
            # one spec can be written in many ways, and the digest is that of the bytes
            if unchanged and _read_spec(self._parts[SPEC], SPEC).public() == self.spec.public():
                return self._parts
        return self._fresh_parts()

    def _signed_parts(self, key: Path | None) -> dict[str, bytes]:
        parts = self._current_parts() if self.manifest.format_version == FORMAT_VERSION else self._fresh_parts()
        if key is None and SIGNATURE in parts:
            return parts
        unsigned = {name: content for name, content in parts.items() if name != SIGNATURE}
        signature = sign_files(unsigned, self.manifest.name, key, materials=_materials(self.manifest))
        return {**unsigned, SIGNATURE: signature}


def _materials(manifest: Manifest) -> list[JSONObject]:
    """The packets that one was merged from, as in-toto describes resources."""
    sources = [] if manifest.merged is None else manifest.merged.sources
    return [
        {
            "name": source.name,
            "digest": {"sha256": source.digest.removeprefix("sha256:")},
            "mediaType": "application/vnd.m2kt.packet",
            "annotations": {"signers": list(source.signers), "file": source.sha256},
        }
        for source in sources
    ]


def _payload_size(parts: dict[str, bytes]) -> int:
    return sum(len(content) for content in parts.values())


def _check_digests(manifest: Manifest, parts: dict[str, bytes], where: str) -> None:
    covered = {name: parts[name] for name in parts if name not in (MANIFEST, SIGNATURE)}
    if manifest.files.keys() != covered.keys():
        raise PacketError(f"{where}: manifest.json lists {sorted(manifest.files)}, expected {sorted(covered)}")
    for name, content in covered.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise PacketError(f"{where}: {name} does not have the digest in manifest.json; get the packet again")


def _check_ledger(packet: Packet, where: str) -> None:
    ledger, parts = packet.manifest.ledger, packet._parts or {}
    skill = GRAPH if GRAPH in parts else PROGRAM
    counted = (packet.n_concepts, sum(len(parts[name]) for name in (*TENSORS, SPEC, skill)))
    if (ledger.concepts, ledger.packet_bytes) != counted:
        raise PacketError(
            f"{where}: manifest.json counts {ledger.concepts} concepts and {ledger.packet_bytes} bytes, "
            f"expected {counted[0]} and {counted[1]}"
        )


def _read_format1(
    parts: dict[str, bytes], manifest: Manifest, spec: ProbeSpec, where: str
) -> tuple[Program, Concepts, Arrays, Arrays]:
    """Program, concepts, attention and traces of a packet of format 1, checked as that format was."""
    graph = parse_graph(parts[GRAPH], where)
    arrays, attention, traces = (read_arrays(parts[name], f"{where}: {name}") for name in TENSORS)
    concepts = Concepts.from_arrays(arrays, where)
    check_graph(graph, where)
    check_against_spec(graph, spec, where)
    tensors = dict(zip(TENSORS, (arrays, attention, traces), strict=True))
    check_tensors(manifest, graph.symbols, graph.rules, tensors, where)
    for named in tensors.values():
        check_nodes(named, graph, where)
    conversion = convert(graph, spec, where)
    return conversion.program, concepts, *convert_tensors(conversion, attention, traces)


def _read_spec(raw: bytes, what: str) -> ProbeSpec:
    try:
        text = raw.decode()
        spec = ProbeSpec.from_yaml(text, source=what)
        check_printable_data(spec.model_dump(mode="json"), what)
    except (SpecError, UnicodeDecodeError) as error:
        raise PacketError(f"{what}: {error}") from error
    if spec.truth is not None:
        raise PacketError(f"{what} names a truth; expected a spec without one")
    return spec
