"""Merging packets: one space, redundancy, conflicts, complements, and taking a source out again."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import m2kt
from m2kt.errors import PacketError, SpecError, TrustError
from m2kt.merging import METHODS, Options, merge_packets, without
from m2kt.packet import (
    Packet,
    ProgramExecutor,
    TrustPolicy,
    WriteLiteral,
    decode_outputs,
    describe,
    diff_packets,
    fixed_lookup,
    judge_packet,
)
from tests.merging.teaching import ROWS, SYMBOLS, TRUE, Row, table_of, taught
from tests.packet.trusting import policy_file, trusted

Make = Callable[..., Packet]
few = settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(table: dict[Row, int] | None = None, **options: object) -> Packet:
        return taught(tmp_path, TRUE if table is None else table, **options)  # type: ignore[arg-type]

    return made


def wrong_in(*rows: Row, by: int = 1) -> dict[Row, int]:
    return {row: (z + by) % 5 if row in rows else z for row, z in TRUE.items()}


def merged(*packets: Packet, resolve: str = "vote", **options: object) -> Packet:
    return merge_packets(packets, Options(resolve=resolve, **options))  # type: ignore[arg-type]


class TestOneSpace:
    def test_vectors_of_other_widths_decode_as_in_their_own_space(self, make: Make) -> None:
        packet = merged(make(teacher="x", width=16), make(teacher="y", width=24))
        about = packet.manifest.merged
        assert about is not None and [s.space.method for s in about.sources] == ["same", "ridge"]
        assert about.sources[1].space.error == 0 and about.sources[1].space.moved == 0
        assert table_of(packet) == TRUE and not about.conflicts

    def test_prototypes_that_name_other_symbols_are_refused(self, make: Make, tmp_path: Path) -> None:
        packet = make(teacher="y")
        label_P = np.random.default_rng(0).permutation(packet.concepts.prototype_symbol_P)
        mixed = packet.replace(concepts=packet.concepts.replace(prototype_symbol_P=label_P))
        mixed = Packet.load(mixed.save(tmp_path / "mixed.m2kp"))
        with pytest.raises(PacketError, match=r"cannot be brought into one space"):
            merged(make(teacher="x"), mixed)


class TestRedundancy:
    @pytest.mark.parametrize("name", ["rule 1", "table"])
    def test_a_rule_with_turned_arguments_is_the_same_rule(self, make: Make, name: str) -> None:
        packet = merged(make(teacher="x"), make(teacher="y", flip=True, rule=name))
        assert len(packet.program.rules) == 1 and packet.n_concepts == len(ROWS)
        assert all(row.supporters == [0, 1] for row in describe(packet).rules[0].rows)

    def test_a_lineage_votes_once(self, make: Make) -> None:
        rows = [(0, 1), (2, 2), (4, 0)]
        bad = [make(wrong_in(*rows), teacher="bad"), make(wrong_in(*rows), teacher="copy", near="bad")]
        honest = [make(teacher="x"), make(teacher="y")]
        for resolve in ("vote", "confidence", "dawid-skene", "keep"):
            packet = merged(*bad, *honest, resolve=resolve)
            assert packet.manifest.merged is not None
            assert len({s.lineage for s in packet.manifest.merged.sources}) == 3
            assert table_of(packet) == TRUE, resolve

    def test_copies_of_one_teacher_and_declared_kin_vote_once(self, make: Make, tmp_path: Path) -> None:
        rows = [(0, 1), (2, 2)]
        copies = [make(wrong_in(*rows), teacher="bad"), make(wrong_in(*rows), teacher="bad", flip=True)]
        honest = [make(teacher="x"), make(teacher="y")]
        assert table_of(merged(*copies, *honest)) == TRUE
        kin = [make(wrong_in(*rows), teacher="u"), make(wrong_in(*rows), teacher="v")]
        declared = (tuple(sorted(p.digest for p in kin)),)
        packet = merged(*kin, *honest, declared=declared)
        assert table_of(packet) == TRUE and packet.manifest.merged is not None
        assert [s.kin is not None for s in packet.manifest.merged.sources].count(True) == 1


class TestConflict:
    @pytest.mark.parametrize("resolve", [m for m in METHODS if m != "prefer"])
    def test_every_planted_conflict_is_found_and_the_majority_wins(self, make: Make, resolve: str) -> None:
        planted = {"x": [(0, 0), (1, 3)], "y": [(2, 4)], "z": [(4, 4), (3, 0)]}
        packets = [make(wrong_in(*rows), teacher=name) for name, rows in planted.items()]
        packet = merged(*packets, resolve=resolve)
        assert table_of(packet) == TRUE
        about = describe(packet).merged
        assert about is not None
        found = {tuple(SYMBOLS.index(x) for x in c.arguments): c for c in about.conflicts}
        assert set(found) == set(itertools.chain(*planted.values()))
        for row, conflict in found.items():
            assert [side.output for side in conflict.sides] == [SYMBOLS[TRUE[row]], SYMBOLS[(TRUE[row] + 1) % 5]]
            assert [len(side.sources) for side in conflict.sides] == [2, 1]
            assert conflict.decided == (resolve != "keep") and 0.5 < conflict.confidence <= 1

    def test_the_preferred_packet_has_its_way(self, make: Make) -> None:
        one, rest = make(wrong_in((1, 1)), teacher="x"), [make(teacher="y"), make(teacher="z")]
        assert table_of(merged(one, *rest, resolve="prefer", prefer=one.digest)) == wrong_in((1, 1))
        with pytest.raises(SpecError, match="expected a packet to prefer"):
            merged(one, *rest, resolve="prefer")

    def test_at_v_0_no_output_stands_in_the_manifest(self, make: Make) -> None:
        packet = merged(make(wrong_in((1, 1)), teacher="x"), make(teacher="y"), make(teacher="z"))
        (conflict,) = packet.manifest.model_dump(mode="json")["merged"]["conflicts"]
        assert set(conflict) == {"rule", "arguments", "sides", "decided", "confidence"}
        assert conflict["sides"][0] != conflict["sides"][1] and conflict["arguments"] == ["b", "b"]
        assert all(o is None for rule in packet.program.rules for o in rule.outputs)

    def test_diff_names_supporters(self, make: Make) -> None:
        one, two, three = make(wrong_in((1, 1)), teacher="x"), make(teacher="y"), make(teacher="z")
        difference = diff_packets(one, merged(one, two, three))
        (row,) = difference.rules[0].changed
        assert row.supporters_a is None and set(row.supporters_b or []) == {two.digest, three.digest}
        assert len(difference.conflicts_b) == 1 and not difference.conflicts_a


class TestComplement:
    def test_the_union_does_what_neither_can(self, make: Make) -> None:
        halves = [{row: TRUE[row] for row in ROWS[i::2]} for i in (0, 1)]
        one, two = make(halves[0], teacher="x"), make(halves[1], teacher="y", width=20)
        packet = merged(one, two)
        prompts = packet.spec.sample("evaluation", 40, seed=3)

        def done(p: Packet) -> float:
            lookup = fixed_lookup(decode_outputs(p.program, p.concepts), p.program)
            execute = ProgramExecutor(p.program)
            return float(np.mean([execute(prompt, lookup).complete for prompt in prompts]))

        assert table_of(packet) == TRUE and done(packet) == 1.0 > max(done(one), done(two))

    def test_unsure_rows_are_left_to_the_better_teacher(self, make: Make) -> None:
        guessed = [(0, 0), (3, 3)]
        packet = merged(make(wrong_in(*guessed), teacher="x", unsure=guessed), make(teacher="y"))
        about = packet.manifest.merged
        assert about is not None and about.yielded == 2 and not about.conflicts
        assert table_of(packet) == TRUE


class TestPrograms:
    def test_states_that_differ_are_named(self, make: Make, tmp_path: Path) -> None:
        packet = make(teacher="y")
        states = [
            state.model_copy(update={"decision": WriteLiteral(text=";")}) if state.after == (" □0",) else state
            for state in packet.program.states
        ]
        other = packet.replace(program=packet.program.model_copy(update={"states": states}))
        other = Packet.load(other.save(tmp_path / "other.m2kp"))
        with pytest.raises(PacketError, match=r"cannot be merged; they differ in .* state ' □0'"):
            merged(make(teacher="x"), other)

    def test_a_state_that_one_lacks_comes_from_the_other(self, make: Make, tmp_path: Path) -> None:
        packet = make(teacher="x")
        program = packet.program
        poor = packet.replace(program=program.model_copy(update={"states": program.states[:-1]}))
        poor = Packet.load(poor.save(tmp_path / "poor.m2kp"))
        assert len(merged(poor, make(teacher="y")).program.states) == len(program.states)

    def test_other_ends_are_named(self, make: Make, tmp_path: Path) -> None:
        packet = make(teacher="y")
        spec = packet.spec.model_copy(update={"answer": None})
        other = Packet.load(packet.replace(spec=spec).save(tmp_path / "other.m2kp"))
        with pytest.raises(PacketError, match="differ in answer"):
            merged(make(teacher="x"), other)


tables = st.dictionaries(st.sampled_from(ROWS), st.integers(1, 4), max_size=5).map(
    lambda wrong: {row: (z + wrong.get(row, 0)) % 5 for row, z in TRUE.items()}
)
methods = st.sampled_from([m for m in METHODS if m not in ("prefer", "dawid-skene")])


class TestProperties:
    @few
    @given(st.lists(tables, min_size=2, max_size=4), methods, st.randoms(use_true_random=False))
    def test_order_and_nesting_change_nothing(
        self, make: Make, all_: list[dict[Row, int]], how: str, rng: Random
    ) -> None:
        packets = [make(table, teacher=f"t{i}", flip=bool(i % 2)) for i, table in enumerate(all_)]
        once = merged(*packets, resolve=how)
        shuffled = list(packets)
        rng.shuffle(shuffled)
        assert merged(*shuffled, resolve=how).digest == once.digest
        assert merged(*packets, packets[0], resolve=how).digest == once.digest
        assert merged(_signed(once), packets[-1], resolve=how).digest == once.digest

    @few
    @given(st.lists(tables, min_size=2, max_size=4), methods)
    def test_a_source_taken_out_leaves_what_the_others_give(
        self, make: Make, all_: list[dict[Row, int]], how: str
    ) -> None:
        packets = [make(table, teacher=f"t{i}") for i, table in enumerate(all_)]
        whole = _signed(merged(*packets, resolve=how))
        for out in packets:
            rest = [packet for packet in packets if packet is not out]
            left = without(whole, out.digest)
            assert left.digest == merged(*rest, resolve=how).digest
            if len(rest) == 1:
                assert left.file_bytes() == rest[0].file_bytes()


def _signed(packet: Packet) -> Packet:
    with tempfile.TemporaryDirectory() as folder:
        return Packet.load(packet.save(Path(folder) / "m.m2kp"))


class TestVerbs:
    @pytest.fixture
    def files(self, make: Make, tmp_path: Path) -> list[Path]:
        tables = (wrong_in((1, 1)), TRUE, wrong_in((2, 2)))
        return [make(t, teacher=n).save(tmp_path / f"{n}.packet") for t, n in zip(tables, "xyz", strict=True)]

    def test_merge_and_unmerge(self, files: list[Path], tmp_path: Path) -> None:
        result = m2kt.merge(*files, out=tmp_path / "m.m2kp", resolve="vote")
        loaded = Packet.load(tmp_path / "m.m2kp")
        assert loaded.digest == result.packet.digest == result.report()["digest"]
        assert loaded.signature is not None
        assert set(loaded.signature.materials) == {Packet.load(file).digest for file in files}
        assert [s.digest for s in loaded.sources] == list(loaded.signature.materials)
        two = m2kt.unmerge(tmp_path / "m.m2kp", files[1], out=tmp_path / "two.m2kp")
        assert two.packet.digest == m2kt.merge(files[0], files[2], resolve="vote").packet.digest
        m2kt.unmerge(tmp_path / "two.m2kp", without=files[0], out=tmp_path / "one")
        for part in files[2].iterdir():
            assert (tmp_path / "one" / part.name).read_bytes() == part.read_bytes()

    def test_one_packet_is_itself(self, files: list[Path], tmp_path: Path) -> None:
        m2kt.merge(files[0], files[0], out=tmp_path / "same")
        assert Packet.load(tmp_path / "same").file_bytes() == Packet.load(files[0]).file_bytes()
        with pytest.raises(PacketError, match="was not merged"):
            m2kt.unmerge(files[0], files[0])

    def test_a_policy_that_refuses_a_source_refuses_the_whole(self, files: list[Path], tmp_path: Path) -> None:
        packet, key = m2kt.merge(*files, out=tmp_path / "m.m2kp").packet, trusted("ed25519", "teacher")
        policy = TrustPolicy.from_file(policy_file(tmp_path / "trust.yaml", key))
        assert judge_packet(packet, policy).trusted
        packets = [{"digest": Packet.load(files[2]).digest, "time": "2026-11-01", "reason": "planted rows"}]
        revoked = policy_file(tmp_path / "revoked.yaml", key, revoked={"packets": packets})
        verdict = judge_packet(packet, TrustPolicy.from_file(revoked))
        assert not verdict.trusted and "which was revoked" in verdict.reasons[0]
        allowed = policy_file(tmp_path / "allowed.yaml", key, teachers=[packet.manifest.teacher.digest])
        assert "which the policy does not allow" in judge_packet(packet, TrustPolicy.from_file(allowed)).reasons[0]
        with pytest.raises(TrustError, match="was revoked"):
            m2kt.merge(*files, trust=revoked)

    def test_a_remembered_revocation_of_a_source_counts(self, make: Make, tmp_path: Path) -> None:
        from m2kt.packet import sign_notice
        from m2kt.remote import refuse_revoked
        from m2kt.remote._cache import remember_revoked

        revoked = make(teacher="revoked")  # for ever, in this home
        packet = m2kt.merge(revoked, make(teacher="x"), out=tmp_path / "m.m2kp").packet
        refuse_revoked(packet)
        digest = revoked.digest
        remember_revoked(digest, "http://nowhere", sign_notice(digest, "revoked", "planted rows"))
        with pytest.raises(TrustError, match="holds a packet that is revoked"):
            refuse_revoked(packet)

    def test_a_source_that_was_exchanged_is_refused(self, files: list[Path], tmp_path: Path) -> None:
        packet = m2kt.merge(*files, out=tmp_path / "m.m2kp").packet
        content = packet.traces["packets_x"].copy()
        content[len(content) // 2] ^= 1
        with pytest.raises(PacketError, match="is not the one that was merged"):
            packet.replace(traces={**packet.traces, "packets_x": content}).save(tmp_path / "forged.m2kp")
        about = packet.manifest.merged
        assert about is not None
        lying = about.sources[0].model_copy(update={"signers": ["0" * 64]})
        manifest = packet.manifest.model_copy(
            update={"merged": about.model_copy(update={"sources": [lying, *about.sources[1:]]})}
        )
        forged = packet.replace(manifest=manifest).save(tmp_path / "forged.m2kp")
        with pytest.raises(PacketError, match="another packet or signer"):
            Packet.load(forged)

    def test_the_verdict_shows_what_was_left_undecided(self, files: list[Path], tmp_path: Path) -> None:
        packet = m2kt.merge(*files, out=tmp_path / "m.m2kp", resolve="keep").packet
        config = m2kt.IngestConfig(evaluation_prompts=8, certificate_traces=0, trigger_strings=0)
        result = m2kt.ingest("zoo:pico-gpt2", packet, tmp_path / "adapter", config=config)
        assert result.verdict.dissent == ["rule 1(b, b)", "rule 1(c, c)"]
        assert "2 rows are undecided" in "".join(result.remarks())
