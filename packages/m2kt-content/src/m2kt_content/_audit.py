"""The content auditor: runs detectors over texts, and over the texts of a packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pydantic import ValidationError

from m2kt.auditor import ContentReport, Finding, Judgement
from m2kt.errors import ModelError, SpecError, explain
from m2kt.models import fetch, list_models
from m2kt.packet import Packet, carried_texts

from ._config import ContentConfig
from ._detectors import DETECTORS, Score
from ._packet import concept_penalties, packet_texts
from ._probe import BACKBONE

BATCH = 256
MAX_CHARACTERS = 100_000


class ContentAuditor:
    """Judges texts by the configured detectors; loads their models once.

    Raises:
        SpecError: a detector is unknown, or a text is too long.
        ModelError: the backbone or the guard model is missing.
    """

    def __init__(self, config: ContentConfig | None = None) -> None:
        self.config = config or ContentConfig()
        unknown = [name for name in self.config.detectors if name not in DETECTORS]
        if unknown:
            raise SpecError(f"no detector is called {unknown[0]!r}; there are: {', '.join(DETECTORS)}")
        self.detectors = {name: DETECTORS[name](self.config) for name in self.config.detectors}

    def __call__(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[Judgement]:
        """One judgement for each text, in order."""
        judgements: list[Judgement] = []
        for start in range(0, len(texts), BATCH):
            group = texts[start : start + BATCH]
            for number, text in enumerate(group, start + 1):
                if len(text) > MAX_CHARACTERS:
                    raise SpecError(
                        f"text {number} has {len(text)} characters, more than the {MAX_CHARACTERS} allowed; split it"
                    )
            scores = {name: detect(group) for name, detect in self.detectors.items()}
            for i in range(len(group)):
                name = max(scores, key=lambda name: scores[name][i][1])
                judgements.append(self._judgement(name, scores[name][i]))
            if progress is not None:
                progress(len(judgements), len(texts))
        return judgements

    def _judgement(self, detector: str, score: Score) -> Judgement:
        category, value, what = score
        flagged = category is not None and value >= self.config.threshold
        return Judgement(
            flagged=flagged,
            category=category if flagged else None,
            score=round(value, 4),
            detector=detector if flagged else None,
            what=what if flagged else "",
        )

    def audit_packet(self, packet: Packet) -> ContentReport:
        """Findings in all texts of a packet, and Penalty(c_k) by concept.

        All detectors read what people and models read; patterns read every text in the packet's bytes besides.
        """
        texts = packet_texts(packet)
        judgements = dict(zip((text for _, text in texts), self([text for _, text in texts]), strict=True))
        score = {text: judgement.score for text, judgement in judgements.items() if judgement.flagged}
        read = {text for _, text in texts}
        others = [(part, text) for part, text in carried_texts(packet) if text.strip() and text not in read]
        return ContentReport(
            detectors=self.config.detectors,
            texts=len(texts) + len({text for _, text in others}),
            findings=[
                *(
                    Finding(where=part, text=text, category=j.category, score=j.score, what=j.what)
                    for part, text in texts
                    if (j := judgements[text]).flagged and j.category is not None
                ),
                *self._patterns_in(others),
            ],
            penalties=concept_penalties(packet, score, self.config.threshold),
        )

    def _patterns_in(self, texts: Sequence[tuple[str, str]]) -> Iterator[Finding]:
        """Findings of the patterns alone; the other detectors were calibrated on what people write."""
        detect, seen = self.detectors.get("patterns"), set()
        if detect is None:
            return
        for part, text in texts:
            if text not in seen:
                seen.add(text)
                judgement = self._judgement("patterns", detect([text])[0])
                if judgement.flagged and judgement.category is not None:
                    yield Finding(
                        where=part, text=text, category=judgement.category, score=judgement.score, what=judgement.what
                    )


def make_auditor(config: Mapping[str, object], say: Callable[[str], None]) -> ContentAuditor:
    """The entry point ``m2kt.content``: validate the configuration, and check the backbone if the probe needs it.

    Args:
        say: called with a line for each check that takes long.

    Raises:
        SpecError: the configuration is not valid.
        ModelError: the backbone is not here, or was changed. It is fetched by ``m2kt models get`` alone.
    """
    try:
        chosen = ContentConfig.model_validate(config)
    except ValidationError as error:
        raise SpecError(
            f"the configuration of the content auditor is not valid: {explain(error, ContentConfig)}"
        ) from error
    if "probe" in chosen.detectors:
        backbone = next(model for model in list_models() if model["name"] == BACKBONE)
        if not backbone["available"]:  # nobody has agreed to its licence yet
            raise ModelError(
                f"expected the model {BACKBONE} for the detector probe, got none; m2kt models get {BACKBONE} fetches "
                f"it (238 MB, {backbone['licence']}), or leave probe out by --config: detectors: [patterns]"
            )
        fetch(BACKBONE, say)  # its bytes are checked
    return ContentAuditor(chosen)
