"""HTTP routes of the API. A route parses the request, calls the service, and returns a view."""

from . import _packets, _search, _statements
from ._health import router as health_router

api_routers = (_packets.router, _statements.router, _search.router, _search.lineage_router)
"""Routers that require an API key."""

__all__ = ["api_routers", "health_router"]
