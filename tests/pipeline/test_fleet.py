"""One packet into many students: each has its own verdict and receipt, and an error of one ends no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2kt._cluster import Cluster
from m2kt.errors import SpecError
from m2kt.packet import Packet, read_statement, verify_statement
from m2kt.pipeline import IngestConfig, ingest_all, read_students
from m2kt.pipeline._fleet import _adapter

QUICK = IngestConfig(updates=2, evaluation_prompts=8, certificate_traces=0, trigger_strings=0)


def test_students_are_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "students.txt"
    file.write_text("# ours\nzoo:pico-gpt2\n\n  some/model  \n", "utf-8")
    assert read_students(file) == ["zoo:pico-gpt2", "some/model"]
    for text, message in (("# none\n", "got none"), ("a\nb\na\n", "a twice")):
        file.write_text(text, "utf-8")
        with pytest.raises(SpecError, match=message):
            read_students(file)
    with pytest.raises(SpecError, match="a student a line"):
        read_students(tmp_path / "nothing.txt")


def test_adapters_that_would_share_a_directory_are_refused(tmp_path: Path) -> None:
    assert _adapter(tmp_path, "a/b", 0) == _adapter(tmp_path, "a-b", 0) == tmp_path / "a-b-0"
    with pytest.raises(SpecError, match="shared"):
        ingest_all(["a/b", "a-b"], tmp_path / "packet", tmp_path)


@pytest.mark.slow
@pytest.mark.enable_socket
def test_many_students_and_seeds(tmp_path: Path, secret_packet: Path) -> None:
    pytest.importorskip("ray")
    students = ["zoo:pico-gpt2", "no-such-student", "zoo:pico-llama"]
    found = ingest_all(students, secret_packet, tmp_path, seeds=(0, 1), cluster=Cluster(workers=2), config=QUICK)
    assert [(one.student, one.seed) for one in found.placed] == [(s, seed) for s in students for seed in (0, 1)]
    assert not found.accepted
    for one in found.placed:
        if one.student == "no-such-student":
            assert one.verdict is None and "ModelError" in str(one.error) and one.receipt is None
            continue
        assert one.verdict == "accepted" and one.error is None and one.receipt is not None
        receipt = verify_statement(read_statement(one.receipt), str(one.receipt))
        assert receipt.packet == Packet.load(secret_packet).digest
        assert one.adapter.is_dir() and one.accuracy is not None and one.accuracy > 0.9
