"""Draws the pictures of README and documentation: ``python docs/pictures/draw.py``.

``answer.json`` is what ``m2kt explain zoo:pico-gpt2 --adapter secret.adapter "i g b f:" --json`` printed after
``m2kt demo``; ``answer.svg`` is its animated picture. ``overview.svg`` shows the way of a skill. Both follow the
reader's light or dark setting, and a test compares the files with what this script draws.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from m2kt.pipeline import Explanation
from m2kt.render._theme import DARK, LIGHT

FOLDER = Path(__file__).parent
WIDTH, HEIGHT, BOX, GAP, TOP = 888, 236, 198, 28, 26

STYLE = """
.page{fill:var(--page)} text{font:13px system-ui,sans-serif;fill:var(--ink)} .head{font-weight:650;font-size:15px}
.small{fill:var(--muted);font-size:12px} .mono{font-family:ui-monospace,monospace;font-size:12px}
.box{fill:none;stroke:var(--line);stroke-width:1.5} .s0{stroke:var(--s0)} .s2{stroke:var(--s2)} .s4{stroke:var(--s4)}
.arrow{fill:none;stroke:var(--muted);stroke-width:1.5} .tip{fill:var(--muted)} .good{fill:var(--s2);font-weight:650}
.bad{fill:var(--s3)} .quiet{fill:var(--muted)}
"""

Line = tuple[str, str]


def colours() -> str:
    """The page's colours as CSS variables, light and dark."""
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in theme.items()) for theme in (LIGHT, DARK))
    return f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"


def on_page(svg: str) -> str:
    """A picture with the page behind it: where it is shown may be dark while the reader's setting is light."""
    page = '<rect width="100%" height="100%" rx="10" style="fill:var(--m2kt-page);stroke:none"/>'
    return svg.replace("</style>", f"</style>\n{page}", 1) + "\n"


def overview(explanation: Explanation) -> str:
    """Teacher, packet, frozen student, verdict: what stands in each, with one real question and its answers."""
    asked, after = explanation.prompt, explanation.answer.strip()
    before = explanation.base_answer.split("\n")[0].strip()[:12].strip() + " …"
    boxes: list[tuple[str, str, list[Line]]] = [
        (
            "Teacher",
            "s0",
            [
                ("a model with a skill", "small"),
                ("", ""),
                (asked, "mono"),
                (after, "mono"),
                ("", ""),
                ("asked, altered, asked again:", "small"),
                ("which symbol decides?", "small"),
            ],
        ),
        (
            "Knowledge packet",
            "s4",
            [
                ("all that travels, signed", "small"),
                ("", ""),
                ("a program: where to look", ""),
                ("a vector a row of a rule", ""),
                ("", ""),
                ("no example, no weight,", "small"),
                ("no answer as text", "small"),
            ],
        ),
        (
            "Frozen student",
            "s0",
            [
                ("of another family", "small"),
                ("", ""),
                (f"before  {before}", "mono"),
                ("after", "mono"),
                (after, "mono"),
                ("", ""),
                ("an adapter brings the vectors", "small"),
            ],
        ),
        (
            "Verdict",
            "s2",
            [
                ("on questions never seen", "small"),
                ("", ""),
                ("✓ accepted, or", "good"),
                ("✗ rolled back bit for bit", "bad"),
                ("", ""),
                ("skill reached? all else", "small"),
                ("unchanged? who signed?", "small"),
            ],
        ),
    ]
    label = (
        "A teacher's skill becomes a signed packet, a frozen student takes it in, and a verdict accepts or rejects it"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(label)}">',
        f"<style>{colours()}{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
    ]
    left = (WIDTH - 4 * BOX - 3 * GAP) / 2
    for number, (head, tone, lines) in enumerate(boxes):
        x = left + number * (BOX + GAP)
        parts.append(
            f'<rect class="box {tone}" x="{x}" y="{TOP}" width="{BOX}" height="{HEIGHT - 2 * TOP}" rx="9"/>'
            f'<text class="head" x="{x + 14}" y="{TOP + 26}">{escape(head)}</text>'
        )
        parts += [
            f'<text class="{kind}" x="{x + 14}" y="{TOP + 46 + 18 * i}">{escape(text)}</text>'
            for i, (text, kind) in enumerate(lines)
            if text
        ]
        if number:
            y = HEIGHT / 2
            parts.append(
                f'<path class="arrow" d="M{x - GAP + 5} {y}H{x - 9}"/><path class="tip" d="M{x - 4} {y}l-8 -5v10z"/>'
            )
    return "\n".join([*parts, "</svg>", ""])


def pictures() -> dict[str, str]:
    """The files of this folder and what belongs into them."""
    explanation = Explanation.model_validate_json((FOLDER / "answer.json").read_text(encoding="utf-8"))
    return {
        "overview.svg": overview(explanation),
        "answer.svg": on_page(explanation.picture(animated=True)),
    }


if __name__ == "__main__":
    for name, svg in pictures().items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
