"""From a template to an answer: escaped, without inline styles, with a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from m2kt.render import percent, shown, stylesheet

from . import text
from .styles import moved

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",  # a map of very many dots is a picture within the page
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
_NO_STYLE = "<style></style>"


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
    for name in ("brief", "day", "short", "size", "visible", "when"):
        environment.filters[name] = getattr(text, name)
    environment.filters |= {"percent": percent, "shown": shown}
    environment.globals |= {
        "version": metadata.version("m2kt"),
        "sheet": f"/assets/{sheet_name()}",
        "mark": "/assets/mark.svg",
    }
    return environment


def rendered(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page."""
    html = _environment().get_template(template).render(q=context.pop("q", ""), **context)
    html, styles = moved(html)
    html = html.replace(_NO_STYLE, f"<style>{styles}</style>", 1)
    known = base64.b64encode(hashlib.sha256(styles.encode()).digest()).decode()
    policy = POLICY | {"style-src": f"'self' 'sha256-{known}'"}
    headers = {"Content-Security-Policy": "; ".join(f"{k} {v}" for k, v in policy.items()), **HEADERS}
    return HTMLResponse(html, status, headers)


def wants_page(request: Request) -> bool:
    """Whether an error is for a person: a browser asks, and not the API."""
    machine = request.url.path.startswith(("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json"))
    return not machine and "text/html" in request.headers.get("accept", "")


def elsewhere(request: Request, api: str) -> Response | None:
    """Leads those who ask for JSON alone to the API."""
    accept = request.headers.get("accept", "")
    if "json" in accept and "text/html" not in accept:
        return RedirectResponse(api, 303, {"Vary": "Accept"})
    return None


@cache
def sheet() -> str:
    """The one style sheet: the looks of blocks and pictures, then the site's own."""
    return stylesheet() + asset("site.css")


@cache
def sheet_name() -> str:
    """Changes with what it holds, so that browsers may keep it."""
    return f"site.{hashlib.sha256(sheet().encode()).hexdigest()[:12]}.css"


def asset(name: str) -> str:
    """A file of ours."""
    return (resources.files("m2kt_broker.pages") / "assets" / name).read_text("utf-8")
