"""The bill of materials: true to the packet, the same each time, valid by the official schema."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.packet import Packet, bill_of_materials
from tests.packet.samples import sample_packet


def test_what_it_says(tmp_path: Path) -> None:
    path, files = sample_packet().save(tmp_path / "p.m2kp"), [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        assert CliRunner().invoke(app, ["inspect", str(path), "--bom", str(file)]).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    bom, packet = json.loads(files[0].read_text()), Packet.load(path)
    about = bom["metadata"]["component"]
    assert "sha256:" + about["hashes"][0]["content"] == packet.digest
    teacher = bom["components"][0]
    assert teacher["type"] == "machine-learning-model" and teacher["name"] == "zoo:tiny"
    assert teacher["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    versions = {c["name"]: c["version"] for c in bom["components"] if c["type"] == "library"}
    assert versions == packet.manifest.libraries


def test_the_official_schema(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="its wheel brings the schema: pip install cyclonedx-python-lib")
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    folder = resources.files("cyclonedx") / "schema" / "_res"
    schemas = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text("utf-8"))
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    registry = Registry().with_resources([(s["$id"], Resource.from_contents(s)) for s in schemas.values()])
    packet = Packet.load(sample_packet().save(tmp_path / "p"))
    Draft7Validator(schemas["bom-1.6"], registry=registry).validate(bill_of_materials(packet))
