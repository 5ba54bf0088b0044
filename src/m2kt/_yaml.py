"""The YAML of packets and of local files: no anchors, aliases, tags or doubled keys; bounded depth and size."""

from __future__ import annotations

from pathlib import Path

import yaml

from m2kt.errors import SpecError, explain

MAX_DEPTH = 16
MAX_VALUES = 200_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml_file(path: str | Path, what: str) -> object:
    """The value of a file. Raises SpecError as :func:`read_yaml`, and where the file cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot use {what} {path}: {explain(error)}") from error
    return read_yaml(text, f"{what} {path}")


def read_yaml(text: str, what: str) -> object:
    """The value of a YAML document. Raises SpecError where it is not of the subset."""
    _check(text, what)
    try:
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an invalid date or number
        raise SpecError(f"{what} is not YAML: {explain(error)}") from error


def _check(text: str, what: str) -> None:
    """Check the stream of events, before any value is built, so that nothing can expand or recurse."""
    stack: list[set[str] | None] = []  # keys of each open mapping; None for a sequence
    value_next: list[bool] = []  # whether the next event in it is the value of its last key
    documents = values = 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            documents += isinstance(event, yaml.DocumentStartEvent)
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                stack.pop()
                value_next.pop()
            if not isinstance(event, yaml.NodeEvent):
                continue
            values += 1
            if documents > 1 or values > MAX_VALUES:
                raise SpecError(f"{what} holds more than one document or {MAX_VALUES} values")
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
                raise SpecError(f"{what} uses an anchor or alias; write the value out")
            if not isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
                raise SpecError(f"{what} holds an unknown kind of value")
            if event.tag is not None:
                raise SpecError(f"{what} uses the tag {event.tag[:40]!r}; write a plain value")
            if stack and (keys := stack[-1]) is not None:
                value_next[-1] = not value_next[-1]
                if value_next[-1]:  # this event is a key
                    if not isinstance(event, yaml.ScalarEvent) or event.value in keys or event.value == "<<":
                        raise SpecError(f"{what} has a key that is doubled, or is no plain text")
                    keys.add(event.value)
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                value_next.append(False)
                if len(stack) > MAX_DEPTH:
                    raise SpecError(f"{what} is nested deeper than the {MAX_DEPTH} levels allowed")
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(f"{what} is not YAML: {explain(error)}") from error
