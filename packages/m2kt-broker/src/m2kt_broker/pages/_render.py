"""Templates to responses: escaped text, one style sheet for each page, and a policy that blocks everything else."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html import unescape
from importlib import metadata, resources
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse

from m2kt.render import percent, shown, stylesheet

from ._text import date, date_time, escape_invisible, file_size, one_line, short_digest

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",  # a map with many points embeds them as an image
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_EMPTY_STYLE = "<style></style>"
_TAG = re.compile(r"<[a-zA-Z][^<>]*>")  # escaped text and attributes contain no < or >
_ATTRIBUTE = re.compile(r'\s+([^\s=/>"]+)(?:="([^"]*)")?')
_SAFE_STYLE = re.compile(r"[\w\s#%.,:;()'/*+-]*")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("m2kt_broker.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (date, date_time, escape_invisible, file_size, one_line, short_digest, percent):
        environment.filters[function.__name__] = function
    environment.filters["display"] = shown
    environment.globals |= {
        "version": metadata.version("m2kt"),
        "style_sheet": f"assets/{style_sheet_name()}",
        "logo": "assets/mark.svg",
    }
    return environment


def root_of(request: Request) -> str:
    """Relative address of the list page: links stay right below a sub-path that a proxy adds or removes."""
    depth = request.url.path.removeprefix(request.scope.get("root_path", "")).count("/") - 1
    return "../" * depth or "./"


def render(request: Request, template: str, status_code: int = 200, /, **context: object) -> HTMLResponse:
    """Render a template as a response. ``q`` of the context is the content of the search field."""
    html = _environment().get_template(template).render({"q": "", "root": root_of(request), **context})
    html, rules = extract_styles(html)
    html = html.replace(_EMPTY_STYLE, f"<style>{rules}</style>", 1)
    digest = base64.b64encode(hashlib.sha256(rules.encode()).digest()).decode()
    policy = POLICY | {"style-src": f"'self' 'sha256-{digest}'"}
    headers = {"Content-Security-Policy": "; ".join(f"{k} {v}" for k, v in policy.items()), **HEADERS}
    return HTMLResponse(html, status_code, headers)


def extract_styles(html: str) -> tuple[str, str]:
    """Replace ``style`` attributes by classes. Returns the HTML and the rules of these classes.

    The page's policy can then forbid every style whose hash it does not name.

    Raises:
        ValueError: a style contains characters that could end its rule.
    """
    classes: dict[str, str] = {}

    def replace(tag: re.Match[str]) -> str:
        attributes = _attributes(tag[0])
        attribute = attributes.get("style")
        if attribute is None:
            return tag[0]
        style = unescape(attribute[2] or "").strip().rstrip(";")
        if _SAFE_STYLE.fullmatch(style) is None:
            raise ValueError(f"expected a style of letters, digits and plain punctuation, got {style[:80]!r}")
        name = classes.setdefault(style, f"i{len(classes)}")
        named = attributes.get("class")
        if named is None:
            return f'{tag[0][: attribute.start()]} class="{name}"{tag[0][attribute.end() :]}'
        edits = {attribute: "", named: f' class="{name} {named[2] or ""}"'}
        text = tag[0]
        for match in sorted(edits, key=lambda match: -match.start()):
            text = text[: match.start()] + edits[match] + text[match.end() :]
        return text

    html = _TAG.sub(replace, html)
    # three times the class, so that the rule outranks the style sheet as an inline style would
    return html, "".join(f".{name}.{name}.{name}{{{style}}}" for style, name in classes.items())


def _attributes(tag: str) -> dict[str, re.Match[str]]:
    """The attributes of a tag by name, read from its beginning: what stands within a value is no attribute."""
    start = re.match(r"<[a-zA-Z][^\s/>]*", tag)
    found: dict[str, re.Match[str]] = {}
    at = start.end() if start else 0
    while (match := _ATTRIBUTE.match(tag, at)) is not None:
        found.setdefault(match[1].lower(), match)
        at = match.end()
    return found


@cache
def style_sheet() -> str:
    """The style sheet of all pages: that of m2kt.render, then that of the site."""
    return stylesheet() + asset("site.css")


@cache
def style_sheet_name() -> str:
    """A file name with the digest of the content, so that browsers can cache the file indefinitely."""
    return f"site.{hashlib.sha256(style_sheet().encode()).hexdigest()[:12]}.css"


def asset(name: str) -> str:
    """The content of a packaged file."""
    return (resources.files("m2kt_broker.pages") / "assets" / name).read_text("utf-8")
