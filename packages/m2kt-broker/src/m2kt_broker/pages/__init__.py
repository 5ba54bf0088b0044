"""The broker's HTML pages: rendered on the server, without scripts, cookies or foreign requests.

``/`` lists packets, ``/packets/{digest}`` shows a packet, ``/statements/{digest}`` a signed statement. All text of a
packet is untrusted: templates escape it, and each page's Content-Security-Policy blocks everything else::

    _routes -> _list, _detail    template contexts from the catalogue
            -> _drawings         figures of a packet, drawn by m2kt.render and cached
            -> _render           template, style sheet, response headers

jinja2 and matplotlib are imported on the first request of a page.
"""

from __future__ import annotations

from fastapi import FastAPI

from . import _routes
from ._drawings import DrawingCache


def mount(app: FastAPI) -> None:
    """Add the pages to an application whose error handlers are already registered."""
    app.state.drawings = DrawingCache()
    app.include_router(_routes.router)
    _routes.install_error_pages(app)
