"""Every error that M2KT raises on purpose, with its exit code.

Messages say what was expected, what was given, and what to do. Any other exception is a bug of M2KT.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import ClassVar, Protocol, TypedDict, get_args, get_origin, runtime_checkable

MAX_FIELDS = 5
"""Refused fields that are named: a hostile input may have a million."""
LONGEST_MISTYPED = 64
"""Characters of an unknown field's name that is still compared with those there are."""


class _FieldError(TypedDict):
    type: str
    loc: tuple[str | int, ...]
    msg: str
    input: object


@runtime_checkable
class _ValidationError(Protocol):
    """A ValidationError of pydantic, which is not imported here."""

    def errors(self, *, include_url: bool) -> list[_FieldError]: ...


def explain(error: Exception, model: type | None = None) -> str:
    """The message of an error of another library, in one line: refused fields, or the operating system's reason.

    Args:
        model: the pydantic model that refused the fields, whose fields are then proposed for unknown ones.
    """
    if isinstance(error, _ValidationError):
        fields = error.errors(include_url=False)
        extra = [field["loc"] for field in fields if field["type"] == "extra_forbidden"]
        unknown = {loc: _meant(loc, model) for loc in extra[:MAX_FIELDS]}
        meant = {(*loc[:-1], name) for loc, names in unknown.items() for name in names[:1]}
        # a field that is missing because its name is mistyped is one mistake
        fields = [field for field in fields if field["type"] != "missing" or field["loc"] not in meant]
        more = [f"and {len(fields) - MAX_FIELDS} more"] if len(fields) > MAX_FIELDS else []
        return "; ".join([_field(field, unknown.get(field["loc"], [])) for field in fields[:MAX_FIELDS]] + more)
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


def _field(field: _FieldError, meant: list[str]) -> str:
    path, value = ".".join(map(str, field["loc"])), field["input"]
    given = f", got {value!r}" if isinstance(value, str | int | float) and len(repr(value)) < 80 else ""
    message = field["msg"].removeprefix("Value error, ")
    if field["type"] == "extra_forbidden":
        message = "there is no such field" + (f"; did you mean {' or '.join(meant)}?" if meant else "")
        given = "" if meant else given
    elif field["type"] == "string_type" and isinstance(value, bool):
        # YAML reads yes, no, on, off as truth values, and nobody can tell which word it was
        message = f'expected text, got the truth value {str(value).lower()}; quote it, as "yes" or "no"'
        given = ""
    elif field["type"] == "string_type" and isinstance(value, int | float):
        message, given = f'expected text, got the number {value}; quote it: "{value}"', ""
    return f"{path}: {message}{given}" if path else message


def _meant(path: tuple[str | int, ...], model: type | None) -> list[str]:
    """Fields that a mistyped one may stand for, the likeliest first."""
    name = str(path[-1])
    return get_close_matches(name, _fields_at(model, path[:-1]), n=2) if len(name) <= LONGEST_MISTYPED else []


def _fields_at(kind: object, path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the pydantic model that stands at a path within an annotation."""
    fields: object = getattr(kind, "model_fields", None)
    if isinstance(fields, dict):
        if not path:
            return list(fields)
        return _fields_at(getattr(fields.get(path[0]), "annotation", None), path[1:])
    origin, parts = get_origin(kind), get_args(kind)
    if isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset | dict):
        return _fields_at(parts[-1], path[1:]) if path and parts else []
    for part in parts:  # of a union, whose members pydantic names in its path
        named = bool(path) and path[0] == getattr(part, "__name__", None)
        found = _fields_at(part, path[1:] if named else path)
        if found:
            return found
    return []


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
