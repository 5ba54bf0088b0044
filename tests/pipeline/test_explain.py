"""``m2kt explain`` and ``m2kt chat``: an answer as data, picture, page and text; adapters switched between turns."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import m2kt
from m2kt.cli import app
from m2kt.errors import CompatibilityError, SpecError
from m2kt.pipeline import Chat, check_explanations

STUDENTS = ["zoo:pico-gpt2", pytest.param("zoo:pico-llama", marks=pytest.mark.slow)]
QUESTION = "c e a:"
CONFIG = m2kt.IngestConfig(evaluation_prompts=8, prompt_seed=0, certificate_traces=0, trigger_strings=0)


@pytest.fixture(scope="module")
def packet(secret_packet: Path) -> m2kt.Packet:
    return m2kt.Packet.load(secret_packet)


@pytest.fixture(scope="module", params=STUDENTS)
def adapter(request: pytest.FixtureRequest, packet: m2kt.Packet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / request.param.removeprefix("zoo:")
    assert m2kt.ingest(request.param, packet, path, config=CONFIG).accepted
    return path


@pytest.fixture(scope="module")
def explanation(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> m2kt.Explanation:
    html = tmp_path_factory.mktemp("page") / "answer.html"
    return m2kt.explain(f"zoo:{adapter.name}", "c e a:", adapter=adapter, html=html)


def test_an_explanation_says_whose_concept_it_is(explanation: m2kt.Explanation, packet: m2kt.Packet) -> None:
    assert packet.signature is not None and packet.confidence_K is not None
    assert explanation.packet == packet.digest and explanation.depth == "executed"
    concepts = [token for token in explanation.tokens if token.kind == "concept"]
    assert len(concepts) == len(explanation.concepts) == 2
    for token in concepts:
        assert token.concept is not None and token.row is not None and token.rule is not None
        rule = next(r for r in packet.program.rules if r.name == token.rule)
        symbols = packet.program.symbols
        assert [symbols[s] for s in rule.rows[token.concept - rule.offset]] == token.row
        assert [read.text for read in token.reads] == token.row
        assert token.confidence == pytest.approx(float(packet.confidence_K[token.concept]), abs=1e-4)
        assert (token.teacher, token.signer) == ("zoo:secret", packet.signature.keyid)
        assert token.decides and token.writes == token.text.strip()
    assert (
        explanation.answer == m2kt.explain(explanation.model, "c e a:", adapter=explanation.adapter).answer
        and explanation.base_answer != explanation.answer
    )


def test_report_picture_and_notebook(explanation: m2kt.Explanation) -> None:
    report = explanation.report()
    json.dumps(report, allow_nan=False)
    assert report["text"] == "c e a:" + explanation.answer
    svg = ElementTree.fromstring(explanation.picture())
    texts = ["".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "r0(e, c)" in texts and "copy" in texts
    arcs = list(svg.iter("{http://www.w3.org/2000/svg}path"))
    assert len(arcs) == sum(len(unit.reads) for unit in explanation.units())
    moving = explanation.picture(animated=True)
    assert "@keyframes" in moving and "prefers-reduced-motion" in moving and "@keyframes" not in explanation.picture()
    assert "<svg" in explanation._repr_html_() and "the student alone" in explanation._repr_html_()


def test_the_page_needs_nothing_else(adapter: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    m2kt.explain(f"zoo:{adapter.name}", "c e a:", adapter=adapter, html=page)
    text = page.read_text()
    assert "zoo:secret" in text and "without r0(e, c)" in text and "<svg" in text
    assert not re.search(r"(src|href)=\"(?!#)|url\(|<script|@import", text)


def test_a_question_that_is_none_is_told(adapter: Path) -> None:
    explanation = m2kt.explain(f"zoo:{adapter.name}", "Hello there", adapter=adapter, max_new_tokens=4)
    assert {token.kind for token in explanation.tokens} == {"base"} and not explanation.concepts
    assert "the adapter did nothing here" in explanation.picture()
    with pytest.raises(SpecError, match="expected a prompt"):
        m2kt.explain(f"zoo:{adapter.name}", " ", adapter=adapter)
    with pytest.raises(SpecError, match="without one; leave out chat"):
        m2kt.explain(f"zoo:{adapter.name}", "c e a:", adapter=adapter, chat=True)


def test_named_concepts_are_causes(adapter: Path) -> None:
    checked = check_explanations(f"zoo:{adapter.name}", "zoo:secret", adapter=adapter, n=6)
    assert checked.concepts.units == 12 and checked.concepts.exchange_share == 1.0
    assert checked.report()["concepts_exchange"] == 1.0


@pytest.mark.slow
def test_a_learned_reader_names_causes_too(packet: m2kt.Packet, tmp_path: Path) -> None:
    assert m2kt.ingest("zoo:pico-gpt2", packet, tmp_path / "adapter", depth="learned", config=CONFIG).accepted
    checked = check_explanations("zoo:pico-gpt2", "zoo:secret", adapter=tmp_path / "adapter", n=20)
    assert checked.concepts.units >= 40 and checked.concepts.exchange_share == 1.0


def test_the_command(adapter: Path, tmp_path: Path) -> None:
    model, run = f"zoo:{adapter.name}", CliRunner().invoke
    shown = run(app, ["explain", model, "--adapter", str(adapter), "c e a:"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0 and "r0(e, c)" in shown.stdout and "the student alone" in shown.stdout
    assert all(len(line) <= 120 for line in shown.stdout.splitlines())
    said = run(app, ["explain", model, "--adapter", str(adapter), "c e a:", "--json"])
    assert json.loads(said.stdout)["tokens"]
    assert run(app, ["explain", model, "--adapter", str(adapter)]).exit_code == 3


@pytest.fixture
def session(adapter: Path) -> Chat:
    return m2kt.chat(f"zoo:{adapter.name}", [adapter], max_new_tokens=24)


def test_turns_are_those_of_the_adapter_or_of_the_student(session: Chat, adapter: Path) -> None:
    explanation = m2kt.explain(f"zoo:{adapter.name}", QUESTION, adapter=adapter)
    assert session.say(QUESTION).answer == explanation.answer
    assert session.toggle() == []
    alone = session.say(QUESTION)
    assert alone.adapters == [] and alone.answer != explanation.answer
    assert explanation.base_answer.startswith(alone.answer[:16])
    with pytest.raises(SpecError, match="switch one on"):
        session.explain()
    assert session.toggle(adapter) == [str(adapter)]
    assert session.say(QUESTION).answer == explanation.answer
    same = session.explain()
    assert [t.concept for t in same.tokens] == [t.concept for t in explanation.tokens] and same.concepts


def test_mistakes(session: Chat, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a message"):
        session.say(" ")
    with pytest.raises(SpecError, match="expected one of the adapters"):
        session.use("another")
    with pytest.raises(SpecError, match="twice"):
        m2kt.chat(f"zoo:{adapter.name}", [adapter, adapter])
    with pytest.raises(CompatibilityError, match="expected an adapter directory"):
        m2kt.chat(f"zoo:{adapter.name}", [adapter, tmp_path])


def test_from_a_pipe(adapter: Path) -> None:
    lines = [QUESTION, "", QUESTION, "", "/1", "/1", QUESTION, "/why", "/help", "/9", "/new", "/quit", "never asked"]
    command = ["chat", f"zoo:{adapter.name}", "--adapter", str(adapter), "--tokens", "24", "--json"]
    result = CliRunner().invoke(app, command, input="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    taught, alone, again, explanation = map(json.loads, result.stdout.strip().split("\n"))
    assert taught["answer"] == again["answer"] != alone["answer"] and alone["adapters"] == []
    assert explanation["answer"] == taught["answer"] and explanation["concepts"]
    assert result.stderr.count("on: none") == 2 and result.stderr.count("/quit") >= 3
    shown = CliRunner().invoke(app, command[:-1], input=f"{QUESTION}\n/why\n")
    assert taught["answer"].strip() in shown.stdout and "because of" in shown.stdout
