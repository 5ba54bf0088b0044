"""What a packet consists of: the names of its parts, in order, and how large each may be."""

from __future__ import annotations

from m2kt.errors import PacketError

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
CARD = "README.md"
TENSORS = ("concepts.safetensors", "attention.safetensors", "traces.safetensors")
SPEC = "probes.yaml"
GRAPH = "graph.json"
PARTS = (MANIFEST, CARD, SPEC, GRAPH, *TENSORS, SIGNATURE)
SUFFIX = ".m2kp"
# Bytes a part may have; together they stay below the 4 GiB that a plain zip can hold.
LIMITS = {
    MANIFEST: 1 << 20,
    CARD: 1 << 20,
    SPEC: 1 << 20,
    GRAPH: 16 << 20,
    TENSORS[0]: 2 << 30,
    TENSORS[1]: 512 << 20,
    TENSORS[2]: 1 << 30,
    SIGNATURE: 1 << 20,
}


def check_size(name: str, size: int, where: str) -> None:
    """Refuses a part by its size, before it is read."""
    if size > LIMITS[name]:
        raise PacketError(f"{where}: {name} has {size} bytes, more than the {LIMITS[name]} allowed")
