"""Figures for Prometheus, of this one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import func, select

from m2kt.errors import StorageError

from .catalogue import PacketRow
from .service import Broker

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What is counted; a registry of its own, so that two applications in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "m2kt_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "m2kt_request_seconds",
            "Time to the end of the answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.received = Counter("m2kt_received_bytes", "Bytes of request bodies.", registry=self.registry)
        self.sent = Counter("m2kt_sent_bytes", "Bytes of answers.", registry=self.registry)
        self.under_way = Gauge(
            "m2kt_requests_under_way", "Requests not answered yet.", registry=self.registry
        )
        self._packets = Gauge("m2kt_packets", "Packets by state.", ("state",), registry=self.registry)
        self._database = Gauge("m2kt_database_up", "Whether the database answers.", registry=self.registry)
        self._lost = Gauge(
            "m2kt_records_lost", "Records in the store that cannot be read.", registry=self.registry
        )
        self._behind = Gauge(
            "m2kt_catalogue_behind", "1: the store may hold what the catalogue lacks.", registry=self.registry
        )

    def count(self, broker: Broker) -> None:
        """Brings up to date what is asked of the database."""
        self._behind.set(broker.behind)
        self._lost.set(len(broker.lost))
        try:
            with broker.database.read() as session:
                query = select(PacketRow.state, func.count()).group_by(PacketRow.state)
                found = {state: count for state, count in session.execute(query)}  # noqa: C416  rows are no pairs
        except StorageError:  # figures are wanted most when something is down
            self._database.set(0)
            return
        self._database.set(1)
        for state in ("listed", "yanked", "revoked"):
            self._packets.labels(state).set(found.get(state, 0))
