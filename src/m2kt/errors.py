"""Every error M2KT raises on purpose, with the exit code that its CLI returns.

Messages say what was expected, what came, and what to do. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

MAX_FIELDS = 5
"""Refused fields that are named: what is refused may be hostile and wrong in a million places."""


def explain(error: Exception) -> str:
    """What somebody else's error says, in one line: the fields that a validation refused, or what the disk said."""
    validation = getattr(error, "errors", None)
    if callable(validation):  # pydantic's
        fields = validation(include_url=False)
        more = [f"and {len(fields) - MAX_FIELDS} more"] if len(fields) > MAX_FIELDS else []
        return "; ".join([_field(e) for e in fields[:MAX_FIELDS]] + more)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _field(found: dict[str, Any]) -> str:
    where, came = ".".join(map(str, found["loc"])), found["input"]
    given = f", came {came!r}" if isinstance(came, str | int | float) and len(repr(came)) < 80 else ""
    what = found["msg"].removeprefix("Value error, ")
    return f"{where}: {what}{given}" if where else what


class M2KTError(Exception):
    """Base of all deliberate errors. ``exit_code`` is what the CLI returns."""

    exit_code: ClassVar[int] = 1


class SpecError(M2KTError):
    """A probe spec or configuration file is not valid."""

    exit_code = 3


class ModelError(M2KTError):
    """A model directory, tokenizer or device cannot be used."""

    exit_code = 4


class ExtractionError(M2KTError):
    """The teacher cannot be condensed: too long prompts, unreached stop string, fidelity below the floor."""

    exit_code = 6


class PacketError(M2KTError):
    """A packet is damaged, edited, truncated, or of an unknown version."""

    exit_code = 7


class CompatibilityError(M2KTError):
    """This student cannot take this packet in: symbols it cannot write, widths, context length."""

    exit_code = 8


class StorageError(M2KTError):
    """The disk refused: full, read-only, or no permission."""

    exit_code = 9


class TrainingError(M2KTError):
    """Training broke down: the loss is not a number."""

    exit_code = 10


class TrustError(M2KTError):
    """Intact, and not accepted by the trust policy, or there is no policy to accept it."""

    exit_code = 11


class BrokerError(M2KTError):
    """A broker, a registry or the net between refused or did not answer.

    ``status`` is that of HTTP; None where there was no answer.
    """

    exit_code = 12

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
