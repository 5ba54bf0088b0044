"""Configuration of the Concept Alignment Layer as a PEFT method.

It describes the *structure* of a skill in the student's tokens: tokenisation of symbols, arguments of rules, literals
of answers. The rules' outputs are not in it: they are vectors in the bank, saved with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

from peft.config import PeftConfig

from m2kt.student.cal._compat import CAL_TYPE
from m2kt.student.cal._phrase import PhrasingData
from m2kt.student.cal._question import QuestionData

READERS = ("executed", "structured", "flat", "none")


class RuleStructure(TypedDict):
    """A rule in the configuration, without its outputs."""

    name: str
    arity: int
    family: int
    offset: int
    rows: list[list[int]]


def _about(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class CALConfig(PeftConfig):
    """Everything needed to rebuild a CAL around a frozen student before its weights are loaded.

    Field names are on disk in ``adapter_config.json``. In the code ``anchor_...`` is prototypes, ``gather_...``
    argument heads, ``look_...`` context heads, ``n_places`` the number of leaves, ``silence`` the gating threshold,
    ``trails`` the context whitelist, ``phases`` the number of token indices.
    """

    target_modules: Any = field(
        default=None, metadata=_about("Names of all adapted modules; derived from the two lists below.")
    )
    reader_modules: list[str] | None = field(
        default=None, metadata=_about("Full name of the decoder block whose output the reader adds to.")
    )
    steered_modules: list[str] | None = field(
        default=None, metadata=_about("Full names of the linear layers with a low-rank update.")
    )
    read_layers: list[int] = field(
        default_factory=list,
        metadata=_about("Indices of the decoder blocks whose states the reader reads, concatenated."),
    )
    write_layer: int = field(default=0, metadata=_about("Index of the decoder block whose output the reader adds to."))
    reader: str = field(
        default="structured",
        metadata=_about(
            "'executed' (runs the packet's program), 'structured' (selector and argument heads), 'flat' (one key per "
            "concept) or 'none'."
        ),
    )
    projector: str = field(default="anchored", metadata=_about("phi: 'anchored', 'linear', 'low_rank' or 'mlp'."))
    projector_width: int = field(default=128, metadata=_about("Inner width of phi for 'low_rank' and 'mlp'."))
    anchor_coordinates: bool = field(
        default=False,
        metadata=_about("Append the concept's cosine to every symbol prototype to phi's inputs."),
    )
    gather_width: int = field(default=64, metadata=_about("Width of queries and keys of context and argument heads."))
    gather_rope: bool = field(
        default=True,
        metadata=_about("Rotate half of the width by relative position (in tokens and in symbols)."),
    )
    n_places: int = field(
        default=0,
        metadata=_about("Number of leaves of the program, which the selector predicts; 0: it does not."),
    )
    look_heads: int = field(default=4, metadata=_about("Number of context heads."))
    look_width: int = field(default=32, metadata=_about("Width of a context head's values."))
    state_width: int = field(default=192, metadata=_about("Width to which the states are projected first."))
    unit_width: int = field(
        default=64, metadata=_about("Width of the embeddings of the last units at a position; 0: none.")
    )
    selector_width: int = field(
        default=256, metadata=_about("Hidden width of the selector; the argument heads read it, too.")
    )
    silence: float = field(
        default=1.0,
        metadata=_about("Gating threshold: inject nothing if p(none) reaches it; 1 switches gating off."),
    )
    steering_rank: int = field(default=8, metadata=_about("Rank of the low-rank updates; 0: no steering."))
    steering_alpha: float = field(default=16.0, metadata=_about("The update is scaled by alpha / rank."))
    steering_first_layer: int = field(default=0, metadata=_about("First decoder block that is steered."))
    steering_last_layer: int = field(default=0, metadata=_about("Last decoder block that is steered."))
    steering_targets: list[str] | None = field(
        default=None,
        metadata=_about("Last names of the steered linear layers; None: all of a block's."),
    )
    symbols: list[str] = field(default_factory=list, metadata=_about("The skill's symbols, by symbol id."))
    symbol_tokens: list[list[list[int]]] = field(
        default_factory=list,
        metadata=_about("Per symbol, its tokenisations in this student."),
    )
    literals: list[str] = field(default_factory=list, metadata=_about("Literals that the reader may write."))
    literal_tokens: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Per literal, its tokenisation in this student."),
    )
    context_tokens: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Tokenisations of literals that occur only in prompts; recognised, never written."),
    )
    spaces: list[int] = field(default_factory=list, metadata=_about("First tokens of symbols with a leading space."))
    trails: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Context whitelist: types of the last units that count as in-domain; empty: all do."),
    )
    rules: list[RuleStructure] = field(
        default_factory=list,
        metadata=_about("Per rule: name, arity, family, offset and its rows' argument symbol ids (never the outputs)."),
    )
    phases: int = field(default=1, metadata=_about("Number of token indices in a unit; phi has a head for each."))
    leads: list[str] = field(
        default_factory=lambda: [""],
        metadata=_about(
            "Leading spaces of written symbols; with several, phi has a head for each token index behind each of them."
        ),
    )
    program: dict[str, object] | None = field(
        default=None, metadata=_about("The packet's program without outputs; of the executed reader.")
    )
    questions: QuestionData | None = field(
        default=None, metadata=_about("Which units follow each other in questions; of the executed reader.")
    )
    lexicon: str = field(
        default="", metadata=_about("Texts of the tokens that questions and answers may hold, packed.")
    )
    gaps: list[list[int]] = field(
        default_factory=list,
        metadata=_about("Tokens that may stand between a question and its answer: a chat's turn of roles."),
    )
    afters: list[str] = field(
        default_factory=list,
        metadata=_about("Texts that may stand there, beside blanks, lines and what closes a quotation."),
    )
    phrasings: PhrasingData | None = field(
        default=None, metadata=_about("Other words for questions, and when the student's states count as one of them.")
    )
    stop: str = field(
        default="", metadata=_about("What ends an answer: a text, or U+0004 for the student's own end token.")
    )
    teacher_width: int = field(default=0, metadata=_about("D, the width of the packet's vectors."))
    flagged: list[int] = field(default_factory=list, metadata=_about("Concepts that the reader must not use."))
    penalties: list[float] = field(
        default_factory=list, metadata=_about("Penalty(c_k) of each flagged concept, 0 to 1; empty: 1.")
    )
    forgotten: list[int] = field(
        default_factory=list,
        metadata=_about("Removed contents, rows of [concepts; symbols]: an answer that needs one ends there."),
    )
    refusal: list[int] = field(
        default_factory=list,
        metadata=_about("Tokens that are written there instead; empty: the student goes on by itself."),
    )
    answer_tokens: int = field(
        default=0,
        metadata=_about("Tokens of the longest answer that was rehearsed; 0 in adapters of 0.1.0."),
    )
    program_digest: str = field(
        default="", metadata=_about("Digest of the program; ``replace_bank`` requires the same.")
    )
    confidences: list[float] = field(
        default_factory=list,
        metadata=_about("The teacher's own probability of what it writes at each concept; empty: not measured."),
    )
    origin: dict[str, str] = field(
        default_factory=dict,
        metadata=_about("Name and digest of the packet, its teacher, and its signer's key id; for explanations."),
    )
    space_digest: str = field(
        default="", metadata=_about("Unused; without the field peft warns about configurations that hold it.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = CAL_TYPE
        if self.reader not in READERS:
            raise ValueError(f"reader: expected one of {', '.join(READERS)}, got {self.reader!r}")
        if self.projector not in ("anchored", "linear", "low_rank", "mlp"):
            raise ValueError(f"projector: expected 'anchored', 'linear', 'low_rank' or 'mlp', got {self.projector!r}")
        if self.gather_rope and self.gather_width % 8:
            raise ValueError(f"gather_width: expected a multiple of 8 with gather_rope, got {self.gather_width}")

    @property
    def alphabet(self) -> tuple[list[list[list[int]]], list[list[int]], list[int]]:
        """Tokenisations of symbols and of literals, and the first tokens of symbols with a leading space."""
        return self.symbol_tokens, [*self.literal_tokens, *self.context_tokens], self.spaces

    @property
    def n_concepts(self) -> int:
        """K, the number of rule rows."""
        return sum(len(rule["rows"]) for rule in self.rules)

    @property
    def families(self) -> list[tuple[int, int]]:
        """(family, arity) of each group of rules that share argument heads, in order of appearance."""
        arity_of: dict[int, int] = {}
        for rule in self.rules:
            arity_of[rule["family"]] = max(arity_of.get(rule["family"], 0), rule["arity"])
        return list(arity_of.items())

    def head_of(self, rule: int, argument: int) -> int:
        """Index of the argument head of a rule's argument; head 0 is the copy head."""
        head = 1
        for family, arity in self.families:
            if family == self.rules[rule]["family"]:
                return head + argument
            head += arity
        raise IndexError(rule)

    @property
    def n_heads(self) -> int:
        """Number of argument heads, the copy head included."""
        return 1 + sum(arity for _, arity in self.families)

    # Classes of the selector: none, copy, continue the unit in progress, then the rules, then the literals.
    NONE = 0
    COPY = 1
    CONTINUE = 2

    def class_of_rule(self, rule: int) -> int:
        """Selector class of a rule."""
        return 3 + rule

    def class_of_literal(self, literal: int) -> int:
        """Selector class of a literal."""
        return 3 + len(self.rules) + literal

    @property
    def n_classes(self) -> int:
        """Number of selector classes."""
        return 3 + len(self.rules) + len(self.literals)
