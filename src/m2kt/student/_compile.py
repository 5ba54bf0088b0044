"""From a packet's program to what the executed reader needs in one student: questions, token texts, chat turns."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from m2kt.models import end_token, tokens_bytes
from m2kt.packet import Program, ProgramExecutor, WriteLiteral, leaves
from m2kt.probes import END, MARKS, MASK, ProbeSpec
from m2kt.student.cal import Gaps, Lexicon, QuestionGrammar

PROMPTS = 400


def program_data(program: Program) -> dict[str, object]:
    """The program without the outputs of its rules, for the adapter's configuration."""
    rules = [
        rule.model_copy(update={"outputs": [None] * len(rule.rows), "range": [], "uses": 0}) for rule in program.rules
    ]
    data: dict[str, object] = program.model_copy(update={"rules": rules}).model_dump(mode="json", by_alias=True)
    return data


def question_grammar(program: Program, spec: ProbeSpec) -> QuestionGrammar:
    """What prompts of the probed shapes look like."""
    execute = ProgramExecutor(program)
    prompts = spec.sample("rehearsal", PROMPTS, seed=0)
    return QuestionGrammar.of([execute.mask(u) for u in execute.prompt_units(prompt)] for prompt in prompts)


def lexicon(
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int,
    program: Program,
    grammar: QuestionGrammar,
    afters: Sequence[str] = (),
) -> Lexicon:
    """Texts of all tokens that a question, an answer, or the gap between them may hold.

    Args:
        vocabulary: number of token ids of the model.
        afters: texts that may stand between a question and its answer.
    """
    structure = {mask for pair in grammar.pairs for mask in pair if MASK not in mask and len(mask.strip("^$")) > 0}
    written = {leaf.text for s in program.states for leaf in leaves(s.decision) if isinstance(leaf, WriteLiteral)}
    raw = tokens_bytes(tokenizer, range(vocabulary))
    lexicon = Lexicon.of(
        raw, {*program.symbols, *structure, *written, program.stop, *Gaps(afters).texts, *MARKS} - {END}
    )
    end = end_token(tokenizer)
    if program.stop == END and end is not None:
        lexicon.text_of[end] = END
    return lexicon
