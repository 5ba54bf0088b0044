"""The promises of the campaign, on a few hundred packets each: ``make fuzz N=1000000`` is the long form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import campaign
from tests.fuzz.judge import judge, kinds

seeds = st.integers(0, 2**32)
packets = st.sampled_from([campaign.GOOD, campaign.FORMAT_1])


@settings(max_examples=400)
@given(kind=st.sampled_from(kinds("kept")), seed=seeds, good=packets)
def test_an_unsigned_change_is_refused(kind: str, seed: int, good: Path) -> None:
    assert judge("kept", kind, random.Random(seed), good) in ("refused", "unchanged")


@settings(max_examples=300)
@given(kind=st.sampled_from(kinds("resigned")), seed=seeds, good=packets)
def test_a_signed_change_is_refused_or_usable(kind: str, seed: int, good: Path) -> None:
    judge("resigned", kind, random.Random(seed), good)


def test_a_campaign_counts_and_says_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, wrong, _ = campaign.run(("kept", 0, 0, 20, campaign.GOOD))
    assert counts.total() == 20 and not wrong
    monkeypatch.setattr(campaign, "judge", lambda *_: "accepted")
    _, wrong, _ = campaign.run(("kept", 0, 0, 3, campaign.GOOD))
    assert len(wrong) == 3 and "an unsigned change was accepted" in wrong[0]
    assert not campaign.run(("resigned", 0, 0, 3, campaign.GOOD))[1]

    def crash(*_: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr(campaign, "judge", crash)
    counts, wrong, _ = campaign.run(("resigned", 0, 0, 2, campaign.GOOD))
    assert "too deep" in wrong[0] and sum(n for (_, _, outcome), n in counts.items() if outcome == "crashed") == 2
