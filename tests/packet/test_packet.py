"""The packet format: round trips, what is signed, what is refused, what a failing disk leaves behind."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2kt.errors import PacketError, StorageError
from m2kt.packet import PROTOTYPE_ROWS, Concepts, Packet, _parts, describe, diff_packets, local_key, without_verbalised
from m2kt.packet._alike import unseen
from tests.packet.samples import OUTPUTS, sample_packet

forms = pytest.mark.parametrize("name", ["packet", "packet.m2kp"])


@forms
def test_a_saved_packet_is_loaded_unchanged(name: str, tmp_path: Path) -> None:
    packet = sample_packet()
    packet.save(tmp_path / name)
    loaded = Packet.load(tmp_path / name)
    assert loaded.program == packet.program
    assert loaded.spec == packet.spec.public() and loaded.spec.truth is None
    for expected, arrays in (
        (packet.concepts.arrays(), loaded.concepts.arrays()),
        (packet.attention, loaded.attention),
        (packet.traces, loaded.traces),
    ):
        assert expected.keys() == arrays.keys()
        for key in expected:
            np.testing.assert_array_equal(expected[key], arrays[key])
            assert expected[key].dtype == arrays[key].dtype
    assert loaded.manifest.ledger.packet_bytes == loaded.size_bytes > 0
    assert loaded.manifest.ledger.concepts == loaded.n_concepts == 9
    assert loaded.signature is not None and len(loaded.signature.keyid) == 64
    assert loaded.digest == packet.digest


def test_both_forms_are_reproducible(tmp_path: Path) -> None:
    for name in ("one", "two", "one.m2kp", "two.m2kp"):
        sample_packet().save(tmp_path / name)
    assert (tmp_path / "one.m2kp").read_bytes() == (tmp_path / "two.m2kp").read_bytes()
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert Packet.load(tmp_path / "one").digest == Packet.load(tmp_path / "two.m2kp").digest
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(_parts.PARTS)


def test_loading_needs_no_model_library(tmp_path: Path) -> None:
    sample_packet().save(tmp_path / "p")
    script = """
import sys
for name in ("torch", "transformers", "peft", "tokenizers"):
    sys.modules[name] = None  # importing it now fails
import m2kt
from m2kt.packet import Packet
print(Packet.load(sys.argv[1]).n_concepts)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "p")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "9", done.stderr


def test_the_card_shows_no_output() -> None:
    packet = sample_packet(fallback=True, fallback_reason="the answers vary too much", notes=["mind the gap"])
    card = packet._fresh_parts()["README.md"].decode()
    for text in ("zoo:tiny", "Apache-2.0", "99.50 %", "75.00 %", "rule 1 | 2 | 9", "3,700", "mind the gap"):
        assert text in card
    assert "Fallback, not a full extraction" in card and "vary too much" in card


def test_at_v_0_no_text_part_holds_an_output() -> None:
    without, speaking = (sample_packet(verbalised=v)._fresh_parts() for v in (False, True))
    assert json.loads(without["program.json"])["rules"][0]["outputs"] == [None] * 9
    assert json.loads(speaking["program.json"])["rules"][0]["outputs"] == OUTPUTS


def test_without_verbalised_rows_the_packet_is_that_at_v_0(tmp_path: Path) -> None:
    verbalised, without = sample_packet(verbalised=True), sample_packet()
    ledger = verbalised.manifest.ledger.model_copy(update={"teacher_tokens_in_traces": 12})
    verbalised = verbalised.replace(manifest=verbalised.manifest.model_copy(update={"ledger": ledger}))
    changed = without_verbalised(verbalised, 9)
    assert changed.program == without.program and changed.manifest.verbalised == 0
    assert changed.manifest.ledger.teacher_tokens_in_traces == 3
    assert verbalised.program.rules[0].outputs == OUTPUTS, "the original is unchanged"
    changed.save(tmp_path / "packet")
    assert Packet.load(tmp_path / "packet").concepts.vectors_KD.tolist() == verbalised.concepts.vectors_KD.tolist()


def test_vectors_made_from_prototypes_of_outputs_are_refused_at_v_0() -> None:
    verbalised = sample_packet(verbalised=True)
    fidelity = verbalised.manifest.fidelity.model_copy(update={"other": {PROTOTYPE_ROWS: 2.0}})
    verbalised = verbalised.replace(manifest=verbalised.manifest.model_copy(update={"fidelity": fidelity}))
    with pytest.raises(PacketError, match="the vector of 2 rows is the prototype"):
        without_verbalised(verbalised, 9)


class TestVariants:
    def test_a_variant_is_signed_again(self, tmp_path: Path) -> None:
        Packet.load(sample_packet().save(tmp_path / "p"))
        packet = Packet.load(tmp_path / "p")
        vectors = packet.concepts.vectors_KD[::-1].copy()
        spoiled = packet.replace(concepts=packet.concepts.replace(vectors_KD=vectors))
        assert spoiled.signature is None and spoiled.digest != packet.digest
        loaded = Packet.load(spoiled.save(tmp_path / "q"))
        np.testing.assert_array_equal(loaded.concepts.vectors_KD, vectors)
        assert loaded.signature is not None

    def test_a_copy_keeps_its_signature_and_an_edit_in_place_does_not(self, tmp_path: Path) -> None:
        another = local_key(tmp_path / "their.pem")
        sample_packet().save(tmp_path / "p", key=another)
        packet = Packet.load(tmp_path / "p")
        assert packet.signature is not None
        signer = packet.signature.keyid
        copied = Packet.load(packet.save(tmp_path / "copy.m2kp"))
        assert copied.signature is not None and copied.signature.keyid == signer
        packet.concepts.vectors_KD[0, 0] += 1
        changed = Packet.load(packet.save(tmp_path / "changed"))
        assert changed.signature is not None and changed.signature.keyid != signer

    def test_the_local_key_is_created_once_and_private(self, tmp_path: Path) -> None:
        key = local_key(tmp_path / "keys" / "k.pem")
        content = key.read_bytes()
        assert key.stat().st_mode & 0o777 == 0o600
        assert local_key(key).read_bytes() == content
        assert [p.name for p in key.parent.iterdir()] == ["k.pem"]

    def test_a_damaged_key_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "k.pem").write_text("nonsense")
        with pytest.raises(StorageError, match="move it away"):
            sample_packet().save(tmp_path / "p", key=tmp_path / "k.pem")


@cache
def _written() -> tuple[dict[str, bytes], bytes]:
    with tempfile.TemporaryDirectory() as place:
        sample_packet().save(Path(place) / "p")
        sample_packet().save(Path(place) / "p.m2kp")
        files = {p.name: p.read_bytes() for p in (Path(place) / "p").iterdir()}
        return files, (Path(place) / "p.m2kp").read_bytes()


class TestTheSignatureHolds:
    """One changed byte anywhere, and the packet is refused."""

    @settings(max_examples=150)
    @given(data=st.data())
    def test_flipped_byte_in_a_directory(self, data: st.DataObject) -> None:
        files, _ = _written()
        name = data.draw(st.sampled_from(sorted(files)))
        content = bytearray(files[name])
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        with tempfile.TemporaryDirectory() as place:
            for part, original in files.items():
                (Path(place) / part).write_bytes(bytes(content) if part == name else original)
            with pytest.raises(PacketError):
                Packet.load(place)

    @settings(max_examples=150)
    @given(data=st.data())
    def test_flipped_byte_in_a_file(self, data: st.DataObject) -> None:
        content = bytearray(_written()[1])
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "p.m2kp").write_bytes(content)
            with pytest.raises(PacketError):
                Packet.load(Path(place) / "p.m2kp")

    @settings(max_examples=50)
    @given(data=st.data())
    def test_truncated_or_lengthened(self, data: st.DataObject) -> None:
        content = _written()[1]
        cut = data.draw(st.integers(0, len(content) - 1))
        changed = data.draw(st.sampled_from([content[:cut], content + b"x", b"x" + content]))
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "p.m2kp").write_bytes(changed)
            with pytest.raises(PacketError):
                Packet.load(Path(place) / "p.m2kp")

    def test_a_signature_of_another_packet(self, tmp_path: Path) -> None:
        sample_packet().save(tmp_path / "p")
        sample_packet(seed=1).save(tmp_path / "q")
        shutil.copy(tmp_path / "q" / "signature.json", tmp_path / "p" / "signature.json")
        with pytest.raises(PacketError, match="edited after signing"):
            Packet.load(tmp_path / "p")

    def test_a_key_that_claims_another_id(self, tmp_path: Path) -> None:
        import base64

        from m2kt.packet._json import canonical_json

        sample_packet().save(tmp_path / "p")
        envelope = json.loads((tmp_path / "p" / "signature.json").read_text())
        statement = json.loads(base64.b64decode(envelope["payload"]))
        statement["predicate"]["key"]["keyid"] = "f" * 64
        envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()
        envelope["signatures"][0]["keyid"] = "f" * 64
        (tmp_path / "p" / "signature.json").write_bytes(canonical_json(envelope))
        with pytest.raises(PacketError, match="does not verify"):
            Packet.load(tmp_path / "p")

    def test_without_verification_the_content_is_still_checked(self, tmp_path: Path) -> None:
        sample_packet().save(tmp_path / "p")
        (tmp_path / "p" / "README.md").write_text("edited")
        with pytest.raises(PacketError, match=r"README\.md was edited"):
            Packet.load(tmp_path / "p")
        assert Packet.load(tmp_path / "p", verify=False).signature is None


class TestParts:
    def test_missing_and_foreign_parts(self, tmp_path: Path) -> None:
        with pytest.raises(PacketError, match="no packet at"):
            Packet.load(tmp_path / "none")
        with pytest.raises(PacketError, match=r"expected manifest\.json"):
            Packet.load(tmp_path)
        sample_packet().save(tmp_path / "p")
        (tmp_path / "p" / ".DS_Store").write_text("")
        Packet.load(tmp_path / "p")
        (tmp_path / "p" / "run.py").write_text("")
        with pytest.raises(PacketError, match="not part"):
            Packet.load(tmp_path / "p")
        (tmp_path / "p" / "run.py").unlink()
        (tmp_path / "p" / "traces.safetensors").unlink()
        with pytest.raises(PacketError, match=r"traces\.safetensors missing"):
            Packet.load(tmp_path / "p")

    def test_another_version_is_reported_as_such(self, tmp_path: Path) -> None:
        sample_packet().save(tmp_path / "p")
        manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
        manifest["format_version"] = 9
        (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(PacketError, match="version 1 or 2, got 9"):
            Packet.load(tmp_path / "p", verify=False)

    def _zip(self, path: Path, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> Path:
        files, _ = _written()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in _parts.PARTS:
                change(archive, name, files[name])
        path.write_bytes(buffer.getvalue())
        return path

    def test_edited_zip_frames(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "p.m2kp"

        def traversal(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
            archive.writestr(name, content)
            if name == "signature.json":
                archive.writestr("../evil", b"x")

        with pytest.raises(PacketError, match="canonical"):
            Packet.load(self._zip(path, traversal))
        assert not (tmp_path.parent / "evil").exists()

        with pytest.raises(PacketError, match="compressed"):
            Packet.load(self._zip(path, lambda a, n, c: a.writestr(n, c, zipfile.ZIP_DEFLATED)))

        with pytest.raises(PacketError, match="canonical"):  # other times in the zip's frame
            Packet.load(self._zip(path, lambda a, n, c: a.writestr(zipfile.ZipInfo(n, (1999, 1, 1, 0, 0, 0)), c)))

        def twice(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
            archive.writestr(name, content)
            if name == "program.json":
                archive.writestr(name, content)

        with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(PacketError, match="canonical"):
            Packet.load(self._zip(path, twice))
        path.write_text("hello")
        with pytest.raises(PacketError, match="no packet file"):
            Packet.load(path)

        sample_packet().save(tmp_path / "q.m2kp")
        monkeypatch.setitem(_parts.LIMITS, "manifest.json", 10)
        with pytest.raises(PacketError, match="more than the 10 allowed"):
            Packet.load(tmp_path / "q.m2kp")


def _with(name: str, value: Any) -> Packet:
    packet = sample_packet()
    return packet.replace(concepts=Concepts.from_arrays({**packet.concepts.arrays(), name: value}))


class TestWhatDoesNotFit:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("part", ["concepts", "attention", "traces"])
    def test_not_finite(self, bad: float, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packet = sample_packet()
        arrays = packet.concepts.arrays() if part == "concepts" else getattr(packet, part)
        next(array for array in arrays.values() if array.dtype.kind == "f").flat[0] = bad
        with pytest.raises(PacketError, match="not finite"):
            packet.save(tmp_path / "p")
        assert list(tmp_path.iterdir()) == []
        with monkeypatch.context() as patch:  # a malicious writer with a valid signature
            patch.setattr(Packet, "check", lambda self, where="": None)
            packet.save(tmp_path / "p")
        with pytest.raises(PacketError, match="not finite"):
            Packet.load(tmp_path / "p")

    def test_shapes(self) -> None:
        floats = np.zeros((9, 5), np.float32)
        for name, value, message in (
            ("vectors_KD", floats, "expected 4 at axis 1"),
            ("vectors_KD", floats[:5, :4], "expected 9 at axis 0"),
            ("vectors_KD", floats[0], "axes"),
            ("vectors_KD", np.zeros((9, 4), np.int64), "expected floats"),
            ("support_K", np.zeros(9, np.float32), "expected integers"),
            ("anchors_SD", np.zeros((4, 4), np.float32), "expected 3 at axis 0"),
            ("pool_PD", np.zeros((5, 4), np.float32), "expected 6 at axis 0"),
            ("pool_symbol_P", np.array([0, 0, 1, 1, 2, 3]), "names symbol 3"),
            ("spread_basis_KrD", np.zeros((9, 3, 4), np.float32), r"expected 3 at axis 1 \(r"),
        ):
            with pytest.raises(PacketError, match=message):
                _with(name, value).check()
        arrays = sample_packet().concepts.arrays()
        with pytest.raises(PacketError, match=r"concepts\.safetensors holds extra_KD, which format 1 does not know"):
            Concepts.from_arrays({**arrays, "extra_KD": floats})
        del arrays["anchors_SD"]
        with pytest.raises(PacketError, match=r"concepts\.safetensors lacks anchors_SD"):
            Concepts.from_arrays(arrays)

    def test_rules(self) -> None:
        packet = sample_packet()
        rule = packet.program.rules[0]

        def variant(**changes: Any) -> Packet:
            program = packet.program.model_copy(update={"rules": [rule.model_copy(update=changes)]})
            return packet.replace(program=program)

        for changes, message in (
            ({"offset": 3}, "begins at concept 3"),
            ({"outputs": [None]}, "9 rows and 1 outputs"),
            ({"rows": [(0,)] * 9}, "another number"),
            ({"rows": [(0, 0)] * 9}, "twice"),
            ({"rows": [*rule.rows[:8], (7, 7)]}, "outside 0..2"),
            ({"range": [5]}, "outside 0..2"),
            ({"outputs": [0] * 9}, "no output is verbalised"),
            ({"arity": 3, "rows": [(*r, 0) for r in rule.rows]}, "wrong number of arguments"),
        ):
            with pytest.raises(PacketError, match=message):
                variant(**changes).check()

    def test_types_numpy_has_no_name_for(self, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        sample_packet().save(tmp_path / "p")
        save_file({"vectors_KD": torch.zeros(9, 4, dtype=torch.bfloat16)}, tmp_path / "p" / "concepts.safetensors")
        with pytest.raises(PacketError, match=r"concepts\.safetensors"):
            Packet.load(tmp_path / "p", verify=False)


class TestStorage:
    @forms
    def test_an_older_packet_is_replaced(self, name: str, tmp_path: Path) -> None:
        sample_packet(seed=0).save(tmp_path / name)
        sample_packet(seed=1).save(tmp_path / name)
        assert Packet.load(tmp_path / name).digest == sample_packet(seed=1).digest
        assert [p.name for p in tmp_path.iterdir()] == [name]

    def test_other_files_are_never_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
        (tmp_path / "notes.m2kp").write_text("notes")
        (tmp_path / "plain").write_text("notes")
        (tmp_path / "dir.m2kp").mkdir()
        for name in ("thesis", "notes.m2kp", "plain", "dir.m2kp"):
            with pytest.raises(StorageError, match=r"another path|single file"):
                sample_packet().save(tmp_path / name)
        assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
        (tmp_path / "empty").mkdir()
        sample_packet().save(tmp_path / "empty")

    @forms
    @pytest.mark.parametrize("exists", [False, True])
    @pytest.mark.parametrize("failing", ["fsync", "rename"])
    def test_a_full_disk_leaves_the_old_packet(
        self, name: str, exists: bool, failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if exists:
            sample_packet(seed=0).save(tmp_path / name)
        local_key()
        calls = 0
        originals = {"fsync": os.fsync, "rename": Path.rename, "replace": Path.replace}

        def full(kind: str, fatal: int) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == fatal:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return originals[kind](*args)

            return call

        with monkeypatch.context() as patch:
            if failing == "fsync":
                patch.setattr(os, "fsync", full("fsync", 1 if name.endswith("m2kp") else 3))
            else:
                patch.setattr(Path, "replace", full("replace", 1))
                patch.setattr(Path, "rename", full("rename", 2 if exists else 1))
            with pytest.raises(StorageError, match="No space left"):
                sample_packet(seed=1).save(tmp_path / name)
        if exists:
            assert Packet.load(tmp_path / name).digest == sample_packet(seed=0).digest
        assert [p.name for p in tmp_path.iterdir()] == ([name] if exists else [])

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_read_only_directory(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(StorageError, match="cannot write"):
            sample_packet().save(tmp_path / "p")


def test_packets_of_earlier_releases_verify() -> None:
    packets = sorted((Path(__file__).parent / "golden").glob("*.m2kp"))
    assert packets
    for path in packets:
        packet = Packet.load(path)
        assert packet.signature is not None and packet.n_concepts == 9


def test_repr_is_short_and_its_html_is_escaped(tmp_path: Path) -> None:
    packet = Packet.load(sample_packet(name="a <b> & c").save(tmp_path / "p"))
    assert packet.signature is not None
    digest, signer = packet.digest.removeprefix("sha256:")[:12], packet.signature.keyid[:12]
    facts = f"concepts=9, rules=1, teacher=zoo:tiny, digest={digest}, signer={signer}"
    assert repr(packet) == f"Packet(name=a <b> & c, {facts})"
    page = packet._repr_html_()
    assert "<td>a &lt;b&gt; &amp; c</td>" in page and f"<td>{digest}</td>" in page and len(page) < 500
    damaged = packet.replace(traces={"states": np.zeros(3)})
    assert "digest=invalid, signer=none" in repr(damaged)  # a repr raises nothing


def test_a_difference_is_short_and_its_html_is_escaped() -> None:
    a = sample_packet()
    symbols = ["<i>", *a.program.symbols[1:]]
    b = a.replace(program=a.program.model_copy(update={"symbols": symbols}))
    same, other = diff_packets(a, a), diff_packets(a, b)
    assert repr(same) == "PacketDiff(identical packets)" and "identical packets" in same._repr_html_()
    assert len(repr(other)) < 200 and repr(other) == str(other) and a.digest in other._repr_html_()
    assert "<i>" not in other._repr_html_() and "rule " in other._repr_html_()


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        (["a", "\u0430"], "look alike: 'a'; '\u0430' (U+0430 CYRILLIC SMALL LETTER A)"),
        (["paypal", "p\u0430ypal"], "look alike"),
        (["x", "\uff58"], "look alike"),
        (["a", "a\u200b"], "draw nothing"),
        (["a", "a\ufe0f"], "draw nothing"),
        (["\u3164", "b"], "U+3164 HANGUL FILLER) has characters that draw nothing"),
        (["a", "b"], None),
        (["\u0430", "\u0431"], None),
        (["l", "1"], None),
    ],
)
def test_what_people_do_not_see_is_shown(symbols: list[str], words: str | None) -> None:
    said = unseen(symbols, [], [])
    if words is None:
        assert not said
    else:
        assert any(words in line for line in said), said


def test_tensors_that_no_reader_knows_are_shown() -> None:
    packet = sample_packet().replace(attention={}, traces={})
    assert describe(packet).unseen == []
    other = packet.replace(traces={"secrets_x": np.zeros(3, np.int8)})
    assert describe(other).unseen == ["no reader knows these tensors, and all ignore them: secrets_x"]
