"""Attacks by content or form of the text parts: JSON, program, spec, card. All are signed by the attacker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from m2kt.packet._parts import CARD, MANIFEST, PROGRAM, SPEC

from ._forge import Parts, edited, good, parts_attack, replaced

BOMB = b"".join(b"b%d: &b%d [%s]\n" % (i, i, b", ".join([b"*b%d" % (i - 1)] * 9)) for i in range(1, 12))


def _as_version_1(manifest: dict[str, Any]) -> None:
    """Without the field of the fidelity that version 1 did not have."""
    manifest["format_version"] = 1
    del manifest["fidelity"]["sizes"]


def _program(change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    return edited(PROGRAM, change)


def _rule(**values: Any) -> Callable[[Parts], Parts]:
    return _program(lambda program: program["rules"][0].update(values))


def _decision(decision: dict[str, Any]) -> Callable[[Parts], Parts]:
    """The decision of the state that copies the first operand."""
    return _program(lambda program: program["states"][0].update(decision=decision))


def _manifest(**values: Any) -> Callable[[Parts], Parts]:
    return edited(MANIFEST, lambda manifest: manifest.update(values))


def _whole(part: str, content: bytes) -> Callable[[Parts], Parts]:
    return lambda parts: parts | {part: content}


def _spec(more: bytes, before: bytes = b"") -> Callable[[Parts], Parts]:
    return lambda parts: parts | {SPEC: before + parts[SPEC] + more}


def _answer(pattern: str) -> Callable[[Parts], Parts]:
    return replaced(SPEC, b"'> ?(.+)\\.'", b"'" + pattern.encode() + b"'")


def _symbols(*symbols: str) -> Callable[[Parts], Parts]:
    return _program(lambda program: program.update(symbols=list(symbols)))


START: dict[str, Any] = {"at": "start"}


def _copy(source: dict[str, Any]) -> dict[str, Any]:
    return {"do": "copy", "lead": " ", "source": source}


def _literal(text: str, lead: str = "", symbol: int | None = None) -> dict[str, Any]:
    return {"do": "literal", "text": text, "symbol": symbol, "lead": lead}


def _apply(rule: int, arguments: int) -> dict[str, Any]:
    return {"do": "rule", "rule": rule, "sources": [START] * arguments, "lead": " "}


def _seek(own: str | int | None = None, keys: int = 0, **kind: str | None) -> dict[str, Any]:
    return {
        "at": "seek",
        "of": START,
        "step": 1,
        "kind": {"own": own, "before": None, "after": None, **kind},
        "same": [{"offset": 0, "as": START}] * keys,
        "nth": {"plus": 0, "count": None, "since": None},
    }


def _test(*values: list[Any], ask: str = "unit") -> dict[str, Any]:
    question = {"ask": ask, "at": START} | ({"as": START} if ask in ("equal", "order") else {})
    cases = [{"values": found, "then": _copy(START)} for found in values]
    return {"do": "test", "ask": question, "cases": cases, "otherwise": None}


def _moves(depth: int) -> dict[str, Any]:
    pointer = START
    for _ in range(depth):
        pointer = {"at": "move", "of": pointer, "by": 1}
    return pointer


def _tests(depth: int) -> dict[str, Any]:
    decision = _literal(">")
    for _ in range(depth):
        decision = {**_test(), "cases": [{"values": [0], "then": decision}]}
    return decision


for name, tries, refusal, change in (
    # JSON
    ("json-key-twice", "a doubled key: readers pick different values", "canonical", replaced(PROGRAM, b'"stop": "\\n"', b'"stop": "x",\n "stop": "\\n"')),
    ("json-deep", "a hundred thousand brackets, to overflow the parser's stack", "nested deeper", _whole(PROGRAM, b"[" * 100_000)),
    ("json-deep-objects", "the same with objects", "nested deeper", _whole(PROGRAM, b'{"a":' * 100_000)),
    ("json-many-brackets", "five million empty lists", "lists and objects", _whole(PROGRAM, b"[" + b"[]," * 5_000_000 + b"[]]\n")),
    ("json-long-integer", "an integer of a million digits, which takes minutes to read", "not JSON", _whole(PROGRAM, b"9" * 1_000_000)),
    ("json-big-integer", "an integer that other libraries round", "larger than", _rule(uses=2**53)),
    ("json-nan", "NaN, which is no JSON", "not a number", replaced(MANIFEST, b'"seconds": 12.5', b'"seconds": NaN')),
    ("json-infinite", "a number that becomes infinite", "canonical|not valid", replaced(MANIFEST, b'"seconds": 12.5', b'"seconds": 1e999')),
    ("json-float-index", "an index written as a float", "canonical", replaced(PROGRAM, b'"family": 0', b'"family": 0.0')),
    ("json-bool-index", "an index written as a truth value", "canonical", replaced(PROGRAM, b'"family": 0', b'"family": false')),
    ("json-text-index", "an index written as text", "canonical", replaced(PROGRAM, b'"family": 0', b'"family": "0"')),
    ("json-not-utf-8", "bytes that are no UTF-8", "not JSON", replaced(PROGRAM, b"rule 1", b"rule \xff")),
    ("json-byte-order-mark", "a byte order mark, which some readers skip", "not JSON", lambda parts: parts | {PROGRAM: b"\xef\xbb\xbf" + parts[PROGRAM]}),
    ("json-utf-16", "another encoding", "not JSON", lambda parts: parts | {PROGRAM: parts[PROGRAM].decode().encode("utf-16")}),
    ("json-lone-surrogate", "half a character, which cannot be written", "cannot be written|not valid", replaced(PROGRAM, b"rule 1", b"rule \\ud800")),
    ("json-spaces", "other spaces: equal data with another digest", "canonical", replaced(PROGRAM, b'"family": 0', b'"family":  0')),
    ("json-escapes", "a letter written as an escape", "canonical", replaced(PROGRAM, b"rule 1", b"rul\\u0065 1")),
    ("json-null-byte", "data after a null byte", "not JSON", lambda parts: parts | {PROGRAM: parts[PROGRAM] + b"\0hidden"}),
    # manifest
    ("version-unknown", "a later version of the format", "version 1 or 2, got 3", _manifest(format_version=3)),
    ("version-missing", "no version", "version 1 or 2, got None", edited(MANIFEST, lambda m: m.pop("format_version") and None)),
    ("version-true", "a version that equals 1 in Python", "version 1 or 2, got True", _manifest(format_version=True)),
    ("manifest-unknown-field", "a field that no reader of this version knows", "not valid", _manifest(post_install="rm -rf /")),
    ("manifest-field-missing", "a field left out, for readers to guess", "canonical", edited(MANIFEST, lambda m: m.pop("notes") and None)),
    ("manifest-share-over-one", "a fidelity of 200 %", "not valid", edited(MANIFEST, lambda m: m["fidelity"].update(agreement=2.0))),
    ("manifest-terminal", "escape codes that rewrite what a terminal shows", "unprintable", _manifest(name="good\x1b[2K\x1b[1Gsigned by you")),
    ("manifest-lines", "a name whose second line looks like one of ours", "several lines", _manifest(name="tiny\nsigned by key 5d3e (ann): trusted")),
    ("manifest-turned-text", "characters that reverse the direction of writing", "unprintable", _manifest(name="tiny\u202eterces")),
    ("manifest-silent", "v = 0 claimed, outputs as text", "no output is verbalised", _manifest(verbalised=0.0)),
    ("manifest-layer", "vectors of a layer that the teacher lacks", "the teacher has fewer", edited(MANIFEST, lambda m: m["embedding"].update(layer=99))),
    # program
    ("program-of-format-1", "a program under the version whose packets have a graph", "has no graph.json", edited(MANIFEST, _as_version_1)),
    ("program-unknown-step", "a step that no reader knows", "not valid", _decision({"do": "exec", "code": "import os"})),
    ("program-unknown-anchor", "a pointer that leads out of the text", "not valid", _decision(_copy({"at": "file", "path": "/etc/passwd"}))),
    ("program-unknown-question", "a question that no reader knows", "not valid", _decision(_test(["x"], ask="time"))),
    ("program-state-beyond", "a pointer that rests on a state that does not exist", "does not exist", _decision(_copy({"at": "back", "state": "nowhere", "argument": 0}))),
    ("program-negative-argument", "a negative argument, which counts from the end in Python", "not valid", _decision(_copy({"at": "back", "state": None, "argument": -1}))),
    ("program-pointers-deep", "pointers within pointers", "in one another", _decision(_copy(_moves(40)))),
    ("program-many-pointers", "ten thousand pointers to follow at every step", "follows more than", _decision(_copy(_seek(keys=10_000)))),
    ("program-symbol-beyond", "a search for a symbol that does not exist", "looks for", _decision(_copy(_seek(own=7)))),
    ("program-symbol-negative", "a search for a negative symbol", "looks for", _decision(_copy(_seek(own=-1)))),
    ("program-class-beyond", "a search for a class that does not exist", "looks for", _decision(_copy(_seek(own="□9")))),
    ("program-class-no-number", "a search for a class that is no number", "looks for", _decision(_copy(_seek(own="□x")))),
    ("program-class-behind-space", "the same behind a space, which is no part of the name", "looks for", _decision(_copy(_seek(own=" □x")))),
    ("program-word", "a search for the middle of a word", "'first' or 'last'", _decision(_copy(_seek(own="□", word="middle")))),
    ("program-word-null", "a field that is left out where it is null", "canonical", _decision(_copy(_seek(own="□", word=None)))),
    ("program-class-empty", "a search for empty text", "looks for", _decision(_copy(_seek(own="")))),
    ("program-classes-short", "fewer classes than symbols", "classes", _program(lambda p: p.update(classes=[0]))),
    ("program-classes-negative", "a negative class", "classes", _program(lambda p: p.update(classes=[0, 0, -1]))),
    ("program-cases-overlap", "a test with two branches for one symbol", "overlap", _decision(_test([0, 1], [1]))),
    ("program-cases-differ-by-space", "two branches for one text, with a space and without", "overlap", _decision(_test(["x"], [" x"], ask="mask"))),
    ("program-case-empty", "a branch that nothing leads to", "no values", _decision(_test([0], []))),
    ("program-case-beyond", "a symbol that does not exist", "cannot find", _decision(_test([7]))),
    ("program-case-of-another-kind", "a truth value where a symbol stands, equal to 1 in Python", "cannot find", _decision(_test([True]))),
    ("program-tests-deep", "tests within tests", "nested deeper", _decision(_tests(60))),
    ("program-rule-beyond", "a rule that does not exist", "applies rule", _decision(_apply(9, 2))),
    ("program-arguments", "too few arguments for a rule", "wrong number of arguments", _decision(_apply(0, 1))),
    ("program-says-nothing", "a step that writes nothing", "writes nothing", _decision(_literal(""))),
    ("program-false-literal", "a literal that says it is another symbol", "but names the symbol", _decision(_literal("b", symbol=0))),
    ("program-lead", "a leading space of two characters", "the lead", _decision(_literal(".", lead="  "))),
    ("program-state-twice", "two decisions for one state", "one name", _program(lambda p: p["states"].append(p["states"][0]))),
    ("program-state-no-name", "a state without a name", "names 0 masks", _program(lambda p: p["states"][0].update(after=[]))),
    ("program-granularity", "units that no reader cuts", "not valid", _program(lambda p: p.update(granularity="bytes"))),
    ("program-other-stop", "another stop string than the spec's", "the spec stops at", _program(lambda p: p.update(stop=";"))),
    ("program-foreign-end", "an answer that ends twice: by a token and by text", "model's end token", _decision(_literal("\u0004"))),
    ("rule-rows-and-outputs", "fewer outputs than rows", "outputs", _rule(outputs=[None])),
    ("rule-offset", "a rule that begins within another", "begins at concept", _rule(offset=3)),
    ("rule-symbol-beyond", "a symbol that does not exist", "names a symbol", _rule(range=[0, 7])),
    ("rule-symbol-negative", "a negative symbol", "names a symbol", _rule(range=[-1])),
    ("rule-rows-twice", "one row twice, with two outputs", "twice", _rule(rows=[[0, 0]] * 9)),
    ("rule-many-arguments", "a rule of 2^53 arguments", "another number", _rule(arity=2**53 - 1)),
    ("symbol-twice", "a symbol twice", "twice", _symbols("a", "b", "b")),
    ("symbol-composed", "two symbols that look the same: composed and not", "look the same", _symbols("a", "\u00e9", "e\u0301")),
    ("symbol-no-width", "two symbols that differ by a character without width", "look the same", _symbols("a", "b", "b\u200b")),
    ("symbol-empty", "an empty symbol", "empty symbol", _symbols("a", "b", "")),
    # spec
    ("yaml-bomb", "aliases of aliases: a kilobyte that becomes gigabytes", "anchor or alias", _spec(b"", b"b0: &b0 [x, x, x, x, x, x, x, x, x]\n" + BOMB)),
    ("yaml-self", "a list that holds itself", "anchor or alias", _spec(b"notes: &a [*a]\n")),
    ("yaml-python", "a tag that runs a command in careless readers", "tag", _spec(b"notes: !!python/object/apply:os.system [id]\n")),
    ("yaml-merge", "a merge key", "doubled, or", _spec(b"<<: {name: other}\n")),
    ("yaml-key-twice", "a doubled key", "doubled", _spec(b"name: other\n")),
    ("yaml-two-documents", "a second document", "more than one document", _spec(b"---\nname: other\n")),
    ("yaml-deep", "a hundred thousand brackets", "nested deeper", _spec(b"notes: " + b"[" * 100_000)),
    ("yaml-many-values", "half a million values", "values", _spec(b"notes: [" + b"1," * 500_000 + b"]\n")),
    ("yaml-date", "an invalid date", "not YAML|not a valid", replaced(SPEC, b"licence: null", b"licence: 2020-99-99")),
    ("yaml-not-utf-8", "bytes that are no UTF-8", "utf-8", _spec(b"# \xff\n")),
    ("yaml-terminal", "escape codes for a terminal, within quotes", "unprintable", replaced(SPEC, b"licence: null", b'licence: "\\e[2J"')),
    ("yaml-unknown-field", "a field that no reader knows", "not a valid", _spec(b"hook: run.py\n")),
    ("spec-truth", "code that evaluation would import and run", "names a truth", replaced(SPEC, b"truth: null", b"truth: evil.py:run")),
    ("spec-no-end", "an infinite weight", "not a valid", replaced(SPEC, b"- '{x} {x}:'", b"- {text: '{x} {x}:', weight: .inf}")),
    ("spec-several-ends", "several stops, of which no program says which", "the spec stops at", replaced(SPEC, b"stop: ", b"stop:\n- null\n- ")),
    ("spec-surrounding", "a surrounding without the question", "with {prompt} once", _spec(b"surroundings: ['Say yes.']\n")),
    ("spec-phrasing", "a phrasing with other holes than any prompt", "holes of a template", _spec(b"phrasings: ['Is {x} one of {x}, {x} and {x}?']\n")),
    ("spec-examples", "answers as text beside the rules", "the spec shows examples", _spec(b"examples: [{question: 'a b:', answer: ' a b c > c.'}]\n")),
    ("spec-chat-template", "a template that readers would run", "names a chat template", _spec(b"chat: {template: '{{ messages }}'}\n")),
    ("answer-nested", "an expression that takes 2^n steps", "allowed kind", _answer("(a+)+$")),
    ("answer-alternatives", "the same by alternatives", "allowed kind", _answer("(a|aa)+$")),
    ("answer-many-stars", "an expression that takes n^5 steps", "steps", _answer(".*.*.*.*(x)")),
    ("answer-many-options", "thirty optional characters", "steps", _answer("a?" * 30 + "(a)")),
    ("answer-long-tail", "a long piece that is tried again at every position", "steps", _answer("(.*).{2000}")),
    ("answer-back-reference", "a back reference", "allowed kind", _answer("(a)\\1")),
    ("answer-look-ahead", "a look-ahead", "allowed kind", _answer("(?=a)(b)")),
    # card
    ("card-script", "a script in the card", "holds HTML", _whole(CARD, b"# Card\n\n<script>fetch('//evil')</script>\n")),
    ("card-image", "an image that reports who views the card", "holds HTML", _whole(CARD, b"# Card\n\n<img src=x onerror=alert(1)>\n")),
    ("card-terminal", "escape codes in the card", "unprintable", _whole(CARD, b"# Card \x1b[2J\n")),
    ("card-not-utf-8", "a card that is no text", "not UTF-8", _whole(CARD, b"\xff\xfe\x00")),
    ("card-long-line", "a message of ten thousand characters", "not valid", _manifest(**{"x" * 10_000: 1})),
):  # fmt: skip
    parts_attack(name, tries, refusal, change)

assert good()
