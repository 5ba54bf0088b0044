"""Attacks by the container: zip frames, links, pipes, sizes."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
from pathlib import Path

from m2kt.packet._parts import zip_bytes

from ._forge import as_directory, as_file, attack, entries, good, zipped


@attack("a name that climbs out of the folder it is unpacked to", "not part")
def zip_traversal(place: Path) -> Path:
    return zipped(place, [*entries(), ("../evil", b"x")])


@attack("an absolute name", "not part")
def zip_absolute(place: Path) -> Path:
    return zipped(place, [("/tmp/m2kt-evil", b"x"), *entries()])


@attack("a name that climbs out on Windows", "not part|canonical")
def zip_backslash(place: Path) -> Path:
    return zipped(place, [*entries(), ("..\\evil", b"x")])


@attack("two entries of one name: one is checked, the other used", "twice")
def zip_twice(place: Path) -> Path:
    return zipped(place, [*entries(), ("graph.json", b"{}")])


@attack("a deflated entry that unpacks to a thousand times its size", "compressed")
def zip_bomb(place: Path) -> Path:
    bomb = [(name, bytes(8 << 20) if name == "graph.json" else content) for name, content in entries()]
    return zipped(place, bomb, zipfile.ZIP_DEFLATED)


@attack("a size of 4 GiB in the header of a small file", "more than the .* allowed")
def zip_declared_size(place: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[18:26] = struct.pack("<II", 2**32 - 1, 2**32 - 1)
    return as_file(place, bytes(raw))


@attack("a size within the limits but beyond the file's end", "ends within")
def zip_short_file(place: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[18:26] = struct.pack("<II", 1 << 20, 1 << 20)
    return as_file(place, bytes(raw))


@attack("directory entries that all point at the same bytes", "canonical")
def zip_overlap(place: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    at = raw.index(b"PK\1\2")
    while (at := raw.find(b"PK\1\2", at + 1)) > 0:
        raw[at + 42 : at + 46] = bytes(4)
    return as_file(place, bytes(raw))


@attack("another name in the directory than before the content", "canonical")
def zip_two_names(place: Path) -> Path:
    raw = zip_bytes(good())
    at = raw.index(b"PK\1\2")
    return as_file(place, raw[:at] + raw[at:].replace(b"graph.json", b"Graph.json"))


@attack("data behind the archive", "canonical")
def zip_trailing(place: Path) -> Path:
    return as_file(place, zip_bytes(good()) + b"#!/bin/sh\n")


@attack("a program before the archive: one file, two meanings", "no packet file")
def zip_leading(place: Path) -> Path:
    return as_file(place, b"#!/bin/sh\nexit\n" + zip_bytes(good()))


@attack("a comment that carries whatever one likes", "canonical")
def zip_comment(place: Path) -> Path:
    return zipped(place, entries(), comment=b"hidden")


@attack("an extra field that carries whatever one likes", "canonical")
def zip_extra_field(place: Path) -> Path:
    raw = zip_bytes(good())
    return as_file(place, raw[:28] + struct.pack("<H", 4) + raw[30:43] + b"\0\0\0\0" + raw[43:])


@attack("an entry marked as encrypted", "encrypted")
def zip_encrypted(place: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[6] |= 1
    return as_file(place, bytes(raw))


@attack("a hundred thousand entries: a directory that fills the memory", "canonical")
def zip_many_entries(place: Path) -> Path:
    raw = zip_bytes(good())
    at = raw.index(b"PK\1\2")
    return as_file(place, raw[:at] + raw[at : at + 59] * 100_000 + raw[at:])


@attack("parts in another order, so that equal packets differ", "canonical")
def zip_order(place: Path) -> Path:
    return zipped(place, entries()[::-1])


@attack("a file cut off in the middle", "ends within|no packet file")
def zip_truncated(place: Path) -> Path:
    raw = zip_bytes(good())
    return as_file(place, raw[: len(raw) // 2])


@attack("a part that links to a file outside, whose content is even the signed one", "is a link")
def link_out(place: Path) -> Path:
    outside = place.with_name(place.name + "-outside")
    outside.write_bytes(good()["graph.json"])
    as_directory(good(), place)
    (place / "graph.json").unlink()
    (place / "graph.json").symlink_to(outside)
    return place


@attack("a part that links to an endless device", "is a link")
def link_to_device(place: Path) -> Path:
    as_directory(good(), place)
    (place / "graph.json").unlink()
    (place / "graph.json").symlink_to("/dev/zero")
    return place


@attack("a part that links to itself", "is a link")
def link_loop(place: Path) -> Path:
    as_directory(good(), place)
    (place / "graph.json").unlink()
    (place / "graph.json").symlink_to("graph.json")
    return place


@attack("a hard link to a file outside", "is a link")
def hard_link(place: Path) -> Path:
    outside = place.with_name(place.name + "-outside")
    outside.write_bytes(good()["graph.json"])
    as_directory(good(), place)
    (place / "graph.json").unlink()
    os.link(outside, place / "graph.json")
    return place


@attack("a pipe that nobody writes to: reading it would wait for ever", "is no file")
def pipe(place: Path) -> Path:
    as_directory(good(), place)
    (place / "graph.json").unlink()
    os.mkfifo(place / "graph.json")
    return place


@attack("a socket in place of a part", "is no file")
def unix_socket(place: Path) -> Path:
    as_directory(good(), place)
    (place / "graph.json").unlink()
    here = Path.cwd()
    os.chdir(place)  # a socket's path may have 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("graph.json")
    finally:
        os.chdir(here)
    return place


@attack("a folder in place of a part", "is no file")
def folder_as_part(place: Path) -> Path:
    as_directory(good(), place)
    (place / "graph.json").unlink()
    (place / "graph.json").mkdir()
    return place


@attack("a file that no signature covers", "not part")
def foreign_file(place: Path) -> Path:
    as_directory(good(), place)
    (place / "setup.py").write_text("import os\n")
    return place


@attack("ten thousand files beside the parts", "not part|incomplete|is no packet")
def many_files(place: Path) -> Path:
    as_directory(good(), place)
    for i in range(10_000):
        (place / f"{i}").touch()
    return place


@attack("a text of a terabyte, which takes no space on the disk", "more than the .* allowed")
def sparse_text(place: Path) -> Path:
    as_directory(good(), place)
    os.truncate(place / "graph.json", 1 << 40)
    return place


@attack("tensors of a terabyte, which take no space on the disk", "more than the .* allowed")
def sparse_tensors(place: Path) -> Path:
    as_directory(good(), place)
    os.truncate(place / "concepts.safetensors", 1 << 40)
    return place


@attack("a part left out", "missing")
def part_missing(place: Path) -> Path:
    as_directory(good(), place)
    (place / "traces.safetensors").unlink()
    return place
