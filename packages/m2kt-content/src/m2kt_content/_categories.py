"""What a text may be."""

from __future__ import annotations

BENIGN = "benign"
HARMFUL = ("toxicity", "threat", "bias", "fallacy", "injection", "private")
CATEGORIES = (BENIGN, *HARMFUL)
