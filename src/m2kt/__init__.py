"""Model-to-Model Knowledge Transmission (M2KT, arXiv 2511.17638): a skill travels as a packet, not as data.

Data flows one way, and imports point one way::

    probes -> teacher -> packet -> student -> audit
                            (models: any causal LM, for teacher and student)

A probe spec says what can be asked. The teacher room interrogates a language model and condenses what it does into a
signed :class:`Packet` (concepts C, graph and attention A, traces R, metadata M, signature sigma). The student room
trains a Concept Alignment Layer on a frozen model by rehearsal, from the packet alone. The audit returns a verdict;
only the pipeline acts on it. Teacher and student never import each other. Three calls matter::

    m2kt.extract("zoo:addition", "zoo:addition", "addition.m2kp")
    m2kt.ingest("zoo:pico-gpt2", "addition.m2kp", "adapter")          # accepted and written, or rolled back
    m2kt.evaluate("zoo:pico-gpt2", "zoo:addition", adapter="adapter")

Importing this module loads no torch. ``m2kt.register()`` makes peft know the adapter type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m2kt.errors import M2KTError as M2KTError
    from m2kt.packet import Packet as Packet
    from m2kt.pipeline import evaluate as evaluate
    from m2kt.pipeline import extract as extract
    from m2kt.pipeline import ingest as ingest
    from m2kt.pipeline import preflight as preflight
    from m2kt.probes import ProbeSpec as ProbeSpec
    from m2kt.student import register as register

__version__ = "0.1.0"
__all__ = ["M2KTError", "Packet", "ProbeSpec", "evaluate", "extract", "ingest", "preflight", "register"]

_HOMES = {
    "M2KTError": "m2kt.errors",
    "Packet": "m2kt.packet",
    "ProbeSpec": "m2kt.probes",
    "evaluate": "m2kt.pipeline",
    "extract": "m2kt.pipeline",
    "ingest": "m2kt.pipeline",
    "preflight": "m2kt.pipeline",
    "register": "m2kt.student",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'm2kt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
