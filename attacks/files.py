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
def zip_traversal(path: Path) -> Path:
    return zipped(path, [*entries(), ("../evil", b"x")])


@attack("an absolute name", "not part")
def zip_absolute(path: Path) -> Path:
    return zipped(path, [("/tmp/m2kt-evil", b"x"), *entries()])


@attack("a name that climbs out on Windows", "not part|canonical")
def zip_backslash(path: Path) -> Path:
    return zipped(path, [*entries(), ("..\\evil", b"x")])


@attack("two entries of one name: one is checked, the other used", "twice")
def zip_twice(path: Path) -> Path:
    return zipped(path, [*entries(), ("program.json", b"{}")])


@attack("a deflated entry that unpacks to a thousand times its size", "compressed")
def zip_bomb(path: Path) -> Path:
    bomb = [(name, bytes(8 << 20) if name == "program.json" else content) for name, content in entries()]
    return zipped(path, bomb, zipfile.ZIP_DEFLATED)


@attack("a size of 4 GiB in the header of a small file", "more than the .* allowed")
def zip_declared_size(path: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[18:26] = struct.pack("<II", 2**32 - 1, 2**32 - 1)
    return as_file(path, bytes(raw))


@attack("a size within the limits but beyond the file's end", "ends within")
def zip_short_file(path: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[18:26] = struct.pack("<II", 1 << 20, 1 << 20)
    return as_file(path, bytes(raw))


@attack("directory entries that all point at the same bytes", "canonical")
def zip_overlap(path: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    offset = raw.index(b"PK\1\2")
    while (offset := raw.find(b"PK\1\2", offset + 1)) > 0:
        raw[offset + 42 : offset + 46] = bytes(4)
    return as_file(path, bytes(raw))


@attack("another name in the directory than before the content", "canonical")
def zip_two_names(path: Path) -> Path:
    raw = zip_bytes(good())
    offset = raw.index(b"PK\1\2")
    return as_file(path, raw[:offset] + raw[offset:].replace(b"program.json", b"Program.json"))


@attack("data after the archive", "canonical")
def zip_trailing(path: Path) -> Path:
    return as_file(path, zip_bytes(good()) + b"#!/bin/sh\n")


@attack("a program before the archive: one file, two meanings", "no packet file")
def zip_leading(path: Path) -> Path:
    return as_file(path, b"#!/bin/sh\nexit\n" + zip_bytes(good()))


@attack("a comment with arbitrary content", "canonical")
def zip_comment(path: Path) -> Path:
    return zipped(path, entries(), comment=b"hidden")


@attack("an extra field with arbitrary content", "canonical")
def zip_extra_field(path: Path) -> Path:
    raw = zip_bytes(good())
    return as_file(path, raw[:28] + struct.pack("<H", 4) + raw[30:43] + b"\0\0\0\0" + raw[43:])


@attack("an entry marked as encrypted", "encrypted")
def zip_encrypted(path: Path) -> Path:
    raw = bytearray(zip_bytes(good()))
    raw[6] |= 1
    return as_file(path, bytes(raw))


@attack("a hundred thousand entries: a directory that fills the memory", "canonical")
def zip_many_entries(path: Path) -> Path:
    raw = zip_bytes(good())
    offset = raw.index(b"PK\1\2")
    return as_file(path, raw[:offset] + raw[offset : offset + 59] * 100_000 + raw[offset:])


@attack("parts in another order, so that equal packets differ", "canonical")
def zip_order(path: Path) -> Path:
    return zipped(path, entries()[::-1])


@attack("a file cut off in the middle", "ends within|no packet file")
def zip_truncated(path: Path) -> Path:
    raw = zip_bytes(good())
    return as_file(path, raw[: len(raw) // 2])


@attack("a part that links to a file outside, with the signed content", "is a link")
def link_out(path: Path) -> Path:
    outside = path.with_name(path.name + "-outside")
    outside.write_bytes(good()["program.json"])
    as_directory(good(), path)
    (path / "program.json").unlink()
    (path / "program.json").symlink_to(outside)
    return path


@attack("a part that links to an endless device", "is a link")
def link_to_device(path: Path) -> Path:
    as_directory(good(), path)
    (path / "program.json").unlink()
    (path / "program.json").symlink_to("/dev/zero")
    return path


@attack("a part that links to itself", "is a link")
def link_loop(path: Path) -> Path:
    as_directory(good(), path)
    (path / "program.json").unlink()
    (path / "program.json").symlink_to("program.json")
    return path


@attack("a hard link to a file outside", "is a link")
def hard_link(path: Path) -> Path:
    outside = path.with_name(path.name + "-outside")
    outside.write_bytes(good()["program.json"])
    as_directory(good(), path)
    (path / "program.json").unlink()
    os.link(outside, path / "program.json")
    return path


@attack("a pipe without a writer: reading it never ends", "is no file")
def pipe(path: Path) -> Path:
    as_directory(good(), path)
    (path / "program.json").unlink()
    os.mkfifo(path / "program.json")
    return path


@attack("a socket instead of a part", "is no file")
def unix_socket(path: Path) -> Path:
    as_directory(good(), path)
    (path / "program.json").unlink()
    working = Path.cwd()
    os.chdir(path)  # a socket's path may have 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("program.json")
    finally:
        os.chdir(working)
    return path


@attack("a folder instead of a part", "is no file")
def folder_as_part(path: Path) -> Path:
    as_directory(good(), path)
    (path / "program.json").unlink()
    (path / "program.json").mkdir()
    return path


@attack("a file that no signature covers", "not part")
def foreign_file(path: Path) -> Path:
    as_directory(good(), path)
    (path / "setup.py").write_text("import os\n")
    return path


@attack("ten thousand files beside the parts", "not part|incomplete|is no packet")
def many_files(path: Path) -> Path:
    as_directory(good(), path)
    for i in range(10_000):
        (path / f"{i}").touch()
    return path


@attack("a text of a terabyte, which takes no space on the disk", "more than the .* allowed")
def sparse_text(path: Path) -> Path:
    as_directory(good(), path)
    os.truncate(path / "program.json", 1 << 40)
    return path


@attack("tensors of a terabyte, which take no space on the disk", "more than the .* allowed")
def sparse_tensors(path: Path) -> Path:
    as_directory(good(), path)
    os.truncate(path / "concepts.safetensors", 1 << 40)
    return path


@attack("a missing part", "missing")
def part_missing(path: Path) -> Path:
    as_directory(good(), path)
    (path / "traces.safetensors").unlink()
    return path
