"""Routes for monitoring: liveness, readiness, metrics. They need no API key and show no content of packets."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .._access import BrokerDependency
from .._metrics import Metrics
from .._views import View

router = APIRouter(tags=["health"])


class Health(View):
    """The service is alive or ready."""

    status: Literal["ok"] = "ok"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Check that the process responds")
def alive() -> Health:
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Check that database and store respond, and update a stale catalogue")
def ready(broker: BrokerDependency) -> Health:
    broker.check()
    return Health()


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def prometheus_metrics(request: Request, broker: BrokerDependency) -> Response:
    metrics: Metrics = request.app.state.metrics
    metrics.update(broker)
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
