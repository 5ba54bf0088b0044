"""docs/format.md, rule by rule: ``test_F12_...`` is for rule F12. Every rule has one, and none is left over."""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import json
import math
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from attacks.__main__ import ATTACKS
from attacks._forge import GOOD, as_directory, edited, good, resign
from m2kt.errors import PacketError, SpecError
from m2kt.packet import (
    Answer,
    Back,
    Case,
    Count,
    Equal,
    Here,
    It,
    Kind,
    Leaf,
    Mask,
    Move,
    Packet,
    Pointer,
    ProgramExecutor,
    Ranking,
    Relation,
    Same,
    Seek,
    Start,
    State,
    Tally,
    Trace,
    Value,
    Where,
    WriteCopy,
    WriteLiteral,
    WriteRule,
    fixed_lookup,
    leaves,
)
from m2kt.packet import Test as Ask
from m2kt.packet._describe import schemas
from m2kt.packet._json import canonical_json
from m2kt.packet._manifest import Equality, parse_manifest
from m2kt.packet._parts import LIMITS, PARTS, SPEC, TENSORS, read_parts, read_zip, zip_bytes
from m2kt.packet._tensors import DTYPES, read_arrays, write_arrays
from m2kt.probes import END, MASK, Chat, ProbeSpec, Prompt, Segmenter, Template, _answer
from tests.packet.samples import OUTPUTS, sample_packet, whole_packet
from tests.packet.work import MOST_CALLS, count_calls, count_search_steps

RULES = Path(__file__).parents[2] / "docs" / "format.md"
GOLDEN = GOOD.parent
OLDER = Path(__file__).parent / "golden"
FORMAT_1 = GOLDEN / "packet-v1.m2kp"


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Asserts that attacks of these names are refused, for the reasons they are made for."""

    def check(*names: str) -> None:
        for name in names:
            with pytest.raises(PacketError, match=ATTACKS[name].refusal):
                Packet.load(ATTACKS[name].write(tmp_path / name))

    return check


def changed(part: str, change: Callable[[Any], Any]) -> Packet:
    """The good packet with a part changed and signed anew, as it is loaded."""
    return Packet.from_parts(resign(edited(part, change)(good())))


def test_every_rule_has_a_test_and_every_test_a_rule() -> None:
    rules = [int(n) for n in re.findall(r"^\* \*\*F(\d+)\*\*", RULES.read_text(), re.MULTILINE)]
    assert rules == list(range(1, len(rules) + 1))
    tests = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    numbers = {int(m.group(1)) for name, _ in tests if (m := re.match(r"test_F(\d+)_", name))}
    assert numbers == set(rules)


Refused = Callable[..., None]


# -- version ----------------------------------------------------------------------------------------------------------
def test_F1_version(refused: Refused) -> None:
    assert json.loads(good()["manifest.json"])["format_version"] == 2
    refused("version-unknown", "version-missing", "version-true")
    with pytest.raises(PacketError, match="version 1 or 2, got 3"):  # whatever else is new in it
        changed("manifest.json", lambda m: {"format_version": 3, "all": "different"})


def test_F2_unknown_parts(refused: Refused) -> None:
    refused(
        "foreign-file",
        "manifest-unknown-field",
        "program-unknown-step",
        "program-unknown-anchor",
        "program-unknown-question",
        "yaml-unknown-field",
        "signature-unknown-field",
    )
    arrays = dict(read_arrays(good()["concepts.safetensors"], ""))
    arrays["extra_KD"] = arrays["vectors_KD"]
    with pytest.raises(PacketError, match="format 1 does not know"):
        Packet.from_parts({**good(), "concepts.safetensors": write_arrays(arrays, "")}, verify=False)


def test_F3_sample_packets() -> None:
    for path in (GOOD, FORMAT_1):
        packet, recorded = Packet.load(path), json.loads(path.with_suffix(".json").read_text())
        assert packet.signature is not None and packet._parts is not None
        assert (packet.digest, packet.signature.keyid) == (recorded["digest"], recorded["keyid"])
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in packet._parts.items()}
        assert {**digests, path.name: hashlib.sha256(path.read_bytes()).hexdigest()} == recorded["sha256"]
    for path in OLDER.glob("*.m2kp"):
        assert Packet.load(path).signature is not None


# -- parts ------------------------------------------------------------------------------------------------------------
def test_F4_parts_and_limits(refused: Refused) -> None:
    limits = re.findall(r"^\| `([^`]+)` \| .* \| (\d+) ([MG]iB) \|$", RULES.read_text(), re.MULTILINE)
    units = {"MiB": 1 << 20, "GiB": 1 << 30}
    assert [name for name, _, _ in limits] == list(PARTS)
    assert {name: int(n) * units[unit] for name, n, unit in limits} == {name: LIMITS[name] for name in PARTS}
    refused("part-missing", "foreign-file", "sparse-text", "sparse-tensors", "zip-declared-size")


def test_F5_directories(refused: Refused, tmp_path: Path) -> None:
    path = as_directory(good(), tmp_path / "p")
    (path / ".hidden").write_text("not read")
    Packet.load(path)
    refused(
        "link-out",
        "link-to-device",
        "link-loop",
        "hard-link",
        "pipe",
        "unix-socket",
        "folder-as-part",
        "foreign-file",
    )


def test_F6_single_files() -> None:
    with zipfile.ZipFile(GOOD) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(PARTS)
        assert {name: archive.read(name) for name in PARTS} == good()
    raw, at = GOOD.read_bytes(), 0
    for name in PARTS:  # the numbers of the rule
        n = len(good()[name])
        head = struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 0x21)
        assert raw[at : at + 14] == head
        assert struct.unpack_from("<2I2H", raw, at + 18) == (n, n, len(name), 0)
        at += 30 + len(name) + n
    assert raw[at : at + 8] == struct.pack("<4s2H", b"PK\1\2", 0x314, 20)
    assert struct.unpack_from("<I", raw, at + 38) == (0x81A40000,)
    assert raw[-22:-6] == struct.pack("<4s4HI", b"PK\5\6", 0, 0, 8, 8, len(raw) - 22 - at)


def test_F7_no_other_frame(refused: Refused) -> None:
    refused(*(name for name in ATTACKS if name.startswith("zip-")))


def test_F8_both_forms(tmp_path: Path) -> None:
    packet = Packet.load(GOOD)
    packet.save(tmp_path / "d")
    again = Packet.load(tmp_path / "d")
    assert again.signature == packet.signature
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == good()
    assert again.save(tmp_path / "f.m2kp").read_bytes() == GOOD.read_bytes() == zip_bytes(good())


def test_F9_writers(tmp_path: Path) -> None:
    packet = whole_packet()
    silly = packet.replace(manifest=packet.manifest.model_copy(update={"name": "\x1b[2J"}))
    with pytest.raises(PacketError, match="unprintable"):
        silly.save(tmp_path / "p")
    assert not list(tmp_path.iterdir())  # failing disks: tests/packet/test_packet.py


# -- JSON -------------------------------------------------------------------------------------------------------------
def test_F10_canonical_json(refused: Refused) -> None:
    data = {"b": [1, {"z": [], "a": {}}], "a": 'é"\\/\n\r\t\b\f\x1f\u2028'}
    lines = [
        "{",
        ' "a": "é\\"\\\\/\\n\\r\\t\\b\\f\\u001f\u2028",',
        ' "b": [',
        "  1,",
        "  {",
        '   "a": {},',
        '   "z": []',
        "  }",
        " ]",
        "}",
    ]
    assert canonical_json(data).decode() == "\n".join([*lines, ""])
    refused("json-not-utf-8", "json-byte-order-mark", "json-utf-16", "json-null-byte", "json-lone-surrogate")


def test_F11_numbers(refused: Refused) -> None:
    numbers = [1.0, 0.005, 0.0001, 1e-05, 1e15, 1e16, 1.5e16, -0.0, 0.1 + 0.2, 7]
    written = ["1.0", "0.005", "0.0001", "1e-05", "1000000000000000.0", "1e+16", "1.5e+16", "-0.0"]
    assert canonical_json(numbers).decode().split()[1:-1] == [f"{n}," for n in [*written, "0.30000000000000004"]] + [
        "7"
    ]
    refused(
        "json-long-integer",
        "json-big-integer",
        "json-nan",
        "json-infinite",
        "json-float-index",
        "json-bool-index",
    )


@pytest.mark.long
def test_F12_depth_and_number(refused: Refused) -> None:
    refused("json-deep", "json-deep-objects", "json-many-brackets")
    nested: Any = []
    for _ in range(124):  # with the levels of manifest, config and list: 127
        nested = [nested]
    assert changed("manifest.json", lambda m: m.update(config={"x": nested})).manifest.config
    with pytest.raises(PacketError, match="nested deeper"):
        changed("manifest.json", lambda m: m.update(config={"x": [[[nested]]]}))
    assert changed(
        "manifest.json", lambda m: m.update(notes=["[" * 1000 + '\\"[' * 500])
    )  # within a text they are none


def test_F13_canonical_form(refused: Refused) -> None:
    refused("json-key-twice", "json-spaces", "json-escapes", "json-text-index", "manifest-field-missing")


@pytest.mark.parametrize("text", ["\0", "\b", "\x1b[0m", "\x7f", "\x85", "\u202e", "\u2066", "a\\\x07"])
def test_F14_unprintable(text: str, refused: Refused) -> None:
    refused("manifest-lines")
    for change in (
        lambda: changed("manifest.json", lambda m: m.update(notes=[text])),
        lambda: changed("program.json", lambda g: g["rules"][0].update(name=text)),
        lambda: Packet.from_parts(resign({**good(), "README.md": text.encode()})),
    ):
        with pytest.raises(PacketError, match="unprintable"):
            change()
    for fine in ("a\tb\nc\r", "\\b \\u0007", "€ 日本 \u200f", "\\\\b"):
        assert changed("manifest.json", lambda m, fine=fine: m.update(notes=[fine])).manifest.notes == [fine]
    for end in (END, f"x{END}", f'"{END}'):  # only a whole text of the program may be the end
        with pytest.raises(PacketError, match="unprintable"):
            changed("manifest.json", lambda m, end=end: m.update(notes=[end]))
        with pytest.raises(PacketError, match="unprintable" if len(end) > 1 else "for a symbol"):
            changed("program.json", lambda g, end=end: g["symbols"].__setitem__(0, end))
    refused("yaml-terminal", "card-terminal", "manifest-turned-text")


# -- digests ----------------------------------------------------------------------------------------------------------
def test_F15_digests_of_parts(refused: Refused) -> None:
    files = json.loads(good()["manifest.json"])["files"]
    covered = {n: c for n, c in good().items() if n not in ("manifest.json", "signature.json")}
    assert files == {name: hashlib.sha256(content).hexdigest() for name, content in covered.items()}
    refused("signature-manifest-lies")


def test_F16_digest_of_the_packet() -> None:
    assert Packet.load(GOOD).digest == "sha256:" + hashlib.sha256(good()["manifest.json"]).hexdigest()


def with_one_more(raw: bytes) -> bytes:
    return write_arrays({**read_arrays(raw, ""), "other_x": np.zeros(1, np.int8)}, "")


@pytest.mark.parametrize("version", [1, 2])
def test_F16_one_digest_one_packet(version: int, tmp_path: Path) -> None:
    """A twin whose files are written in another way, or say something else, has another digest, also in memory."""
    golden = GOOD.with_name(f"packet-v{version}.m2kp")
    raw = golden.read_bytes()
    parts = read_zip(io.BytesIO(raw), len(raw), str(golden))
    twins = {
        "comment": {SPEC: parts[SPEC] + b"# another text\n"},
        "quotes": {SPEC: parts[SPEC].replace(b"name: ", b'"name": ', 1)},
        "card": {"README.md": b"# Audited and trusted.\n"},
        **{f"tensor in {name}": {name: with_one_more(parts[name])} for name in TENSORS[1:]},
        "both": {SPEC: parts[SPEC] + b"# x\n", "README.md": b"# Audited.\n"},
    }
    digests = {"honest": Packet.load(golden).digest}
    for name, changed in twins.items():
        path = as_directory(resign(parts | changed), tmp_path / name)
        twin = Packet.load(path)
        digests[name] = twin.digest
        assert twin.digest == "sha256:" + hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
        if version == 2:  # as it was read, with its signature
            again = twin.save(tmp_path / f"{name}-again")
            assert all((again / p.name).read_bytes() == p.read_bytes() for p in path.iterdir())
    assert len(set(digests.values())) == len(digests)


def test_F17_ledger(refused: Refused) -> None:
    ledger = Packet.load(GOOD).manifest.ledger
    content = (
        "probes.yaml",
        "program.json",
        "concepts.safetensors",
        "attention.safetensors",
        "traces.safetensors",
    )
    assert (ledger.concepts, ledger.packet_bytes) == (9, sum(len(good()[name]) for name in content))
    refused("signature-ledger-lies")


# -- tensors ----------------------------------------------------------------------------------------------------------
def test_F18_tensor_files() -> None:
    from safetensors.numpy import load, save

    names = dict(zip(DTYPES, "abcdefghijkl", strict=True))
    every = {f"x{'' if c == 'a' else c}_{c}": np.arange(2).astype(DTYPES[kind]) for kind, c in names.items()}
    raw = write_arrays(every, "x")
    assert raw == save(every) and write_arrays({}, "x") == save({})  # the safetensors library writes the same
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0 and re.findall(r'"dtype":"(\w+)"', raw[8 : 8 + length].decode()) == list(DTYPES)
    for name, array in load(raw).items():
        np.testing.assert_array_equal(read_arrays(raw, "x")[name], array)


def test_F19_headers(refused: Refused) -> None:
    refused("header-huge", "header-beyond-file", "header-deep", "tensors-too-many")
    refused("shape-overflow", "shape-negative", "shape-many-axes", "shape-huge", "shape-empty")


def test_F20_no_other_tensor_file(refused: Refused) -> None:
    refused("header-not-json", "header-key-twice", "header-metadata", "header-foreign-key", "tensors-overlap")
    refused("tensors-hole", "tensors-trailing", "tensors-cut", "type-unknown", "type-object")

    raw = write_arrays({"x_K": np.array([True, False])}, "x")
    with pytest.raises(PacketError, match="booleans"):
        read_arrays(raw[:-1] + b"\2", "x")


def test_F21_names_are_shapes(refused: Refused) -> None:
    refused("rows-short", "width-wrong")
    packet = whole_packet()
    for name, shape, message in (
        ("more_K", (8,), "expected 9 at axis 0"),
        ("more_L", (2,), "expected 3 at axis 0"),
        ("more_M", (4,), "M: as in"),
        ("more_3", (4,), "expected 3 at axis 0"),
        ("more_KD", (9,), "has 1 axes"),
    ):
        with pytest.raises(PacketError, match=message):
            packet.replace(attention={**packet.attention, name: np.zeros(shape, np.float32)}).check()
    packet.replace(attention={**packet.attention, "more_xk": np.zeros((9, 7), np.float32)}).check()


def test_F22_numbers(refused: Refused) -> None:
    refused("not-a-number", "infinity", "huge-values")


def test_F23_concepts(refused: Refused) -> None:
    named = set(re.findall(r"^\| `(\w+)` \| (?:floats|integers)", RULES.read_text(), re.MULTILINE))
    assert named == Packet.load(GOOD).concepts.arrays().keys()
    refused("type-wrong", "support-negative", "label-out-of-range", "label-negative")


def test_F24_attention(refused: Refused) -> None:
    assert {"edges_M4", "weight_MLH", "effect_M", "causal_M"} == Packet.load(GOOD).attention.keys()
    refused("edge-out-of-range", "edge-negative-leaf")
    packet = whole_packet()
    for row in ([8, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1], [0, 0, 0, -2]):
        edges = np.array([row] * 3, np.int32)
        with pytest.raises(PacketError):
            packet.replace(attention={**packet.attention, "edges_M4": edges}).check()


def test_F25_traces(refused: Refused) -> None:
    refused("confidence-of-more-than-one")
    packet = whole_packet()
    for number in (-0.1, 1.1):
        with pytest.raises(PacketError, match="probabilities"):
            packet.replace(traces={"confidence_K": np.full(packet.n_concepts, number, np.float32)}).check()
    with pytest.raises(PacketError, match="rule rows"):
        packet.replace(traces={"confidence_K": np.ones(packet.n_concepts + 1, np.float32)}).check()
    assert {"states_MD", "where_M3"} == packet.traces.keys()
    for row in ([8, 0, 0], [-1, 0, 0], [0, -1, 0], [0, 0, -1]):
        with pytest.raises(PacketError):
            packet.replace(traces={**packet.traces, "where_M3": np.array([row] * 5, np.int32)}).check()


# -- manifest ---------------------------------------------------------------------------------------------------------
def test_F26_manifest() -> None:
    assert json.loads(good()["manifest.json"]).keys() == set(schemas()["manifest"]["required"])
    for field, value in (("name", ""), ("teacher", {}), ("seed", "0"), ("notes", "x"), ("fallback", 2)):
        with pytest.raises(PacketError, match=r"manifest\.json"):
            changed("manifest.json", lambda m, field=field, value=value: m.update({field: value}))


def test_F27_verbalised(refused: Refused) -> None:
    refused("manifest-silent")


def test_F28_layers_and_shares(refused: Refused) -> None:
    refused("manifest-layer", "manifest-share-over-one")


# -- program ----------------------------------------------------------------------------------------------------------
def test_F29_program(refused: Refused) -> None:
    assert json.loads(good()["program.json"]).keys() == set(schemas()["program"]["required"])
    refused("program-unknown-step", "program-negative-argument", "program-granularity")


def test_F30_symbols(refused: Refused) -> None:
    refused("symbol-twice", "symbol-composed", "symbol-no-width", "symbol-empty")
    refused("program-classes-short", "program-classes-negative")


def test_F31_rules(refused: Refused) -> None:
    refused("rule-offset")
    with pytest.raises(PacketError, match="two rules have one name"):
        empty = {"rows": [], "outputs": [], "offset": 9}
        changed("program.json", lambda g: g["rules"].append({**g["rules"][0], **empty}))


def test_F32_rows(refused: Refused) -> None:
    refused(
        "rule-rows-and-outputs",
        "rule-symbol-beyond",
        "rule-symbol-negative",
        "rule-rows-twice",
        "rule-many-arguments",
    )
    with pytest.raises(PacketError, match="different numbers of arguments"):
        other = {"rows": [], "outputs": [], "offset": 9, "name": "other", "arity": 1}
        changed("program.json", lambda g: g["rules"].append({**g["rules"][0], **other}))


def test_F33_stop(refused: Refused) -> None:
    refused("program-other-stop", "program-foreign-end")
    packet = _ending_by_a_token()
    assert packet.program.stop == END and packet.spec.stop is None
    prompt = packet.spec.sample("evaluation", 1, seed=0)[0]
    trace = ProgramExecutor(packet.program)(prompt, fixed_lookup(OUTPUTS, packet.program))
    assert trace.complete and trace.completion.count(END) == 1 and trace.units[-1].text == END
    assert packet.spec.completion_text(trace.completion) == trace.completion[:-1]


def _ending_by_a_token() -> Packet:
    """The good packet, as a teacher's whose answers end by a token."""
    parts = {name: content.replace(b'"\\n"', b'"\\u0004"') for name, content in good().items()}
    spec = Packet.load(GOOD).spec.settled(None)
    return Packet.from_parts(
        resign({**good(), "program.json": parts["program.json"], "probes.yaml": spec.to_yaml().encode()})
    )


def test_F34_states(refused: Refused) -> None:
    refused("program-state-twice", "program-state-no-name")
    packet = whole_packet()
    for after, message in (((" □0", ""), "none empty"), (("x",) * 4097, "expected 1 to 4096")):
        states = [*packet.program.states, State(after=after, decision=WriteLiteral(text="."))]
        with pytest.raises(PacketError, match=message):
            _with_states(packet, states).check()
    many = [State(after=(str(i), *["x"] * 4095), decision=WriteLiteral(text=".")) for i in range(123)]
    with pytest.raises(PacketError, match="more than 500000 masks"):
        _with_states(packet, many).check()
    failure = _rollout(_with_states(packet, packet.program.states[1:])).failure
    assert failure is not None and failure.what == "node"


def _with_states(packet: Packet, states: list[State]) -> Packet:
    return packet.replace(program=packet.program.model_copy(update={"states": states}))


def _rollout(packet: Packet, outputs: list[int] = OUTPUTS, **options: Any) -> Trace:
    prompt = packet.spec._shapes[0].fill(("a", "b"), template=0, held_out=False)
    return ProgramExecutor(packet.program, **options)(prompt, fixed_lookup(outputs, packet.program))


def test_F35_pointers(refused: Refused) -> None:
    refused("program-state-beyond", "program-pointers-deep", "program-many-pointers", "program-symbol-beyond")
    refused("program-symbol-negative", "program-class-beyond", "program-class-no-number", "program-class-empty")
    refused("program-class-behind-space")
    refused("program-word", "program-word-null")
    kinds = {type(p) for s in Packet.load(GOOD).program.states for d in leaves(s.decision) for p in _pointers(d)}
    assert {kind.__name__ for kind in kinds} == {"Start", "Move", "Seek"}


def _pointers(leaf: Leaf) -> list[Pointer]:
    return [] if isinstance(leaf, WriteLiteral) else leaf.sources if isinstance(leaf, WriteRule) else [leaf.source]


def test_F36_leaves(refused: Refused) -> None:
    refused("program-lead", "program-says-nothing", "program-false-literal", "program-arguments", "program-rule-beyond")


def test_F37_tests(refused: Refused) -> None:
    refused("program-cases-overlap", "program-case-empty", "program-case-beyond", "program-case-of-another-kind")
    refused("program-tests-deep", "program-cases-differ-by-space")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finds": (0,)}, "a relation has 2 rows, but finds 1 values"),
        ({"finds": (0, -1)}, "a relation has 2 rows, but finds 2 values"),
        ({"rows": ((0, 1), (0, 1))}, "a relation has a row twice"),
        ({"rows": ((0, 1), (1,))}, "a relation of 2 has rows of other lengths"),
        ({"rows": ((0, 1), (1, 3))}, "a relation of 2 has rows of other lengths, or of symbols that do not exist"),
        ({"finds": (0, 2)}, "a test expects what its question cannot find"),
        ({}, None),
    ],
)
def test_F37_relations(change: dict[str, object], message: str | None) -> None:
    arguments = (Move(of=Here(), by=-1), Move(of=Here(), by=-2))
    relation = Relation(of=arguments, rows=((0, 1), (1, 0)), finds=(0, 1)).model_copy(update=change)
    cases = [Case(values=[found], then=WriteLiteral(text="x")) for found in (0, 1)]
    packet = _with_states(sample_packet(), [State(after=("",), decision=Ask(ask=relation, cases=cases))])
    if message is None:
        packet.check()
    else:
        with pytest.raises(PacketError, match=message):
            packet.check()


@pytest.mark.parametrize(
    ("own", "values", "message"),
    [
        (MASK, [0, 3], None),
        (MASK, [None], None),
        (MASK, [-1], "a test expects what its question cannot find"),
        (MASK, [True], "a test expects what its question cannot find"),
        (MASK, [0, 0], "a test's cases overlap"),
        (99, [0], "looks for 99; expected a symbol id"),
    ],
)
def test_F37_tallies(own: str | int, values: list[Value], message: str | None) -> None:
    cases = [Case(values=values, then=WriteLiteral(text="x"))]
    ask = Tally(count=Kind(own=own), since=Answer())
    packet = _with_states(sample_packet(), [State(after=("",), decision=Ask(ask=ask, cases=cases))])
    if message is None:
        packet.check()
    else:
        with pytest.raises(PacketError, match=message):
            packet.check()


_LETTER = Kind(own=MASK)
_BELOW = Relation(of=(It(), Move(of=Here(), by=-1)), rows=((0, 1), (1, 0)), finds=(1, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"where": [Where(ask=_BELOW, finds=1)]}, None),
        ({"where": [Where(ask=Equal(at=It(), as_=Start()), finds=True, holds=False)]}, None),
        ({"where": [Where(ask=_BELOW, finds=2)]}, "a condition expects what its question cannot find"),
        ({"where": [Where(ask=Equal(at=It(), as_=Start()), finds=1)]}, "a condition expects what its question"),
        (
            {"where": [Where(ask=_BELOW.model_copy(update={"finds": (1,)}), finds=1)]},
            "a relation has 2 rows, but finds 1",
        ),
        ({"where": [Where(ask=Tally(count=Kind(own=99), since=It()), finds=1)]}, "looks for 99"),
        ({"of": It()}, "has the pointer 'it' outside the conditions of a search"),
        ({"where": [Where(ask=Mask(at=Back(state="nowhere")), finds=None)]}, "which does not exist"),
    ],
)
def test_F66_conditions(change: dict[str, object], message: str | None) -> None:
    _checked(Seek(of=Start(), step=1, kind=_LETTER).model_copy(update=change), message)


@pytest.mark.parametrize(
    ("before", "until", "message"),
    [
        (((0, 1), (1, 2), (0, 2)), Answer(), None),
        (((0, 1), (1, 0)), Answer(), "a ranking has a pair twice, or says both of two symbols come first"),
        (((1, 1),), Answer(), "a ranking has a pair twice, or says both of two symbols come first"),
        (((0, 1), (0, 1)), Answer(), "a ranking has a pair twice"),
        (((0, 99),), Answer(), "a ranking is about symbols that do not exist"),
        (((0, 1),), It(), "has the pointer 'it' outside"),
    ],
)
def test_F67_ranks(before: tuple[tuple[int, int], ...], until: Pointer, message: str | None) -> None:
    _checked(Seek(of=Start(), step=1, kind=_LETTER, rank=Ranking(before=before, until=until)), message)


def _checked(pointer: Pointer, message: str | None) -> None:
    packet = _with_states(sample_packet(), [State(after=("",), decision=WriteCopy(source=pointer))])
    if message is None:
        packet.check()
    else:
        with pytest.raises(PacketError, match=message):
            packet.check()


def test_F66_F67_searches_end_where_they_lack_a_row() -> None:
    """Not a guess: the rollout ends and says so. A unit that is no symbol is in no relation, and is gone past."""
    packet = Packet.load(GOOD)
    for change in (
        {"where": [Where(ask=Relation(of=(It(),), rows=(), finds=()), finds=0)]},
        {"rank": Ranking(before=(), until=Answer())},
    ):
        seek = Seek(of=Start(), step=1, kind=_LETTER).model_copy(update=change)
        program = packet.program.model_copy(update={"states": [State(after=("",), decision=WriteCopy(source=seek))]})
        prompt = packet.spec._shapes[1].fill(("a", "b", "c"), template=1, held_out=False)
        failure = ProgramExecutor(program)(prompt, fixed_lookup(OUTPUTS, packet.program)).failure
        assert failure is not None and failure.what == "row"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("equality", {"dtype": "bfloat16", "tokens": 64, "greedy": 0.97, "cosine": 0.99}, "total_variation"),
        ("equality", None, "canonical"),
        ("equality", "exact", "equality"),
        ("ledger", {"teacher_tokens": -1}, "teacher_tokens"),
        ("ledger", {"teacher_tokens_shared": None}, "canonical"),
    ],
)
def test_F68_how_the_teacher_was_computed(field: str, value: object, message: str) -> None:
    whole = {"dtype": "bfloat16", "tokens": 64, "greedy": 0.97, "cosine": 0.99}
    whole |= {"total_variation": 0.01, "total_variation_max": 0.07}
    manifest = sample_packet().manifest
    counted = manifest.ledger.model_copy(update={"teacher_tokens": 9, "teacher_tokens_shared": 0})
    manifest = manifest.model_copy(update={"equality": Equality.model_validate(whole), "ledger": counted})
    raw = canonical_json(manifest.model_dump(mode="json"))
    assert parse_manifest(raw, "p").equality == manifest.equality
    data = json.loads(raw)
    old = {**data, "format_version": 1}
    with pytest.raises(PacketError):
        parse_manifest(canonical_json(old), "p")
    data[field] = {**data[field], **value} if field == "ledger" and isinstance(value, dict) else value
    with pytest.raises(PacketError, match=message):
        parse_manifest(canonical_json(data), "p")


def test_F40_conditions_within_conditions_end() -> None:
    """Each search asks another one about each unit: what that costs is counted within a step too."""
    pointer: Pointer = It()
    for _ in range(16):
        never = Where(ask=Mask(at=pointer), finds="never")
        pointer = Seek(of=Start(), step=1, kind=Kind(own=None), where=[never])
    test = Ask(ask=Mask(at=pointer), cases=[Case(values=["x"], then=WriteLiteral(text="x"))])
    packet = _with_states(sample_packet(), [State(after=("",), decision=test)])
    packet.check()
    failure = _rollout(packet).failure
    assert failure is not None and failure.what == "length"


def test_F37_a_relation_has_arguments() -> None:
    with pytest.raises(ValidationError, match="of"):
        Relation(of=(), rows=(), finds=())


def test_F38_units() -> None:
    packet = Packet.load(GOOD)
    prompt = packet.spec.sample("probing", 1, seed=0, templates=[1])[0]
    units = ProgramExecutor(packet.program).prompt_units(prompt)
    assert [(u.lead, u.symbol is None) for u in units] == [("", False), (" ", False), (" ", False), ("", True)]
    assert units[-1].text == ":" and "".join(u.text for u in units) == prompt.text
    slots = {"w": {"values": ["12", "New York"]}}
    spec = ProbeSpec.model_validate({"name": "n", "slots": slots, "templates": ["Is {w}, so?"], "stop": "\n"})
    asked = _fill(spec, "New York")
    program = packet.program.model_copy(update={"symbols": ["12", "New York"], "classes": [0, 0]})
    assert [u.text for u in ProgramExecutor(program).prompt_units(asked)] == [
        "Is",
        asked.units[1].text,
        ",",
        " so",
        "?",
    ]
    cut = program.model_copy(update={"symbols": ["1", "2"], "granularity": "digits"})
    assert [u.text for u in ProgramExecutor(cut).prompt_units(_fill(spec, "12"))] == ["Is", " 1", "2", ",", " so", "?"]


def _fill(spec: ProbeSpec, value: str) -> Prompt:
    return spec._shapes[0].fill((value,), template=0, held_out=False)


def test_F39_rollout() -> None:
    packet = Packet.load(GOOD)
    executor, lookup = ProgramExecutor(packet.program), fixed_lookup(OUTPUTS, packet.program)
    shape = packet.spec._shapes[1]
    for values, written in ((("a", "b", "c"), " a b a; a c b > b.\n"), (("c", "a", "b"), " c a a; a b a > a.\n")):
        trace = executor(shape.fill(values, template=1, held_out=False), lookup)
        assert (trace.completion, trace.complete) == (written, True)
    longer = Template(" ".join(["{x}"] * 12) + ":", {"x": ["a", "b", "c"]})  # never probed
    trace = executor(longer.fill(tuple("abcabcabcabc"), template=0, held_out=True), lookup)
    assert trace.complete and trace.completion.count(";") == 10


def test_an_executor_writes_what_the_given_lookup_returns() -> None:
    """Not what it remembers of another: rehearsal shuffles the table from trace to trace."""
    packet = Packet.load(GOOD)
    executor = ProgramExecutor(packet.program)
    prompt = packet.spec._shapes[1].fill(("a", "b", "c"), template=1, held_out=False)
    for outputs in (OUTPUTS, [(symbol + 1) % 3 for symbol in OUTPUTS], OUTPUTS):
        lookup = fixed_lookup(outputs, packet.program)
        trace, fresh = executor(prompt, lookup), ProgramExecutor(packet.program)(prompt, lookup)
        assert trace == fresh
        ruled = [unit for unit in trace.units if unit.kind == "rule"]
        assert ruled and all(unit.symbol == outputs[packet.program.concept(unit)] for unit in ruled)


def test_F40_incomplete_rollouts() -> None:
    packet = Packet.load(GOOD)
    assert _rollout(packet, max_units=3).failure.what == "length"  # type: ignore[union-attr]
    rule = packet.program.rules[0]
    fewer = rule.model_copy(update={"rows": rule.rows[2:], "outputs": rule.outputs[2:]})
    trace = _rollout(packet.replace(program=packet.program.model_copy(update={"rules": [fewer]})))
    assert not trace.complete and trace.failure is not None and trace.failure.what == "row"


def test_F40_an_endless_program_ends() -> None:
    """Two look-ups past all that is written, at every step, for ever."""
    key = Same(as_=Move(of=Here(), by=-1))
    never = Seek(of=Start(), step=1, kind=Kind(own=None), same=[key], nth=Count(plus=10**6))
    test = Ask(ask=Equal(at=never, as_=never), cases=[Case(values=[False], then=WriteLiteral(text="x"))])
    packet = _with_states(sample_packet(), [State(after=("",), decision=test), State(after=("x",), decision=test)])
    packet.check()
    failure = _rollout(packet).failure
    assert failure is not None and failure.what == "length"
    assert len(_rollout(packet).units) < 4096  # it was the look-ups


# -- spec -------------------------------------------------------------------------------------------------------------
def test_F41_plain_yaml(refused: Refused) -> None:
    refused(*(name for name in ATTACKS if name.startswith("yaml-")))


def test_F42_spec(refused: Refused) -> None:
    refused("spec-truth", "spec-no-end", "spec-several-ends", "yaml-unknown-field")


def _with_answer(answer: str) -> ProbeSpec:
    return ProbeSpec.model_validate({**Packet.load(GOOD).spec.model_dump(), "answer": answer})


def test_F43_answers(refused: Refused) -> None:
    refused("answer-nested", "answer-alternatives", "answer-back-reference", "answer-look-ahead")
    completions = {"> a.": "a", "= 12.": "12", "x -3.5;": "-3.5"}
    answers = [r"> ?(.+)\.", r"= (\d{1,9}|T|F)\.$", r"^x (-?[0-9]{1,9}(?:\.\d{1,9})?);"]
    for answer, (completion, read) in zip(answers, completions.items(), strict=True):
        assert _with_answer(answer).read_answer(completion) == read
    for bad in ("x" * 300 + "(a)", "(a)++", "(?P<x>a)", "(" * 17 + ")" * 17, "[a", "a{1", "abc"):
        with pytest.raises(ValueError, match="answer"):
            _with_answer(bad)


def test_F44_steps(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("answer-many-stars", "answer-many-options", "answer-long-tail")
    monkeypatch.setattr(_answer, "TEXT", 64)  # the formula is the same for any length
    slowest = 0.0
    for answer in (r"> ?(.+)\.", r"(.+)(?:\.|$)x", "(.*)aaaaaaaaab", "(a?).{0,9}b", "(?:a|aa|aaa)?.*(b)"):
        for text in ("a" * 64, "> " * 32, "." * 64):
            share = count_search_steps(answer, text) / _answer.count_steps(answer)
            assert share <= 1
            slowest = max(slowest, share)
    assert slowest > 0.3  # so the bound is not far from what a search can take


def test_F45_searched_characters() -> None:
    spec = _with_answer("(x)")
    assert spec.read_answer("." * 4095 + "x") == "x"
    assert spec.read_answer("." * 4096 + "x") is None
    assert spec.read_answer("." + spec.stop + "x") is None


def test_F46_card(refused: Refused) -> None:
    refused("card-script", "card-image", "card-not-utf-8")
    packet = whole_packet()
    loud = packet.replace(manifest=packet.manifest.model_copy(update={"notes": ["<script>alert(1)</script>"]}))
    card = loud._fresh_parts()["README.md"].decode()
    assert "&lt;script>" in card and "<script" not in card


# -- signature --------------------------------------------------------------------------------------------------------
def test_F47_envelope(refused: Refused) -> None:
    refused("signature-emptied", "signature-no-signatures", "signature-other-payload", "signature-slack-bits")
    refused("signature-twice", "signature-unknown-field", "signature-deep")


def test_F48_to_F50_are_enough_for_a_second_implementation() -> None:
    """The sample packet read with hashes, Ed25519, json and struct alone."""
    _second_reader()


def test_F48_statement() -> None:
    statement = _second_reader()[0]
    assert list(statement) == sorted(statement)
    assert (statement["_type"], statement["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "urn:m2kt:packet:v1",
    )
    assert statement["subject"] == [
        {"name": name, "digest": {"sha256": hashlib.sha256(good()[name]).hexdigest()}}
        for name in sorted(set(PARTS) - {"signature.json"})
    ]
    assert statement["predicate"].keys() == {"packet", "key"}


def test_F49_key_ids() -> None:
    key = _second_reader()[0]["predicate"]["key"]
    text = '{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}' % key["keyval"]["public"]  # noqa: UP031
    assert hashlib.sha256(text.encode()).hexdigest() == key["keyid"]


def test_F50_signature() -> None:
    assert _second_reader()[1] is None  # Ed25519 raises where it does not hold


def _second_reader() -> tuple[dict[str, Any], None]:
    envelope = json.loads(good()["signature.json"])
    payload = base64.b64decode(envelope["payload"])
    statement = json.loads(payload)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(statement["predicate"]["key"]["keyval"]["public"]))
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    verified = key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    raw = good()["concepts.safetensors"]
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    begin, end = header["vectors_KD"]["data_offsets"]
    numbers = struct.unpack(f"<{math.prod(header['vectors_KD']['shape'])}f", raw[8 + length :][begin:end])
    np.testing.assert_array_equal(Packet.load(GOOD).concepts.vectors_KD.reshape(-1), numbers)
    return statement, verified


def test_F51_verification(refused: Refused) -> None:
    refused("signature-of-another", "signature-other-content", "signature-other-statement", "signature-owner-key")
    refused("signature-covers-less", "signature-covers-more", "signature-second", "signature-without-key")
    for name in PARTS:  # single bits at even distances; tests/fuzz does it at random
        for bit in range(0, 8 * len(good()[name]), max(1, len(good()[name]) // 4)):
            flipped = bytearray(good()[name])
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(PacketError):
                Packet.from_parts({**good(), name: bytes(flipped)})


def test_F52_signature_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from m2kt.packet import _packet

    def never(*_: Any) -> None:
        raise AssertionError("parsed before the signature was checked")

    for name in ("parse_manifest", "parse_program", "parse_graph", "_read_spec", "read_arrays", "check_card"):
        monkeypatch.setattr(_packet, name, never)
    with pytest.raises(PacketError, match="edited after signing"):
        Packet.from_parts({**good(), "program.json": b"[" * 1000})


# -- readers ----------------------------------------------------------------------------------------------------------
def test_F53_errors(tmp_path: Path) -> None:
    assert PacketError.exit_code == 7
    for name in ("card-long-line", "yaml-date", "zip-traversal", "manifest-terminal", "shape-many-axes"):
        with pytest.raises(PacketError) as error:
            Packet.load(ATTACKS[name].write(tmp_path / name))
        assert str(error.value).isprintable() and len(str(error.value)) <= 600


def test_F54_no_code_is_run(tmp_path: Path) -> None:
    path = GOOD.resolve()
    opened: list[str] = []
    watched = ("exec", "compile", "import", "socket.connect", "subprocess.Popen", "os.system")
    on = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if on and event == "open":
            opened.append(f"{arguments[0]} {arguments[1]}")
        elif on and event in watched:
            opened.append(event)

    Packet.load(path)  # what is loaded once, such as codecs
    sys.addaudithook(audit)
    Packet.load(path)
    on = False
    assert [entry.removesuffix("b") for entry in opened] == [f"{path} r"]


@pytest.mark.long
def test_F55_work_and_memory(tmp_path: Path) -> None:
    """Each refusal stops at a limit, so that its work does not grow with the packet. Memory: tests/attacks."""
    for name in (
        "json-many-brackets",
        "json-long-integer",
        "yaml-many-values",
        "yaml-bomb",
        "zip-many-entries",
        "many-files",
    ):
        path = ATTACKS[name].write(tmp_path / name)

        def load(path: Path = path) -> None:
            with pytest.raises(PacketError):
                Packet.load(path)

        assert count_calls(load) < (MOST_CALLS if name == "yaml-many-values" else 100_000)


@pytest.mark.parametrize("name", ["json-many-brackets", "json-deep"])
@pytest.mark.long
def test_F55_limits_are_checked_before_values_are_built(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ATTACKS[name].write(tmp_path / name)
    parsed: list[int] = []
    loads = json.loads

    def watched(text: str, **options: Any) -> Any:
        parsed.append(len(text))
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", watched)
    with pytest.raises(PacketError):
        Packet.load(path)
    assert parsed and max(parsed) < 100_000  # the manifest and the signature, not the program


# -- version 1 --------------------------------------------------------------------------------------------------------
def _format_1() -> dict[str, bytes]:
    raw = FORMAT_1.read_bytes()
    return read_zip(io.BytesIO(raw), len(raw), "format 1")


def _changed_1(change: Callable[[Any], Any]) -> Packet:
    return Packet.from_parts(resign(edited("graph.json", change)(_format_1())))


def test_F56_parts_of_version_1(refused: Refused, tmp_path: Path) -> None:
    packet = Packet.load(FORMAT_1)
    assert packet.manifest.format_version == 1 and "graph.json" in _format_1()
    assert packet.attention.keys() == {"edges_M4", "weight_MLH", "effect_M", "causal_M"}
    assert Packet.load(as_directory(_format_1(), tmp_path / "p")).digest == packet.digest
    refused("program-of-format-1")
    both = {**_format_1(), "program.json": good()["program.json"]}
    with pytest.raises(PacketError):
        Packet.from_parts(resign(both))
    with pytest.raises(PacketError, match="does not exist"):
        arrays = read_arrays(_format_1()["attention.safetensors"], "")
        arrays["edges_M6"][0, 1] = 3
        Packet.from_parts(resign({**_format_1(), "attention.safetensors": write_arrays(arrays, "")}))


def test_F57_graph() -> None:
    assert json.loads(_format_1()["graph.json"]).keys() == set(schemas()["graph"]["required"])
    copy: dict[str, Any] = {"do": "copy", "lead": " "}
    overlap = [{"values": values, "then": {**copy, "source": 0}} for values in ([0, 1], [1])]
    deep: dict[str, Any] = {**copy, "source": 0}
    for _ in range(33):
        deep = {"do": "guard", "source": 0, "cases": [{"values": [0], "then": deep}]}
    for node, values, message in (
        (1, {"children": {".": 0}}, "does not come after"),
        (1, {"children": {".": 99}}, "does not come after"),
        (1, {"step": {**copy, "source": 9}}, "reads unit 9, expected one of the 4 before it"),
        (1, {"step": {**copy, "source": -1}}, "not valid"),
        (0, {"step": {"do": "rule", "rule": 9, "sources": [0, 1], "lead": " "}}, "applies rule"),
        (0, {"step": {"do": "rule", "rule": 0, "sources": [0], "lead": " "}}, "wrong number of arguments"),
        (0, {"step": {"do": "guard", "source": 0, "cases": overlap}}, "overlap"),
        (0, {"step": deep}, "nested guards"),
    ):
        with pytest.raises(PacketError, match=message):
            _changed_1(lambda g, node=node, values=values: g["templates"][0]["nodes"][node].update(values))
    with pytest.raises(PacketError, match="the spec has the templates"):
        _changed_1(lambda g: g["templates"].pop() and None)


def test_F58_conversion() -> None:
    """That programs write what graphs wrote is in tests/packet/test_format1.py."""
    packet = Packet.load(FORMAT_1)
    asked = packet.spec._shapes[1].fill(("a", "b", "c"), template=1, held_out=False)
    assert ProgramExecutor(packet.program)(asked, fixed_lookup(OUTPUTS, packet.program)).completion == " a a.\n"
    assert [s.after for s in packet.program.states[:3]] == [("",), ("", " □0"), ("", " □0", ".")]

    def many_paths(graph: Any) -> None:
        end = {"step": {"do": "literal", "text": ".", "symbol": None, "lead": ""}, "children": {}}
        way = {"step": {"do": "rule", "rule": 0, "sources": [0, 1], "lead": " "}}
        nodes = [{**way, "children": {" □": i + 1}} for i in range(1001)]
        graph["templates"][0]["nodes"] = [*nodes, end]

    with pytest.raises(PacketError, match="too many paths"):
        _changed_1(many_paths)
    empty = write_arrays({}, "")
    alike = {**_format_1(), "attention.safetensors": empty, "traces.safetensors": empty}
    alike = {**alike, "probes.yaml": _format_1()["probes.yaml"].replace(b"{x} {x} {x}:", b"{x}{x}:")}
    with pytest.raises(PacketError, match="does not tell"):
        Packet.from_parts(
            resign(
                edited(
                    "graph.json",
                    lambda g: g["templates"][1].update(
                        template="{x}{x}:",
                        nodes=[{"step": {"do": "literal", "text": "!", "symbol": None, "lead": ""}, "children": {}}],
                    ),
                )(alike)
            )
        )


def test_F59_saved_again(tmp_path: Path) -> None:
    packet = Packet.load(FORMAT_1)
    again = Packet.load(packet.save(tmp_path / "p.m2kp"))
    assert again.manifest.format_version == 2 and again.program == packet.program
    assert again.digest != packet.digest == "sha256:" + hashlib.sha256(_format_1()["manifest.json"]).hexdigest()
    assert again.signature is not None and again.signature != packet.signature
    assert again.save(tmp_path / "q.m2kp").read_bytes() == (tmp_path / "p.m2kp").read_bytes()


def test_F60_units() -> None:
    cut = Segmenter(["a", "b", "c", "New York", "12"]).cut
    for text, units in (
        ("ab cab", ["a", "b", " c", "a", "b"]),
        ("abd  New York", ["abd", " ", " ", "New York"]),
        ("New Yorker 12 123", ["New", " Yorker", " 12", " 123"]),
        (" > x.\n", [" >", " x", ".", "\n"]),
    ):
        assert [unit.text for unit in cut(text)] == units


def test_F61_messages(refused: Refused) -> None:
    refused("spec-chat-template", "spec-examples")
    spec = Packet.load(GOOD).spec
    assert "chat" not in spec.to_yaml() and "facts" not in spec.to_yaml()
    asked = spec.model_copy(update={"chat": Chat(system="Be short.", template="{{ messages }}")})
    packet = Packet.from_parts(resign({**good(), "probes.yaml": asked.public().to_yaml().encode()}))
    assert packet.spec.chat == Chat(system="Be short.") and packet.spec.chat.template == "default"
    prompt = packet.spec.sample("evaluation", 1, seed=0)[0]  # what was asked, and nothing around it
    trace = ProgramExecutor(packet.program)(prompt, fixed_lookup(OUTPUTS, packet.program))
    assert trace.complete and "".join(unit.text for unit in trace.units[: trace.n_prompt]) == prompt.text
    assert asked.is_that_of(packet.spec) and not spec.is_that_of(packet.spec)


def test_F63_surroundings(refused: Refused) -> None:
    refused("spec-surrounding", "spec-phrasing")
    spec = Packet.load(GOOD).spec
    assert "surroundings" not in spec.to_yaml()
    put = ["What do {x} and {x} make?", "Add {x} to {x}."]
    asked = spec.model_copy(update={"surroundings": ["Sum: {prompt}\n=>"], "phrasings": put})
    packet = Packet.from_parts(resign({**good(), "probes.yaml": asked.public().to_yaml().encode()}))
    assert packet.spec.phrasings == put
    assert packet.spec.surroundings == ["Sum: {prompt}\n=>"] and "\n=>" in packet.spec.afters
    # what may stand around a question changes no prompt
    assert packet.spec.digest == spec.digest and asked.is_that_of(spec)
    assert packet.spec.sample("evaluation", 9, seed=0) == spec.sample("evaluation", 9, seed=0)


def test_F62_forms() -> None:
    text = 'a 1,234.50 b.\n\n \\boxed{x{y}} {"c": [{"d": 1.50}, "e"]} [7]\nlast: 8th\n'
    for answer, read in (
        ("last number", "7"),
        ("last line", "last: 8th"),
        ("boxed", "x{y}"),
        ("json c[0].d", "1.50"),
        ("json c[-1]", "e"),
        ("json [0]", "7"),
        ("json c", None),
    ):
        spec = _with_answer(answer).settled(None)
        assert spec.read_answer(text) == spec.read_answer(text + END + " 9") == read
        assert spec.read_answer(" " * 4096 + text) is None  # what stands behind the first 4,096 characters is not read


def test_a_spec_is_refused_with_the_reason() -> None:
    with pytest.raises(SpecError, match="leave out a leading"):
        ProbeSpec.from_yaml(Packet.load(GOOD).spec.to_yaml().replace("> ?(.+)", ".*> (.+)"))


# -- merged packets ---------------------------------------------------------------------------------------------------
def test_F64_merged(tmp_path: Path) -> None:
    packet = _merged(tmp_path)
    names = {"supporters_KN", "origin_K", "dissent_QD", "packets_x", "confidence_K"}
    assert packet.traces.keys() == names and "merged" not in json.loads(good()["manifest.json"])
    for name in names - {"confidence_K"}:
        with pytest.raises(PacketError, match=name):
            packet.replace(traces={n: a for n, a in packet.traces.items() if n != name}).check()
        with pytest.raises(PacketError):
            packet.replace(traces={**packet.traces, name: packet.traces[name][1:]}).check()
    for name, value in (("supporters_KN", 4), ("origin_K", 2), ("origin_K", -1)):
        array = packet.traces[name].astype(np.int32)
        array.flat[0] = value
        with pytest.raises(PacketError, match=name):
            packet.replace(traces={**packet.traces, name: array}).check()


def test_F65_materials(tmp_path: Path) -> None:
    packet = _merged(tmp_path)
    parts = dict(read_parts(packet.save(tmp_path / "merged.m2kp")))
    predicate = json.loads(base64.b64decode(json.loads(parts["signature.json"])["payload"]))["predicate"]
    sources = packet.sources
    assert [f"sha256:{m['digest']['sha256']}" for m in predicate["materials"]] == [s.digest for s in sources]
    assert predicate["materials"][0]["annotations"]["signers"] == [sources[0].signature.keyid]  # type: ignore[union-attr]
    with pytest.raises(PacketError, match="packets that it was merged from"):
        Packet.from_parts(resign(parts))  # which signs no materials


def _merged(folder: Path) -> Packet:
    from m2kt.merging import Options, merge_packets
    from tests.merging.teaching import TRUE, taught

    packets = [taught(folder, {**TRUE, (0, 0): z}, teacher=f"t{z}") for z in (0, 1)]
    return Packet.load(merge_packets(packets, Options("vote")).save(folder / "m.m2kp"))
