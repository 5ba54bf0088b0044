"""Following a text with a packet's program: where an answer is due, and what the program writes next.

States are never modified, so several continuations of one text (beams) share what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from m2kt.packet import (
    MAX_UNITS,
    MAX_WORK,
    Action,
    Program,
    ProgramExecutor,
    Stuck,
    Tape,
    TracedUnit,
    WriteCopy,
    WriteLiteral,
)
from m2kt.packet import Run as ProgramRun
from m2kt.probes import END, Unit
from m2kt.student.cal._gap import Gap, Gaps, pieces
from m2kt.student.cal._lexicon import Lexicon, as_bytes, as_text
from m2kt.student.cal._phrase import EMPTY, Asked, Phrases, PhrasingData, Sentence, foreign_piece
from m2kt.student.cal._question import Found, QuestionGrammar, QuestionReader, Scan

NOTHING = -1
_MAX_ANSWERS = 4  # readings of one text as question and answer
_MAX_OPEN = 4  # questions that one text may have ended with
Continues = Callable[[int, str], bool]
"""Whether the unit that a concept writes goes on behind these bytes, where they are a symbol and the beginning of
another one."""


class Plan(NamedTuple):
    """What to inject at a token."""

    content: int = NOTHING
    """Row of [concepts; symbols; literals]."""
    slot: int = 0
    """Head of phi: leading space times the longest unit, plus the token's index within its unit."""


class Goal(NamedTuple):
    """The unit that the program writes next."""

    content: int
    lead: str
    exact: str | None
    """Its bytes, where they are known: structure and copies."""


class Skill:
    """A program with everything that following a text needs.

    Args:
        literals: texts of literals, in the order of their contents.
        leads: leading spaces of written symbols.
        longest: tokens of the longest unit.
        gaps: token sequences that may stand between a question and its answer, such as a chat's turn of roles.
        afters: texts that may stand there, beside blanks and what closes a quotation.
        spellings: the tokens of units, each with and without its leading space.
        phrasings: other words for its questions.
        forgotten: contents that were removed.
        refusal: tokens that stand where one of them is needed; none: the program ends there.
    """

    def __init__(
        self,
        program: Program,
        grammar: QuestionGrammar,
        lexicon: Lexicon,
        *,
        literals: Sequence[str],
        leads: Sequence[str],
        longest: int,
        gaps: Sequence[Sequence[int]] = (),
        afters: Sequence[str] = (),
        spellings: Iterable[Sequence[int]] = (),
        phrasings: PhrasingData | None = None,
        forgotten: Iterable[int] = (),
        refusal: Sequence[int] = (),
    ) -> None:
        self.program, self.lexicon = program, lexicon
        self.execute = ProgramExecutor(program)
        self.questions = QuestionReader(grammar, program.symbols, program.classes)
        self.n_concepts, self.n_symbols = program.n_concepts, len(program.symbols)
        first_literal = self.n_concepts + self.n_symbols
        self.content_of_literal = {text: first_literal + i for i, text in enumerate(literals)}
        self.slot_of_lead = {lead: i * longest for i, lead in enumerate(leads)}
        self.longest = longest
        self.forgotten, self.refusal = frozenset(forgotten), tuple(refusal)
        self.first_refusal = first_literal + len(literals)
        self.phrases = None if phrasings is None else Phrases(phrasings, self.questions)
        self.gaps, self.gap_of = [tuple(gap) for gap in gaps], Gaps(afters)
        self.forms = {lead: {as_bytes(lead + s): i for i, s in enumerate(program.symbols)} for lead in ("", " ")}
        self.beginnings = {
            lead: {form[:n] for form in forms for n in range(1, len(form))} for lead, forms in self.forms.items()
        }
        self.cuts: dict[str, set[str]] = {}  # by the bytes of a unit, its beginnings of whole tokens
        for tokens in spellings:
            ends = list(accumulate(lexicon.text_of.get(token, "") for token in tokens))
            self.cuts.setdefault(ends[-1], set()).update(ends[:-1])
        self.continues: Continues = lambda concept, part: False

    def goal(self, action: Action, tape: Tape) -> Goal:
        """What an action writes. Raises ``Stuck`` where a rule has no row."""
        leaf = action.leaf
        if isinstance(leaf, WriteLiteral):
            return Goal(self.content_of_literal.get(leaf.text, NOTHING), "", as_bytes(leaf.text))
        if isinstance(leaf, WriteCopy):
            symbol = self.execute.copied(action.places, tape)
            return Goal(self.n_concepts + symbol, leaf.lead, as_bytes(leaf.lead + self.program.symbols[symbol]))
        row = self.execute.row(leaf, action.places, tape)
        return Goal(self.program.rules[leaf.rule].offset + row, leaf.lead, None)

    def length(self, goal: Goal, part: str) -> int:
        """Bytes of the unit at the beginning of ``part``; 0: it is not complete; -1: the program writes none such."""
        if goal.exact is not None:
            if part.startswith(goal.exact):
                return len(goal.exact)
            if goal.exact.startswith(part):
                return 0
            if goal.content >= self.n_concepts + self.n_symbols or goal.content == NOTHING:
                return -1
        forms, beginnings = self.forms[goal.lead], self.beginnings[goal.lead]
        if part in beginnings and not (part in forms and not self._goes_on(goal, part)):
            return 0
        return next((n for n in range(len(part), 0, -1) if part[:n] in forms), -1)

    def is_cut(self, goal: Goal, part: str) -> bool:
        """Whether a unit that may be written has a token that ends behind ``part``."""
        wholes = self.forms[goal.lead] if goal.exact is None else [goal.exact]
        return any(part in self.cuts.get(whole, (part,)) for whole in wholes)

    def _goes_on(self, goal: Goal, part: str) -> bool:
        return goal.content < self.n_concepts and self.continues(goal.content, part)


class Answer:
    """An answer under way behind one question."""

    __slots__ = ("begin", "goal", "index", "part", "refused", "rest", "run", "skill", "step")

    def __init__(self, skill: Skill, begin: int, run: ProgramRun) -> None:
        self.skill, self.begin, self.run = skill, begin, run
        self.part, self.index = "", 0  # of the unit in progress: its bytes, and its tokens
        self.rest: str | None = None  # what stands behind the stop, once that is written
        self.step: tuple[int, Action] | None = None
        self.goal = Goal(NOTHING, "", None)
        self.refused: int | None = None  # tokens of the refusal so far, where something forgotten is needed

    @classmethod
    def behind(cls, skill: Skill, begin: int, units: Sequence[Unit]) -> Answer | None:
        """An answer behind a question; None where the program has none."""
        return cls(skill, begin, skill.execute.begin(units))._aim()

    def _aim(self) -> Answer | None:
        tape = self.run.tape
        if len(tape.names) > MAX_UNITS or tape.work > MAX_WORK:
            return None  # as a rollout would end
        try:
            self.step = self.skill.execute.next(self.run)
            self.goal = self.skill.goal(self.step[1], tape)
        except Stuck:
            return None
        if self.goal.content in self.skill.forgotten:
            self.refused = 0
            return self if self.skill.refusal else None
        return self

    def refuse(self, token: int) -> Answer | None:
        """The refusal behind one more token; None where that is another."""
        skill, done = self.skill, self.refused
        assert done is not None
        if token != skill.refusal[done]:
            return None
        new = Answer(skill, self.begin, self.run)
        new.refused = done + 1
        if new.refused == len(skill.refusal):
            new.refused, stop = None, skill.program.stop
            new.step = -1, Action(WriteLiteral(text=stop), 0, ())
            new.goal = Goal(skill.content_of_literal.get(stop, NOTHING), "", as_bytes(stop))
        return new

    def feed(self, text: str) -> Answer | None:
        """The answer behind one more token; None where the text is not what the program writes."""
        new = Answer(self.skill, self.begin, self.run)
        new.part, new.index, new.step, new.goal = self.part + text, self.index + 1, self.step, self.goal
        while new.part:
            n = self.skill.length(new.goal, new.part)
            if n < 0:
                return None
            if n == 0:
                break
            unit, new.part = new._unit(new.part[:n]), new.part[n:]
            if unit.symbol is None and unit.text == self.skill.program.stop:
                new.rest = new.part
                return new
            if new.run is self.run:
                new.run = ProgramRun(self.run.tape.copy(), self.run.after)
            self.skill.execute.wrote(new.run, unit, new.step)
            if new._aim() is None:
                return None
            new.index = int(bool(new.part))
        return new

    def _unit(self, raw: str) -> TracedUnit:
        assert self.step is not None
        leaf = self.step[1].leaf
        if isinstance(leaf, WriteLiteral):
            return TracedUnit(leaf.text, leaf.symbol, leaf.lead)
        symbol = self.skill.forms[leaf.lead][raw]
        return TracedUnit(leaf.lead + self.skill.program.symbols[symbol], symbol, leaf.lead)

    @property
    def is_stranded(self) -> bool:
        """Whether the tokens of the unit in progress are such as the student does not write it with."""
        return bool(self.part) and not self.skill.is_cut(self.goal, self.part)

    def plan(self) -> Plan:
        """What to inject at the next token."""
        skill, content = self.skill, self.goal.content
        if self.refused is not None:
            return Plan(skill.first_refusal + self.refused, 0)
        literal = content >= skill.n_concepts + skill.n_symbols
        first = 0 if literal else skill.slot_of_lead.get(self.goal.lead, 0)
        return Plan(content, first + min(self.index, skill.longest - 1))


@dataclass(frozen=True, slots=True)
class Following:
    """One point of a text: the questions that may be under way, and the answers, the likeliest first."""

    skill: Skill
    scan: Scan
    answers: tuple[Answer, ...] = ()
    waiting: tuple[tuple[Found, tuple[int, ...]], ...] = ()
    """Questions with what is missing of the turn of roles before their answers."""
    open: tuple[tuple[Found, str], ...] = ()
    """Questions with the bytes behind them, where these are the beginning of a gap."""
    sentence: Sentence = EMPTY
    asked: Asked | None = None
    """What the sentence that ends here may ask in other words."""

    @classmethod
    def start(cls, skill: Skill) -> Following:
        """Before the first token."""
        return cls(skill, Scan(skill.questions))

    @property
    def plan(self) -> Plan:
        """What to inject at this token."""
        return self.answers[0].plan() if self.answers else Plan()

    def advance(self, token: int, boundary: bool, column: int = NOTHING) -> Following:
        """The point behind one more token.

        Args:
            boundary: a pass of several tokens ends here; in generation, that is where the user's text ends.
            column: how the sentence that ends here is read, if it is a question in other words.
        """
        skill = self.skill
        text = skill.lexicon.text_of.get(token)
        waiting = [(found, gap[1:]) for found, gap in self.waiting if gap[0] == token]
        answers: list[Answer] = []
        questions: list[tuple[Found, str]] = []
        if text is None:
            scan = Scan(skill.questions, self.scan.now.behind(skill.lexicon.end_of(token)))
            answers = self._refusals(token)
        else:
            fed = [answer.feed(text) for answer in self.answers if answer.refused is None]
            answers = [*self._refusals(token), *(new for new in fed if new is not None)]
            if answers and answers[0].rest is not None:
                rest, answers, scan = answers[0].rest, [], Scan(skill.questions)
                scan = scan.feed(rest) if rest else scan
                questions = [(scan.found, "")] if scan.found is not None else []
            elif text == END:
                answers, scan = [], Scan(skill.questions)
            else:
                answers = [answer for answer in answers if answer.rest is None]
                scan, questions = self._read(text)
        sentence, asked = self._sentence(token, text), None
        if skill.phrases is not None and not answers and not any(not behind for _, behind in questions):
            asked = skill.phrases.asked(sentence)
            if asked is not None and column != NOTHING:
                questions.append((asked.readings[column], as_bytes(asked.rest)))
        questions.sort(key=lambda question: len(question[1]))  # what ends here goes before what ended earlier
        gaps = [skill.gap_of(behind) for _, behind in questions]
        for (found, behind), gap in zip(questions, gaps, strict=True):
            if gap is Gap.WHOLE:
                self._begin(found, answers, boundary and not behind)
                waiting += [(found, turn) for turn in skill.gaps]
        for found in [found for found, gap in waiting if not gap]:
            answer = Answer.behind(skill, NOTHING, found.units)
            answers = answers if answer is None else [answer]
        still_open = [question for question, gap in zip(questions, gaps, strict=True) if gap is not Gap.OTHER]
        still_waiting = tuple(w for w in waiting if w[1])
        still = tuple(answers[:_MAX_ANSWERS]), still_waiting, tuple(still_open[:_MAX_OPEN])
        return Following(skill, scan, *still, sentence, asked)

    def _refusals(self, token: int) -> list[Answer]:
        """The answers that are refused, behind one more token."""
        refused = [answer.refuse(token) for answer in self.answers if answer.refused is not None]
        return [answer for answer in refused if answer is not None]

    def _sentence(self, token: int, text: str | None) -> Sentence:
        """The sentence behind one more token."""
        if self.skill.phrases is None:
            return self.sentence
        lexicon = self.skill.lexicon
        piece = foreign_piece(lexicon.start_of(token), lexicon.end_of(token)) if text is None else as_text(text)
        return self.sentence.then("\n" if text == END else piece)

    def _read(self, text: str) -> tuple[Scan, list[tuple[Found, str]]]:
        """The scan behind a token's text, and the questions before its end, each with the bytes behind it."""
        scan, questions = self.scan, list(self.open)
        for piece in pieces(text):
            scan = scan.feed(piece)
            questions = [(found, behind + piece) for found, behind in questions]
            if scan.found is not None:
                questions.append((scan.found, ""))
        return scan, questions

    def _begin(self, found: Found, answers: list[Answer], boundary: bool) -> None:
        """Add the answer to a question that ends here.

        A question that began within an answer is part of it. One that began before it reads the answer as more of the
        question: that is right where the user's text ends here, and may be right where no unit is written yet. What
        the student would not have written so (a blank in front of a unit that has it in its first token) is no part of
        an answer, but of the gap before it.
        """
        if answers and found.begin > answers[0].begin:
            return
        behind = Answer.behind(self.skill, found.begin, found.units)
        if behind is not None:
            first = boundary or (bool(answers) and answers[0].is_stranded)
            answers.insert(0 if first else len(answers), behind)
