"""A packet's bill of materials, CycloneDX 1.6 JSON: from which teacher, with which probe spec and libraries.

It depends on the packet alone, so that one packet always has the same bill.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from ._json import JSONObject

if TYPE_CHECKING:
    from ._packet import Packet


def bill_of_materials(packet: Packet) -> JSONObject:
    """The document; write it with :func:`canonical_json`."""
    manifest, teacher, digest = packet.manifest, packet.manifest.teacher, packet.digest
    model: JSONObject = {
        "type": "machine-learning-model",
        "bom-ref": "teacher",
        "name": teacher.name,
        "hashes": _sha256(teacher.digest),
        "licenses": [{"license": {"name": teacher.licence or "unknown"}}],
        "modelCard": {"modelParameters": {"modelArchitecture": teacher.architecture}},
        "properties": _properties(
            {
                "tokenizer": teacher.tokenizer_digest,
                "parameters": teacher.parameters,
                "layers": teacher.layers,
                "width": teacher.width,
            }
        ),
    }
    spec: JSONObject = {
        "type": "data",
        "bom-ref": "probe-spec",
        "name": packet.spec.name,
        "hashes": _sha256(packet.spec.digest),
        "data": [{"type": "configuration", "name": "what was asked of the teacher"}],
    }
    libraries: list[JSONObject] = [
        {"type": "library", "bom-ref": f"library-{name}", "name": name, "version": version}
        for name, version in sorted(manifest.libraries.items())
    ]
    components = [model, spec, *libraries]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "component": {
                "type": "data",
                "bom-ref": "packet",
                "name": manifest.name,
                "version": f"format {manifest.format_version}",
                "hashes": _sha256(digest),
                "properties": _properties({"concepts": packet.n_concepts, "verbalised": manifest.verbalised}),
            },
        },
        "components": components,
        "dependencies": [{"ref": "packet", "dependsOn": sorted(str(part["bom-ref"]) for part in components)}],
    }


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]


def _properties(values: dict[str, object]) -> list[dict[str, str]]:
    return [{"name": f"m2kt:{name}", "value": str(value)} for name, value in values.items()]
