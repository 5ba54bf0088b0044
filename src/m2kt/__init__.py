"""Model-to-Model Knowledge Transmission (M2KT, arXiv 2511.17638): a skill travels as a packet, not as data.

Data flows one way, and imports point one way::

    probes -> teacher -> packet -> student -> auditor
                            (models: any causal LM, for teacher and student)

A probe spec says what can be asked. The teacher side intervenes on a language model and condenses its skill into a
signed :class:`Packet` (concepts C, graph and attention A, traces R, metadata M, signature sigma). The student side
trains a Concept Alignment Layer on a frozen model by rehearsal, from the packet alone. The auditor returns a verdict;
only the pipeline acts on it. Teacher and student never import each other. Three calls matter::

    extraction = m2kt.extract("zoo:addition", "zoo:addition", "addition.m2kp")
    ingestion = m2kt.ingest("zoo:pico-gpt2", extraction.packet, "adapter")    # accepted and written, or rolled back
    ingestion.verdict.accuracy, ingestion.verdict.certificate.bound

Every verb of the ``m2kt`` command is a function of the same name here. ``m2kt.register()`` makes peft know the adapter
type.

Importing this module loads no torch: names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2kt._cluster import Cluster as Cluster
    from m2kt.errors import M2KTError as M2KTError
    from m2kt.packet import Packet as Packet
    from m2kt.packet import describe as describe
    from m2kt.pipeline import Explanation as Explanation
    from m2kt.pipeline import Extraction as Extraction
    from m2kt.pipeline import IngestConfig as IngestConfig
    from m2kt.pipeline import Ingestion as Ingestion
    from m2kt.pipeline import attest as attest
    from m2kt.pipeline import audit as audit
    from m2kt.pipeline import chain as chain
    from m2kt.pipeline import chat as chat
    from m2kt.pipeline import check_probes as check_probes
    from m2kt.pipeline import consolidate as consolidate
    from m2kt.pipeline import decrypt as decrypt
    from m2kt.pipeline import demo as demo
    from m2kt.pipeline import diff as diff
    from m2kt.pipeline import doctor as doctor
    from m2kt.pipeline import encrypt as encrypt
    from m2kt.pipeline import evaluate as evaluate
    from m2kt.pipeline import explain as explain
    from m2kt.pipeline import export as export
    from m2kt.pipeline import extract as extract
    from m2kt.pipeline import forget as forget
    from m2kt.pipeline import ingest as ingest
    from m2kt.pipeline import ingest_all as ingest_all
    from m2kt.pipeline import inspect as inspect
    from m2kt.pipeline import merge as merge
    from m2kt.pipeline import new_probes as new_probes
    from m2kt.pipeline import preflight as preflight
    from m2kt.pipeline import rollback as rollback
    from m2kt.pipeline import sign as sign
    from m2kt.pipeline import try_ as try_
    from m2kt.pipeline import unmerge as unmerge
    from m2kt.pipeline import verify as verify
    from m2kt.probes import ProbeSpec as ProbeSpec
    from m2kt.remote import lineage as lineage
    from m2kt.remote import publish as publish
    from m2kt.remote import pull as pull
    from m2kt.remote import search as search
    from m2kt.remote import yank as yank
    from m2kt.student import register as register

__version__ = "0.1.0"

_NAMES = {
    "m2kt._cluster": ("Cluster",),
    "m2kt.errors": ("M2KTError",),
    "m2kt.packet": ("Packet", "describe"),
    "m2kt.probes": ("ProbeSpec",),
    "m2kt.pipeline": (
        "Explanation",
        "Extraction",
        "IngestConfig",
        "Ingestion",
        "attest",
        "audit",
        "chain",
        "chat",
        "check_probes",
        "consolidate",
        "decrypt",
        "demo",
        "diff",
        "doctor",
        "encrypt",
        "evaluate",
        "explain",
        "export",
        "extract",
        "forget",
        "ingest",
        "ingest_all",
        "inspect",
        "merge",
        "new_probes",
        "preflight",
        "rollback",
        "sign",
        "try_",
        "unmerge",
        "verify",
    ),
    "m2kt.remote": ("lineage", "publish", "pull", "search", "yank"),
    "m2kt.student": ("register",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [*_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'm2kt' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
