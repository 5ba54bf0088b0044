"""Every error that M2KT raises on purpose, with its exit code.

Messages say what was expected, what was given, and what to do. Any other exception is a bug of M2KT.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, TypedDict, runtime_checkable

MAX_FIELDS = 5
"""Refused fields that are named: a hostile input may have a million."""


class _FieldError(TypedDict):
    loc: tuple[str | int, ...]
    msg: str
    input: object


@runtime_checkable
class _ValidationError(Protocol):
    """A ValidationError of pydantic, which is not imported here."""

    def errors(self, *, include_url: bool) -> list[_FieldError]: ...


def explain(error: Exception) -> str:
    """The message of an error of another library, in one line: refused fields, or the operating system's reason."""
    if isinstance(error, _ValidationError):
        fields = error.errors(include_url=False)
        more = [f"and {len(fields) - MAX_FIELDS} more"] if len(fields) > MAX_FIELDS else []
        return "; ".join([_field(field) for field in fields[:MAX_FIELDS]] + more)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def printable(text: str, limit: int | None = None) -> str:
    """Text of somebody else for a terminal or a log: what does not print is escaped, and what exceeds ``limit`` is cut.

    Control characters drive terminals, and bidirectional ones show a text in another order than it has.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return line if limit is None or len(line) <= limit else line[: limit - 3].rstrip() + "..."


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _field(field: _FieldError) -> str:
    path, value = ".".join(map(str, field["loc"])), field["input"]
    given = f", got {value!r}" if isinstance(value, str | int | float) and len(repr(value)) < 80 else ""
    message = field["msg"].removeprefix("Value error, ")
    return f"{path}: {message}{given}" if path else message


class M2KTError(Exception):
    """Base of all deliberate errors. ``exit_code`` is the CLI's."""

    exit_code: ClassVar[int] = 1


class SpecError(M2KTError):
    """A probe spec, a configuration or an argument is not valid."""

    exit_code = 3


class ModelError(M2KTError):
    """A model directory, tokenizer or device cannot be used."""

    exit_code = 4


class ExtractionError(M2KTError):
    """The teacher's skill cannot be extracted: too long prompts, unreached stop string, fidelity below the floor."""

    exit_code = 6


class PacketError(M2KTError):
    """A packet is damaged, edited, truncated, or of an unknown version."""

    exit_code = 7


class CompatibilityError(M2KTError):
    """The student is not fit for the packet: symbols it cannot write, widths, context length."""

    exit_code = 8


class StorageError(M2KTError):
    """The disk is full or read-only, permission is missing, or other files are at the path."""

    exit_code = 9


class TrainingError(M2KTError):
    """Training diverged: the loss is not a number."""

    exit_code = 10


class TrustError(M2KTError):
    """Intact, and not accepted by the trust policy, or revoked."""

    exit_code = 11


class BrokerError(M2KTError):
    """A broker, a registry or the network refused or did not answer.

    ``status`` is that of HTTP; None without an answer.
    """

    exit_code = 12

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
