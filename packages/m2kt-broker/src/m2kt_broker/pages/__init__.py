"""A broker's pages: what a browser shows of it. Server-rendered, without scripts, cookies or foreign requests.

``/`` lists packets, ``/packets/{digest}`` shows one, ``/statements/{digest}`` what somebody signed about it. All text
that came with a packet is a stranger's: templates escape it, and the policy that goes with each page runs nothing::

    routes -> listing, record, statement    from the catalogue to what a template wants
           -> inside                        a packet's own pictures, drawn by m2kt.render and kept
           -> answers                       templates to a response with its headers
    problems                                the API's errors, for whoever asks for a page

jinja2 and matplotlib are loaded when the first page is asked for.
"""

from __future__ import annotations

from fastapi import FastAPI

from . import problems, routes
from .inside import Drawings


def mount(app: FastAPI) -> None:
    """Adds the pages to a broker's application, whose error handlers are there already."""
    app.state.drawings = Drawings()
    app.include_router(routes.router)
    problems.install(app)
