"""Pictures of packets: what they show, that they are whole, and that large ones stay legible."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from m2kt.packet import Move, Packet, Start, State, WriteCopy, WriteLiteral
from m2kt.render import (
    Cell,
    GraphSummary,
    Section,
    Table,
    draw_states,
    draw_transfer_map,
    graph_blocks,
    packet_page,
    page,
    state_chart,
    summarise_graph,
)
from m2kt.render._map import MOST_NAMES, draw_packet_map
from tests.packet.samples import sample_packet
from tests.pages import check_page


def _attended() -> Packet:
    """The sample with attention as extraction writes it: (state, leaf, argument, rule)."""
    attention = {
        "edges_M4": np.array([[2, 0, 0, 0], [2, 0, 1, 0], [1, 0, 0, -1]], np.int32),
        "weight_MLH": np.array([[[0.1, 0.25]], [[0.5, 0.75]], [[0.9, 0.0]]], np.float32),
        "effect_M": np.ones(3, np.float32),
        "causal_M": np.array([1, 0, -1], np.int8),
    }
    return sample_packet(verbalised=True).replace(attention=attention)


def test_the_summary_is_the_trace_that_most_prompts_have() -> None:
    found = summarise_graph(_attended(), prompts=40)
    two, three = found.templates
    assert found.rules == ["rule 1"] and (two.skeletons, two.nodes, two.share) == (1, 7, 1.0)
    assert (three.skeletons, three.nodes, three.share) == (1, 8, 1.0)
    kinds = [unit.kind for unit in three.units]
    assert kinds[:7] == ["prompt", "prompt", "prompt", "literal", "copy", "copy", "rule"]
    # whether the second operand was the question's last letter decides between ";" and ">"
    assert (three.units[7].text, three.units[7].guards) == (";", [1, 2])
    assert [unit.text for unit in three.units[-2:]] == [".", "⏎"]


def test_edges_carry_what_was_measured_along_them() -> None:
    _, three = summarise_graph(_attended()).templates
    first, second, *rest = [edge for edge in three.edges if edge.step == 6]
    assert (first.step, first.source, first.causal, first.attention) == (6, 4, True, 0.25)
    assert (second.source, second.argument, second.causal, second.attention) == (5, 1, False, 0.75)
    (block,) = graph_blocks(GraphSummary(rules=["rule 1"], templates=[three]))
    svg = block.draw()  # type: ignore[union-attr]
    assert svg.count('class="arc idle"') == 2  # at both steps
    assert "rule 1, argument 1: unit 6 reads unit 4" in svg and "strongest head pays 25 %" in svg
    assert not rest


def test_a_summary_survives_json() -> None:
    found = summarise_graph(_attended())
    assert GraphSummary.model_validate_json(found.model_dump_json()) == found


def test_what_cannot_be_rolled_out_is_said_and_not_drawn() -> None:
    packet = sample_packet()
    none: dict[str, Any] = {
        "prototype_samples_PD": np.zeros((0, 4), np.float32),
        "prototype_symbol_P": np.zeros(0, np.int64),
    }
    packet = packet.replace(concepts=packet.concepts.replace(**none))
    found = summarise_graph(packet)
    assert all(t.units == [] and t.share is None for t in found.templates)
    html = packet_page(packet)
    check_page(html)
    assert "no rollout was complete" in html and "~?" in html


def test_a_trace_of_hundreds_of_units_is_one_legible_picture() -> None:
    packet = sample_packet(verbalised=True)
    steps = 120
    copies = [WriteCopy(source=Move(of=Start(), by=i % 2), lead=" ") for i in range(steps)]
    after = [("", *[" □0"] * i) for i in range(steps + 1)]
    states = [State(after=a, decision=d) for a, d in zip(after, [*copies, WriteLiteral(text="\n")], strict=True)]
    program = packet.program.model_copy(update={"states": states})
    found = summarise_graph(packet.replace(program=program), prompts=10).templates[1]
    assert (found.nodes, found.skeletons) == (121, 1)
    (block,) = graph_blocks(GraphSummary(rules=["rule 1"], templates=[found]))
    assert block.caption.startswith("1 skeleton, 121 states")  # type: ignore[union-attr]
    svg = block.draw()  # type: ignore[union-attr]
    left = [float(x) for x in re.findall(r'<rect x="([\d.]+)"', svg)]
    width = [float(w) for w in re.findall(r'width="([\d.]+)" height="26', svg)]
    assert len(left) == 123 and all(a + w < b for a, w, b in zip(left, width, left[1:], strict=False))


def test_the_state_chart_leads_from_the_start_to_the_end() -> None:
    packet = sample_packet(verbalised=True)
    chart = state_chart(packet.program)
    assert [state.name for state in chart] == ["start", "□", "□ □", "□ □ □", ";", ">", "> □", "."]
    assert [state.layer for state in chart] == [0, 1, 2, 2, 3, 3, 4, 5] and [s.ends for s in chart] == [False] * 7 + [
        True
    ]
    assert chart[3].following == {5: [">"], 4: [";"]} and chart[4].following == {1: ["□"]}
    lines = [line.text for line in chart[3].lines]
    assert lines == ["is where [□] looked before 2 before the answer's start?", "there: write ' >'", "before: write ;"]
    svg = draw_states(packet.program)
    assert svg.count('<g class="state') == 8 and svg.count("<path") == sum(len(s.following) for s in chart)
    assert "□ number 2 + as many as ; in the answer" in " ".join(svg.split())


@pytest.mark.parametrize("verbalised", [False, True])
def test_a_packets_page(verbalised: bool) -> None:
    html = packet_page(_attended() if verbalised else sample_packet())
    check_page(html)
    assert html.count("<svg") == (5 if verbalised else 4)  # map, chart, two traces, heat maps where attention was kept
    assert ("holds no attention" in html) != verbalised
    for said in (
        "99.5 %",
        "3,700",
        "LlamaForCausalLM",
        "layer 2, by interrogation",
        "not verified",
        "{x} {x} {x}:",
    ):
        assert said in html


def test_a_fallback_never_looks_like_a_full_extraction() -> None:
    html = packet_page(sample_packet(fallback=True, fallback_reason="step 7 resisted"))
    assert "Fallback to plain traces, not a full extraction: step 7 resisted" in html


def test_what_a_packet_says_is_text_and_never_markup() -> None:
    packet = sample_packet(verbalised=True, notes=["<script>alert(1)</script>"], name='"><img src=x>')
    program = packet.program.model_copy(update={"symbols": ["<b>", "&", "'\""]})
    html = packet_page(packet.replace(program=program))
    check_page(html)
    assert "<script" not in html and "<img" not in html and "<b>" not in html
    assert "&lt;script&gt;" in html and "&lt;b&gt;" in html


def test_rules_too_large_for_grids_are_cut_and_it_is_said() -> None:
    packet = sample_packet()
    (rule,) = packet.program.rules
    n = 3000
    rows = list(product(range(3), repeat=8))[:n]
    big = rule.model_copy(update={"arity": 8, "rows": rows, "outputs": [None] * n})
    rng = np.random.default_rng(0)
    fill: dict[str, Any] = {
        "vectors_KD": rng.standard_normal((n, 4)).astype(np.float32),
        "support_K": np.ones(n, np.int64),
        "spread_scale_Kr": np.ones((n, 2), np.float32),
        "spread_basis_KrD": np.ones((n, 2, 4), np.float32),
    }
    program = packet.program.model_copy(update={"rules": [big], "states": []})
    html = packet_page(packet.replace(program=program, concepts=packet.concepts.replace(**fill)))
    check_page(html)
    assert "2940 more rows" in html
    assert "data:image/png;base64," in html  # so many points are an image
    assert len(html) < 600_000


def test_the_map_of_a_transfer_names_every_symbol() -> None:
    spots = [[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]
    found = {
        "teacher_xy": spots,
        "image_xy": spots,
        "own_xy": spots[:2],
        "label": ["a", "b", "a"],
        "own_label": ["a", "c"],
    }
    svg = draw_transfer_map(found)
    assert svg.count(">a</text>") == svg.count(">b</text>") == 2 and ">c</text>" not in svg


def test_cells_of_a_table() -> None:
    table = Table(["x", "y"], [["a", Cell("50 %", share=0.5)], [Cell("b", tone="bad"), Cell("c", tint="#123456")]])
    html = page("t", [Section("One & two", [table])])
    check_page(html)
    assert "--share:50.0%" in html and "--tint:#123456" in html and 'id="one-two"' in html


def test_templates_are_shipped() -> None:
    import m2kt.render

    folder = Path(m2kt.render.__file__).parent / "templates"
    assert {p.name for p in folder.iterdir()} == {
        "blocks.html.j2",
        "page.html.j2",
        "graph.svg.j2",
        "states.svg.j2",
        "style.css",
    }


def test_figures_share_no_id_and_labels_keep_their_halo() -> None:
    html = packet_page(_attended())
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) and sum(name.startswith("halo-") for name in ids) == 3


def _with_symbols(names: list[str]) -> Packet:
    packet = sample_packet(verbalised=False)
    program, concepts = packet.program, packet.concepts
    n, width = len(names), concepts.prototypes_SD.shape[1]
    prototypes = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    prototypes[: len(program.symbols)] = concepts.prototypes_SD
    symbols = program.model_copy(update={"symbols": names, "classes": [0] * n})
    count = np.ones(n, concepts.prototype_count_S.dtype)
    return packet.replace(
        program=symbols, concepts=replace(concepts, prototypes_SD=prototypes, prototype_count_S=count)
    )


def test_a_picture_of_many_symbols_names_some_and_says_so() -> None:
    first = sample_packet().program.symbols
    svg = draw_packet_map(_with_symbols([*first, *(f"s{i}" for i in range(1500))]))
    assert svg.count("halo-") == MOST_NAMES and f"{MOST_NAMES} of {len(first) + 1500} are named" in svg


@pytest.mark.parametrize("name", ["$\\frac{$", "$x$", "a$b", "\\", "$", "<b>&amp;", "\u200b"])
def test_a_symbol_is_drawn_as_it_is(name: str) -> None:
    """matplotlib would read what stands between two ``$`` as a formula."""
    first = sample_packet().program.symbols
    svg = draw_packet_map(_with_symbols([*first, name]))
    assert svg.count("halo-") == len(first) + 1
    ElementTree.fromstring(svg)
