"""Pages of the site that are made from the code: the start page from README, the references, the list of decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.structure.files import File, Files

import m2kt
from m2kt.cli import app
from m2kt.cli._help import EXAMPLES, GROUPS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REPOSITORY_FILES = ("SECURITY.md", "LOG.md", "CHANGELOG.md", "CONTRIBUTING.md", "attacks", "examples", "CITATION.cff")


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages, in memory."""
    pages = {
        "index.md": start(),
        "reference/api.md": api(),
        "reference/cli.md": cli(),
        "reference/schemas.md": schemas(),
        "adr/index.md": decisions(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files of the repository that are no pages become plain text."""
    return re.sub(r"\[([^\]]+)\]\(((?:\.\./)+)(?!pictures)[^)]*\)", _inside, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """What a screen reader and a keyboard need and the theme leaves out."""
    output = output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
    return output.replace("<pre><span></span><code>", '<pre><span></span><code tabindex="0">')


def _inside(match: re.Match[str]) -> str:
    target = match[0].rsplit("(", 1)[1].rstrip(")")
    inside_docs = re.fullmatch(r"\.\./(?:[\w-]+\.md|adr/[\w-]+\.md|log/.*|reference/.*)(#.*)?", target)
    of_root = any(target.lstrip("./").startswith(name) for name in REPOSITORY_FILES) or "src/" in target
    return match[0] if inside_docs and not of_root else match[1]


def start() -> str:
    """README, its links seen from here."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]+)\]\((?!docs/|http)[^)]*\)", r"\1", text)
    return text.replace("](docs/adr)", "](adr/index.md)").replace("](docs/", "](").replace("<!-- skip: next -->\n", "")


def api() -> str:
    """Every public name, by mkdocstrings."""
    shown = "\n".join(f"::: m2kt.{name}\n" for name in sorted(m2kt.__all__, key=str.lower))
    return f"# Python\n\nEvery verb of the command is a function of the same name.\n\n{shown}"


def cli() -> str:
    """Every verb with its help, arguments and example, from the code."""
    root: Any = typer.main.get_command(app)
    lines = ["# Command line", "", "`m2kt --version`, `-q` and `-v` stand before or behind a verb.", ""]
    for group, verbs in GROUPS.items():
        lines += [f"## {group}", ""]
        for verb in verbs:
            lines += _verb(verb, root.commands[verb])
    return "\n".join(lines)


def _verb(name: str, command: Any) -> list[str]:
    if hasattr(command, "commands"):
        return [line for inner, its in command.commands.items() for line in _verb(f"{name} {inner}", its)]
    rows = []
    for parameter in command.params:
        if parameter.name in ("help", "quiet", "verbose"):
            continue
        names = ", ".join(f"`{option}`" for option in parameter.opts)
        required = "required" if parameter.required else ""
        rows.append(f"| {names} | {required} | {_cell(getattr(parameter, 'help', None) or '')} |")
    head = ["| argument | | |", "| --- | --- | --- |", *rows, ""] if rows else []
    example = ["```sh", EXAMPLES[name], "```", ""] if name in EXAMPLES else []
    about = re.sub(r"[ \t]*\n[ \t]*", "\n", (command.help or "").strip())
    return [f"### m2kt {name}", "", about, "", *example, *head]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def schemas() -> str:
    """The JSON Schemas that the repository keeps."""
    names = sorted(path.name for path in (DOCS / "schemas").glob("*.json"))
    return "# JSON Schemas\n\nIn the repository under `docs/schemas`:\n\n" + "\n".join(f"* `{name}`" for name in names)


def decisions() -> str:
    """Titles of all decisions."""
    lines = ["# Decisions", ""]
    for path in sorted((DOCS / "adr").glob("0*.md")):
        title = path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        lines.append(f"* [{title}]({path.name})")
    return "\n".join(lines) + "\n"
