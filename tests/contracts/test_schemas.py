"""docs/schemas holds the schemas of the code, and they accept the parts of a packet.

``M2KT_UPDATE_GOLDEN=1 pytest tests/contracts`` rewrites them; a change of a released format is a new version.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from attacks._forge import good
from m2kt.packet._describe import schemas
from m2kt.pipeline import schemas as statement_schemas

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
PARTS = {
    "manifest": "manifest.json",
    "program": "program.json",
    "signature": "signature.json",
    "probe-spec": "probes.yaml",
}
FORMAT_1 = Path(__file__).parents[1] / "golden" / "packet-v1.m2kp"


SCHEMAS = {**schemas(), **statement_schemas()}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_checked_in(name: str) -> None:
    path = FOLDER / f"{name}.schema.json"
    text = json.dumps(SCHEMAS[name], indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("M2KT_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} changed; if it should, set M2KT_UPDATE_GOLDEN=1"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_parts_of_a_packet_are_valid(name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema = pytest.importorskip("jsonschema")
    data = yaml.safe_load(good()[PARTS[name]])
    jsonschema.validate(data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, "unknown": 1}, schema)


def test_the_graph_of_a_packet_of_format_1_is_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with zipfile.ZipFile(FORMAT_1) as archive:
        jsonschema.validate(json.loads(archive.read("graph.json")), SCHEMAS["graph"])


def test_every_field_of_the_configuration_has_a_description() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = SCHEMAS["ingest-config"]
    described = [
        field for model in (schema, *schema["$defs"].values()) for field in model.get("properties", {}).values()
    ]
    assert len(described) > 60 and all("description" in f or "$ref" in f for f in described)
    valid = {"updates": 3, "student": {"reader": {"kind": "flat"}}, "thresholds": {"gap_recovered": 0.5}}
    jsonschema.validate(valid, schema)
    for invalid in ({"student": {"reader": {"kind": "round"}}}, {"thresholds": {"gap": 1}}, {"updates": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(invalid, schema)


def test_docs_hold_no_other_schema() -> None:
    assert sorted(p.name for p in FOLDER.iterdir()) == sorted(f"{name}.schema.json" for name in SCHEMAS)
