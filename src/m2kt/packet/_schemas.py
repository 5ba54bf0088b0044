"""JSON Schemas of the parts, as they are checked in under docs/schemas: what a second implementation starts from."""

from __future__ import annotations

from typing import Any

from m2kt.probes import ProbeSpec

from ._envelope import Envelope
from ._graph import Graph
from ._manifest import Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Schema by part. What a packet carries has every field, so those are schemas of what is written."""
    written = {"manifest": Manifest, "graph": Graph, "signature": Envelope}
    found = {
        name: {"$schema": _DIALECT, **model.model_json_schema(mode="serialization")}
        for name, model in written.items()
    }
    return {**found, "probe-spec": ProbeSpec.model_json_schema()}  # people write it too, and leave things out
