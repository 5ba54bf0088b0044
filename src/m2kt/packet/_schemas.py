"""JSON Schemas of the parts, as they are checked in under docs/schemas: what a second implementation starts from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from m2kt.probes import ProbeSpec

from ._envelope import Envelope
from ._graph import Graph
from ._manifest import Manifest
from ._policy import TrustPolicy

OPTIONAL = {"public"}


def schemas() -> dict[str, dict[str, Any]]:
    """Schema by part, and the policy's. What people write may leave things out; canonical JSON may not."""
    written: dict[str, type[BaseModel]] = {"manifest": Manifest, "graph": Graph, "signature": Envelope}
    found = {name: _whole(model.model_json_schema()) for name, model in written.items()}
    by_people: dict[str, type[BaseModel]] = {"probe-spec": ProbeSpec, "trust-policy": TrustPolicy}
    return {**found, **{name: model.model_json_schema() for name, model in by_people.items()}}


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with all fields required, defaults or not, but those that canonical JSON leaves out."""
    for part in (schema, *schema.get("$defs", {}).values()):
        if "properties" in part:
            part["required"] = [name for name in part["properties"] if name not in OPTIONAL]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
