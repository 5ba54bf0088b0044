"""Configuration of the Concept Alignment Layer as a PEFT method.

What is in it describes the *structure* of a skill in the student's own tokens: how symbols are spelled, which
arguments each rule row has, which literals the answers use. What the rules answer is not here: that travels
as vectors, in the bank beside the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig

from m2kt.student.cal._compat import CAL_TYPE


def _about(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class CALConfig(PeftConfig):
    """Everything needed to rebuild a CAL around a frozen student before its weights are loaded."""

    target_modules: Any = field(
        default=None, metadata=_about("Names of all adapted modules; filled in from the two lists below.")
    )
    reader_modules: list[str] | None = field(
        default=None, metadata=_about("Full name of the decoder block behind which the reader writes.")
    )
    steered_modules: list[str] | None = field(
        default=None, metadata=_about("Full names of the linear layers with a low-rank update.")
    )
    read_layers: list[int] = field(
        default_factory=list,
        metadata=_about("Indices of the decoder blocks whose states the reader reads, side by side."),
    )
    write_layer: int = field(
        default=0, metadata=_about("Index of the decoder block behind which the reader adds what it found.")
    )
    reader: str = field(
        default="structured",
        metadata=_about("'structured' (selector and gather heads) or 'flat' (one key per concept)."),
    )
    projector: str = field(
        default="anchored", metadata=_about("phi: 'anchored', 'linear', 'low_rank' or 'mlp'.")
    )
    projector_width: int = field(
        default=128, metadata=_about("Inner width of phi when it is 'low_rank' or 'mlp'.")
    )
    anchor_coordinates: bool = field(
        default=False,
        metadata=_about("Give phi the concept's coordinates relative to the symbol anchors as well."),
    )
    gather_width: int = field(default=64, metadata=_about("Width of queries and keys of a gather head."))
    gather_rope: bool = field(
        default=True,
        metadata=_about("Rotate half of the width by relative position (in tokens and in symbols)."),
    )
    n_places: int = field(
        default=0, metadata=_about("Leaves of the graph's decisions, for the selector's sense of place.")
    )
    look_heads: int = field(default=4, metadata=_about("Heads that look around for the selector."))
    look_width: int = field(default=32, metadata=_about("Width of what a look head brings back."))
    state_width: int = field(
        default=192, metadata=_about("Width to which the states that are read are brought first.")
    )
    unit_width: int = field(
        default=64, metadata=_about("Width of the embeddings of the last units at a position; 0 for none.")
    )
    selector_width: int = field(
        default=256, metadata=_about("Hidden width of the selector, on which gather heads draw too.")
    )
    silence: float = field(
        default=1.0, metadata=_about("Inject nothing at all where p(none) reaches this; 1 switches it off.")
    )
    steering_rank: int = field(default=8, metadata=_about("Rank of the low-rank updates; 0 for no steering."))
    steering_alpha: float = field(default=16.0, metadata=_about("The update is scaled by alpha / rank."))
    steering_first_layer: int = field(default=0, metadata=_about("First decoder block that is steered."))
    steering_last_layer: int = field(default=0, metadata=_about("Last decoder block that is steered."))
    steering_targets: list[str] | None = field(
        default=None,
        metadata=_about("Last names of the steered linear layers; all of a block's when not given."),
    )
    symbols: list[str] = field(default_factory=list, metadata=_about("The skill's symbols, by symbol id."))
    symbol_tokens: list[list[list[int]]] = field(
        default_factory=list,
        metadata=_about("Per symbol, the token sequences that write it in this student."),
    )
    literals: list[str] = field(
        default_factory=list, metadata=_about("Literal units that the reader may write.")
    )
    literal_tokens: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Per literal, the token sequence that writes it in this student."),
    )
    context_tokens: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Token sequences of units that only prompts hold; recognised, never written."),
    )
    spaces: list[int] = field(
        default_factory=list, metadata=_about("Tokens of symbols that begin with a space.")
    )
    trails: list[list[int]] = field(
        default_factory=list,
        metadata=_about(
            "What the last units may be where the reader speaks, symbols masked; none given: anything."
        ),
    )
    rules: list[dict[str, Any]] = field(
        default_factory=list,
        metadata=_about(
            "Per rule: name, arity, family, offset and its rows' argument symbol ids (never the outputs)."
        ),
    )
    phases: int = field(
        default=1, metadata=_about("How many tokens a unit may have: each gets its own last map of phi.")
    )
    teacher_width: int = field(default=0, metadata=_about("D, the width of the packet's vectors."))
    flagged: list[int] = field(
        default_factory=list, metadata=_about("Concept indices that the reader must not use.")
    )
    penalties: list[float] = field(
        default_factory=list, metadata=_about("Penalty(c_k) of each flagged concept, 0 to 1; none given: 1.")
    )
    answer_tokens: int = field(
        default=0,
        metadata=_about("Tokens of the longest answer that was rehearsed; 0 in adapters of 0.1.0."),
    )
    graph_digest: str = field(
        default="", metadata=_about("Digest of the graph: vectors of another graph do not fit.")
    )
    space_digest: str = field(
        default="", metadata=_about("Unused; without the field peft warns about configurations that hold it.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = CAL_TYPE
        if self.reader not in ("structured", "flat", "none"):
            raise ValueError(f"reader: expected 'structured', 'flat' or 'none', got {self.reader!r}")
        if self.projector not in ("anchored", "linear", "low_rank", "mlp"):
            raise ValueError(
                f"projector: expected 'anchored', 'linear', 'low_rank' or 'mlp', got {self.projector!r}"
            )
        if self.gather_rope and self.gather_width % 8:
            raise ValueError(
                f"gather_width: expected a multiple of 8 with gather_rope, got {self.gather_width}"
            )

    @property
    def alphabet(self) -> tuple[list[list[list[int]]], list[list[int]], list[int]]:
        """Spellings of symbols and of structure, and the tokens that begin with a space."""
        return self.symbol_tokens, [*self.literal_tokens, *self.context_tokens], self.spaces

    @property
    def n_concepts(self) -> int:
        """K, the number of rule rows."""
        return sum(len(rule["rows"]) for rule in self.rules)

    @property
    def families(self) -> list[tuple[int, int]]:
        """(family, arity) of each group of rules that share gather heads, in order of appearance."""
        seen: dict[int, int] = {}
        for rule in self.rules:
            seen[int(rule["family"])] = max(seen.get(int(rule["family"]), 0), int(rule["arity"]))
        return list(seen.items())

    def head_of(self, rule: int, argument: int) -> int:
        """Index of the gather head that reads an argument of a rule; head 0 serves copies."""
        head = 1
        for family, arity in self.families:
            if family == int(self.rules[rule]["family"]):
                return head + argument
            head += arity
        raise IndexError(rule)

    @property
    def n_heads(self) -> int:
        """Number of gather heads, the copy head included."""
        return 1 + sum(arity for _, arity in self.families)

    # Classes of the selector: none, copy, go on with the unit that was begun, the rules, the literals.
    NONE = 0
    COPY = 1
    CONTINUE = 2

    def class_of_rule(self, rule: int) -> int:
        """Selector class of a rule."""
        return 3 + rule

    def class_of_literal(self, literal: int) -> int:
        """Selector class of a literal unit."""
        return 3 + len(self.rules) + literal

    @property
    def n_classes(self) -> int:
        """Number of selector classes."""
        return 3 + len(self.rules) + len(self.literals)
