"""From a packet's program to what the executed reader needs in one student: questions, token texts, chat turns."""

from __future__ import annotations

from contextlib import suppress

from transformers import PreTrainedTokenizerBase

from m2kt.errors import ModelError
from m2kt.models import cut_by_template, end_token, tokens_bytes
from m2kt.packet import Program, ProgramExecutor, WriteLiteral, leaves
from m2kt.probes import END, MASK, ProbeSpec
from m2kt.student._chat import own_chat, student_chat
from m2kt.student.cal import Lexicon, QuestionGrammar

PROMPTS = 400
MESSAGES = 100  # rendered, to see which tokens cut them


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
    tokenizer: PreTrainedTokenizerBase, vocabulary: int, program: Program, spec: ProbeSpec, grammar: QuestionGrammar
) -> Lexicon:
    """Texts of all tokens that a question or an answer may hold.

    A token in which a question and the chat template behind it meet stands for the question's part.

    Args:
        vocabulary: number of token ids of the model.
    """
    structure = {mask for pair in grammar.pairs for mask in pair if MASK not in mask and len(mask.strip("^$")) > 0}
    written = {leaf.text for s in program.states for leaf in leaves(s.decision) if isinstance(leaf, WriteLiteral)}
    raw = tokens_bytes(tokenizer, range(vocabulary))
    lexicon = Lexicon.of(raw, {*program.symbols, *structure, *written, program.stop} - {END})
    end = end_token(tokenizer)
    if program.stop == END and end is not None:
        lexicon.text_of[end] = END
    chat = student_chat(tokenizer, spec) or own_chat(tokenizer)
    if chat is not None:
        for prompt in spec.sample("rehearsal", MESSAGES, seed=0):
            with suppress(ModelError):  # a prompt that this template or tokenizer cannot render is asked as plain text
                parts = cut_by_template(tokenizer, prompt.text, chat)
                lexicon.text_of.update({token: part.decode("latin-1") for token, part in parts.items()})
    return lexicon
