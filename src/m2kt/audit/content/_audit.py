"""Texts in, findings out; and which texts a packet carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml
from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError
from m2kt.packet import Packet, WriteLiteral, leaves, read_outputs

from ._config import ContentConfig
from ._detectors import DETECTORS

BATCH = 256
MAX_CHARACTERS = 100_000


class Judgement(BaseModel):
    """What was found in one text."""

    model_config = ConfigDict(extra="forbid")

    flagged: bool = Field(description="Whether a score reached the threshold.")
    category: str | None = Field(description="Of the highest score, where it is flagged.")
    score: float = Field(description="Highest score of all detectors, 0 to 1.")
    detector: str | None = Field(description="Which one gave it.")
    what: str = Field(description="What it saw.")


class Finding(BaseModel):
    """A flagged text of a packet."""

    model_config = ConfigDict(extra="forbid")

    where: str = Field(description="Part of the packet, such as symbol 4, or card.")
    text: str
    category: str
    score: float
    what: str


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

    def audit_packet(self, packet: Packet) -> list[Finding]:
        """The flagged ones among all texts that a packet carries."""
        texts = packet_texts(packet)
        judged = self([text for _, text in texts])
        return [
            Finding(where=where, text=text, category=j.category, score=j.score, what=j.what)
            for (where, text), j in zip(texts, judged, strict=True)
            if j.flagged and j.category is not None
        ]


def packet_texts(packet: Packet) -> list[tuple[str, str]]:
    """(where, text) of everything that people or models may read in a packet, each text once.

    Symbols, literals and templates; the labels of concepts (arguments and what is written); the spec's prose; the
    manifest's free text. The card is made from these.
    """
    graph, manifest, spec = packet.graph, packet.manifest, packet.spec
    found: list[tuple[str, str]] = [(f"symbol {i}", s) for i, s in enumerate(graph.symbols)]
    outputs = read_outputs(packet)
    for rule in graph.rules:
        for i, row in enumerate(rule.rows):
            k = rule.offset + i
            written = outputs[k]
            label = " ".join(graph.symbols[a] for a in row)
            found.append((f"concept {k}", label if written is None else f"{label}: {graph.symbols[written]}"))
        found.append((f"name of {rule.name}", rule.name))
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
