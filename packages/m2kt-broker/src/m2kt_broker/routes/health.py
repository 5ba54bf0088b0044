"""For whoever runs the service: alive, ready, figures. No key needed, nothing of a packet shown."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..metrics import Metrics
from ..views import View
from ._common import TheBroker

router = APIRouter(tags=["health"])


class Health(View):
    """It is."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="Whether the process answers")
def alive() -> Health:
    return Health()


@router.get("/readyz", summary="Whether database and store answer; brings in what a failure left behind")
def ready(broker: TheBroker) -> Health:
    broker.check()
    return Health()


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def figures(request: Request, broker: TheBroker) -> Response:
    metrics: Metrics = request.app.state.metrics
    metrics.count(broker)
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
