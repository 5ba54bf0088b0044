"""Configurations: nested settings, one source for each value, errors that name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

import m2kt
from m2kt.errors import SpecError, StorageError
from m2kt.pipeline import DEFAULT_UPDATES, IngestConfig
from m2kt.teacher import ExtractionConfig
from tests.packet.samples import SPEC, sample_packet


def test_a_file_is_read_into_nested_settings(tmp_path: Path) -> None:
    path = tmp_path / "cal.yaml"
    path.write_text("updates: 7\nstudent: {reader: {kind: flat}}\nthresholds: {gap_recovered: 0.5}\n")
    config = IngestConfig.from_file(path)
    assert (config.updates, config.student.reader.kind, config.thresholds.gap_recovered) == (7, "flat", 0.5)
    assert IngestConfig.from_file(path, updates=9).updates == 9, "the command's option overrides the file"
    assert IngestConfig.from_file(path, updates=None).updates == 7
    assert IngestConfig.from_file(None).updates == DEFAULT_UPDATES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: {reader: {kind: round}}", r"student\.reader\.kind: .*got 'round'"),
        ("thresholds: {gap: 1}", r"thresholds\.gap: "),
        ("updates: -1", r"updates: .*got -1"),
        ("- 1", "expected a mapping, got list"),
    ],
)
def test_the_refused_field_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cal.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        IngestConfig.from_file(tmp_path / "cal.yaml")


def test_a_path_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    out = tmp_path / "spec.yaml" / "out"  # below a file; no model of these names exists
    for verb in (
        lambda: m2kt.extract("no-such", tmp_path / "spec.yaml", out),
        lambda: m2kt.ingest("no-such", sample_packet(), out),
        lambda: m2kt.export("no-such", out, form="gguf"),
    ):
        with pytest.raises(StorageError, match="expected a writable directory"):
            verb()


def test_updates_have_one_source() -> None:
    assert IngestConfig.of(None, 3).updates == IngestConfig.of(IngestConfig(updates=3), 3).updates == 3
    assert IngestConfig.of(IngestConfig(evaluation_prompts=9), 3).updates == 3, "a default value is no conflict"
    with pytest.raises(SpecError, match="got 4 and 3"):
        IngestConfig.of(IngestConfig(updates=4), 3)


def test_verbs_refuse_a_setting_beside_a_config_that_holds_it(tmp_path: Path) -> None:
    # neither model exists: the refusal comes before anything is loaded
    (tmp_path / "spec.yaml").write_text(SPEC)
    for setting in ({"seed": 1}, {"verbalised": 0.5}, {"concepts": "probe"}, {"seed": 0}):
        with pytest.raises(SpecError, match=f"got config and {next(iter(setting))}"):
            m2kt.extract("no-such", tmp_path / "spec.yaml", config=ExtractionConfig(), **setting)  # type: ignore[arg-type]
    config = IngestConfig(updates=4)
    with pytest.raises(SpecError, match="got 4 and 3"):
        m2kt.ingest("no-such", sample_packet(), tmp_path / "a", config=config, updates=3)
