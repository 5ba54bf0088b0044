"""Texts in, findings out; and which texts a packet carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from m2kt.audit import ContentReport, Finding, Judgement
from m2kt.errors import SpecError, explain
from m2kt.models import fetch
from m2kt.packet import Packet, WriteLiteral, leaves, read_outputs

from ._config import ContentConfig
from ._detectors import DETECTORS
from ._probe import READER
from ._vectors import vector_penalty

BATCH = 256
MAX_CHARACTERS = 100_000


class ContentAuditor:
    """Runs the configured detectors; loads what they need once.

    Raises:
        SpecError: a detector is unknown, or a text is too long.
        ModelError: the model that the probe reads by, or a guard, is not there.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        unknown = [name for name in self.config.detectors if name not in DETECTORS]
        if unknown:
            raise SpecError(f"no detector is called {unknown[0]!r}; there are: {', '.join(DETECTORS)}")
        self.detectors = {name: DETECTORS[name](self.config) for name in self.config.detectors}

    def __call__(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> list[Judgement]:
        """One judgement a text, in order."""
        found: list[Judgement] = []
        for start in range(0, len(texts), BATCH):
            group = texts[start : start + BATCH]
            for i, text in enumerate(group, start):
                if len(text) > MAX_CHARACTERS:
                    raise SpecError(
                        f"text {i + 1} has {len(text)} characters, more than the {MAX_CHARACTERS} allowed; cut it up"
                    )
            by_detector = [(name, detect(group)) for name, detect in self.detectors.items()]
            for i in range(len(group)):
                name, (category, score, what) = max(
                    ((n, scores[i]) for n, scores in by_detector), key=lambda item: item[1][1]
                )
                flagged = category is not None and score >= self.config.threshold
                found.append(
                    Judgement(
                        flagged=flagged,
                        category=category if flagged else None,
                        score=round(score, 4),
                        detector=name if flagged else None,
                        what=what if flagged else "",
                    )
                )
            if progress is not None:
                progress(len(found), len(texts))
        return found

    def audit_packet(self, packet: Packet) -> ContentReport:
        """The flagged ones among all texts that a packet carries, and what follows for its concepts."""
        texts = packet_texts(packet)
        judged = dict(zip((text for _, text in texts), self([text for _, text in texts]), strict=True))
        score = {text: j.score for text, j in judged.items() if j.flagged}
        return ContentReport(
            detectors=self.config.detectors,
            texts=len(texts),
            findings=[
                Finding(where=where, text=text, category=j.category, score=j.score, what=j.what)
                for where, text in texts
                if (j := judged[text]).flagged and j.category is not None
            ],
            penalties=_penalties(packet, score, self.config.threshold),
        )


def make_auditor(config: dict[str, Any], say: Callable[[str], None]) -> ContentAuditor:
    """The entry point ``m2kt.content``: validates the configuration and fetches the reader where it is needed.

    Raises:
        SpecError: the configuration is not valid.
        ModelError: the reader can be fetched from nowhere.
    """
    try:
        chosen = ContentConfig.model_validate(config)
    except ValidationError as error:
        raise SpecError(f"the configuration of the content auditor is not valid: {explain(error)}") from error
    if "probe" in chosen.detectors:  # does nothing where it is there already
        fetch(READER, say)
    return ContentAuditor(chosen)


def _penalties(packet: Packet, score: dict[str, float], threshold: float) -> dict[int, float]:
    """Penalty(c_k): the highest score of the concept's label, of its symbols, and of its vector.

    Args:
        score: of flagged texts.
        threshold: least score of a vector.
    """
    graph = packet.graph
    found = {
        k: max((score.get(text, 0.0) for text in (label, *symbols)), default=0.0)
        for k, label, symbols in _labels(packet)
    }
    flagged_S = np.array([symbol in score for symbol in graph.symbols], dtype=np.bool_)
    harmful_P = flagged_S[packet.concepts.prototype_symbol_P]
    if (
        harmful_P.any() and not harmful_P.all()
    ):  # states of flagged symbols and of others: what tells them apart?
        by_vector_K = vector_penalty(
            packet.concepts.vectors_KD, packet.concepts.prototype_samples_PD, harmful_P
        )
        for k, penalty in enumerate(by_vector_K.tolist()):
            found[k] = max(found[k], penalty if penalty >= threshold else 0.0)
    return {k: round(penalty, 4) for k, penalty in found.items() if penalty > 0}


def _labels(packet: Packet) -> Iterator[tuple[int, str, list[str]]]:
    """Every concept's index, label, and the symbols that it reads and writes."""
    graph, outputs = packet.graph, read_outputs(packet)
    for rule in graph.rules:
        for k, row in enumerate(rule.rows, rule.offset):
            read, written = [graph.symbols[a] for a in row], outputs[k]
            said = [] if written is None else [graph.symbols[written]]
            yield k, ": ".join([" ".join(read), *said]), [*read, *said]


def packet_texts(packet: Packet) -> list[tuple[str, str]]:
    """(where, text) of everything that people or models may read in a packet, each text once.

    Symbols, literals and templates; the labels of concepts (arguments and what is written); the spec's prose; the
    manifest's free text. The card is made from these.
    """
    graph, manifest, spec = packet.graph, packet.manifest, packet.spec
    found: list[tuple[str, str]] = [(f"symbol {i}", s) for i, s in enumerate(graph.symbols)]
    found += [(f"concept {k}", label) for k, label, _ in _labels(packet)]
    found += [(f"name of {rule.name}", rule.name) for rule in graph.rules]
    for t, template in enumerate(graph.templates):
        found.append((f"template {t}", template.template))
        found += [
            (f"template {t}, node {n}", leaf.text)
            for n, node in enumerate(template.nodes)
            for leaf in leaves(node.step)
            if isinstance(leaf, WriteLiteral)
        ]
    prose = yaml.safe_load(spec.to_yaml())
    found += [
        (f"probe spec, {key}", str(prose[key]))
        for key in ("name", "description", "licence")
        if prose.get(key)
    ]
    found += [("stop string", graph.stop)]
    found += [("manifest, name", manifest.name), ("manifest, teacher", manifest.teacher.name)]
    found += [(f"manifest, note {i}", note) for i, note in enumerate(manifest.notes)]
    if manifest.fallback_reason:
        found.append(("manifest, fallback reason", manifest.fallback_reason))
    once: dict[str, tuple[str, str]] = {}
    for where, text in found:
        if text.strip():
            once.setdefault(text, (where, text))
    return list(once.values())
