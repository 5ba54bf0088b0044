"""A first look at a teacher's answers, before anything is asked at length: do they end, and can the spec read them?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from m2kt.errors import ExtractionError, ModelError
from m2kt.models import Completion, has_template, set_end_token, special_names
from m2kt.probes import END, FORMS, ProbeSpec
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._teacher import Teacher

LOOKS = 16  # prompts asked
TOLERATED = 0.25  # share of them that may come to no end: the probing itself judges more closely
SHOWN = 120  # characters of an answer in a message


def settle(teacher: Teacher, config: ExtractionConfig) -> ProbeSpec:
    """The spec with the one end that the teacher's answers have; the teacher is told, too.

    Of several stops it is the first in the list that the teacher was seen to use.

    Raises:
        ModelError: the teacher has no end token or no chat template, though the spec asks for it, or prompts hold
            special tokens.
        ExtractionError: the answers come to none of the stops, or the spec's ``answer`` finds nothing in them.
    """
    spec = teacher.spec
    _check_ends(teacher)
    _check_text(teacher)
    prompts = spec.sample("probing", LOOKS, seed=config.seed)
    if not prompts:
        return spec  # probing says so
    completions = teacher.complete(prompts, "a first look")
    ended = [completion for completion in completions if completion.stop is not None]
    if len(completions) - len(ended) > max(TOLERATED, config.unstopped) * len(completions) or not ended:
        raise _never_ended(teacher, completions)
    _check_answer(spec, ended)
    chosen = min(completion.stop for completion in ended if completion.stop is not None)
    text = teacher.ends.texts.get(chosen)
    if text is None:
        used = Counter(completion.ids[-1] for completion in ended if completion.stop == chosen)
        set_end_token(teacher.tokenizer, used.most_common(1)[0][0])
    teacher.spec = spec.settled(text)
    return teacher.spec


def _check_ends(teacher: Teacher) -> None:
    stops = teacher.spec.stops
    if None in stops and not teacher.ends.tokens_of(stops.index(None)):
        raise ModelError(
            f"expected a model with an end token, for the spec has stop: null, got none in {teacher.facts.name}; "
            "write into stop the text that ends its answers, or set eos_token_id in its generation_config.json"
        )


def _check_text(teacher: Teacher) -> None:
    """Prompts are text: special tokens in them would be read as such, and mean nothing to a student."""
    spec = teacher.spec
    shapes = [(i, held) for held in (False, True) for i in range(len(spec.held_out if held else spec.templates))]
    texts = [*(spec.template_text(i, held) for i, held in shapes), *spec.values, *chain(*spec.shown)]
    found = next(((name, text) for name in special_names(teacher.tokenizer) for text in texts if name in text), None)
    if found is not None:
        raise ModelError(
            f"expected plain text in templates, slots and examples, got {found[0]!r} in {found[1]!r}, a special "
            "token of the teacher; write chat: into the spec for a chat model's roles, and stop: for what ends its "
            "answers"
        )


def _never_ended(teacher: Teacher, completions: Sequence[Completion]) -> ExtractionError:
    open_ = [completion for completion in completions if completion.stop is None]
    other = [completion for completion in open_ if completion.ended_by is not None]
    expected, chat = f"expected answers that end with {teacher.ends.shown()}", ""
    if teacher.chat is None and has_template(teacher.tokenizer):
        chat = "; the teacher has a chat template: if it was trained to chat, write chat: {} and stop: null"
    if 2 * len(other) > len(open_):
        return ExtractionError(
            f"{expected}, got {len(other)} of {len(completions)} that the teacher ended by its own end token "
            f"{other[0].ended_by!r}, such as {_shown(other[0])}; write stop: null in the spec, or a list of stops with "
            f"null in it{chat}"
        )
    return ExtractionError(
        f"{expected}, got {len(open_)} of {len(completions)} without it within {teacher.answer_budget} tokens, such as "
        f"{_shown(open_[0])}; write into stop what ends this answer, raise max_new_tokens, or use templates that the "
        f"teacher was trained on{chat}"
    )


def _check_answer(spec: ProbeSpec, completions: Sequence[Completion]) -> None:
    if all(spec.read_answer(completion.text) is None for completion in completions):
        raise ExtractionError(
            f"expected answers in which answer: {spec.answer!r} finds something, got none of {len(completions)}, such "
            f"as {_shown(completions[0])}; write one of {FORMS}, an expression whose first group is the answer, or "
            "null for the whole text"
        )


def _shown(completion: Completion) -> str:
    text = completion.text.removesuffix(END)
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
