"""The perfect teacher: a plain function as the oracle of an extraction, and its writer under interventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.symbolic._pens import ForcedPen, FreePen, OtherCourse, Writer
from m2kt.errors import ExtractionError
from m2kt.probes import ProbeSpec, Prompt, Segmenter
from m2kt.teacher import Answer, Forced

_REACH = 80  # characters of an answer in which its next unit ends
Function = Callable[[str], str]


class FunctionTeacher:
    """Answers by a function. Interventions are exact: they run the task's writer with a pen that forces what stands.

    Without a writer only units of the prompt can be replaced, and the answer is known until it first differs.
    """

    def __init__(self, spec: ProbeSpec, function: Function, writer: Writer | None = None) -> None:
        self.spec, self.passes = spec, 0
        self._function, self._writer = function, writer
        self._segmenter = Segmenter(spec.values)
        self._written: dict[str, FreePen] = {}  # by prompt: many interventions have one base
        self._layouts: dict[str, Mapping[int, int]] = {}  # extents of symbols by the text of the answer

    def answer(self, prompts: Sequence[Prompt], stage: str = "answers") -> tuple[list[Answer], int]:
        """The function's answers; all of them end.

        Raises:
            ExtractionError: the function raised, wrote no text or the stop string, or its writer writes another text.
        """
        self.passes += len(prompts)
        answers = []
        for prompt in prompts:
            completion = self._checked(prompt.text)
            answers.append(Answer(prompt, completion, tuple(range(1, len(completion) + 1))))
        return answers, 0

    def intended(self, forced: Sequence[Forced], stage: str = "interventions") -> list[list[str | None]]:
        """By unit from ``n_prompt`` on: the text that the teacher would itself write there, given all units before.

        None where it is not known: before the replaced unit, and after the writing took another course than the units.
        """
        self.passes += len(forced)
        write = self._intended_by_function if self._writer is None else self._intended_by_writer
        return [write(f) for f in forced]

    def _checked(self, prompt: str) -> str:
        try:
            completion = self._function(prompt)
        except Exception as error:
            raise ExtractionError(f"the function raised {_named(error)} on the prompt {prompt!r}") from error
        if not isinstance(completion, str) or self.spec.end in completion:
            raise ExtractionError(
                f"expected a text without the stop string {self.spec.end!r} from the function, got {completion!r} "
                f"on the prompt {prompt!r}"
            )
        if self._writer is not None:
            try:
                pen = self._write_freely(prompt)
            except Exception as error:
                raise ExtractionError(f"the writer raised {_named(error)} on the prompt {prompt!r}") from error
            if pen.text != completion:
                raise ExtractionError(
                    f"function and writer disagree on the prompt {prompt!r}: the function wrote {completion!r}, "
                    f"the writer {pen.text!r}; they must be the same task"
                )
            self._layouts[completion] = pen.symbol_ends
        return completion

    def _write_freely(self, prompt: str) -> FreePen:
        assert self._writer is not None
        if prompt not in self._written:
            pen = FreePen()
            self._writer(prompt, pen)
            self._written[prompt] = pen
        return self._written[prompt]

    def _cut(self, text: str) -> list[str]:
        return [unit.text for unit in self._segmenter.cut(text)]

    def _intended_by_writer(self, forced: Forced) -> list[str | None]:
        assert self._writer is not None
        prompt, units = "".join(forced.units[: forced.n_prompt]), forced.units[forced.n_prompt :]
        pen = ForcedPen(units, self._symbol_ends(forced), self._cut)
        try:
            self._writer(prompt, pen)
            pen.end()
        except OtherCourse:
            pass
        except Exception:
            pass  # a forced symbol with which the writer cannot go on: nothing is known from there
        unchanged = max(0, forced.replaced - forced.n_prompt)
        return [None] * unchanged + pen.intended[unchanged:]

    def _symbol_ends(self, forced: Forced) -> Mapping[int, int]:
        """Extents of the symbols in the units of the answer: as it was first written, moved by the replaced unit."""
        n_prompt, replaced = forced.n_prompt, forced.replaced
        if replaced < n_prompt:
            return self._layouts.get("".join(forced.units[n_prompt:-1]), {})
        pen = self._write_freely("".join(forced.units[:n_prompt]))
        before, after = "".join(forced.units[n_prompt:replaced]), "".join(forced.units[replaced + 1 :])
        original, start = pen.text + self.spec.end, len(before)
        end = len(original) - len(after)
        if not original.startswith(before) or not original.endswith(after) or end < start:
            return {}  # not this teacher's answer
        new_end = start + len(forced.units[replaced])
        if new_end == end:
            return pen.symbol_ends

        def moved(offset: int, inside: int) -> int:
            return offset if offset <= start else offset - end + new_end if offset >= end else inside

        return {moved(a, a): moved(b, new_end) for a, b in pen.symbol_ends.items()}

    def _intended_by_function(self, forced: Forced) -> list[str | None]:
        units = forced.units[forced.n_prompt :]
        intended: list[str | None] = [None] * len(units)
        if forced.replaced >= forced.n_prompt:
            return intended
        try:
            left = self._function("".join(forced.units[: forced.n_prompt])) + self.spec.end
        except Exception:
            return intended  # the replaced prompt has no answer
        standing = "".join(units)
        for i, unit in enumerate(units):
            following = self._cut(left[: len(unit) + _REACH])[0]
            if not left.startswith(unit) or not (len(unit) >= len(following) or standing.startswith(following)):
                intended[i] = following
                break
            intended[i], left, standing = unit, left[len(unit) :], standing[len(unit) :]
        return intended


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
