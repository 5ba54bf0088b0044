"""Prometheus metrics of this process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import func, select

from m2kt.errors import StorageError

from ._service import Broker
from .catalogue import PacketRow

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters, gauges and a histogram in a registry of one application, so that a process can run several."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "m2kt_requests", "Completed requests.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "m2kt_request_seconds",
            "Seconds from a request to the end of its response.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.received = Counter("m2kt_received_bytes", "Bytes of request bodies.", registry=registry)
        self.sent = Counter("m2kt_sent_bytes", "Bytes of response bodies.", registry=registry)
        self.in_progress = Gauge("m2kt_requests_under_way", "Requests in progress.", registry=registry)
        self._packets = Gauge("m2kt_packets", "Packets by state.", ("state",), registry=registry)
        self._database = Gauge("m2kt_database_up", "Whether the database responds.", registry=registry)
        self._unreadable = Gauge("m2kt_records_lost", "Unreadable records in the store.", registry=registry)
        self._stale = Gauge(
            "m2kt_catalogue_behind",
            "1 where the store may hold records that the catalogue lacks.",
            registry=registry,
        )

    def update(self, broker: Broker) -> None:
        """Set the gauges that describe the store and the database."""
        self._stale.set(broker.catalogue_is_stale)
        self._unreadable.set(len(broker.unreadable_records))
        try:
            with broker.database.read() as session:
                query = select(PacketRow.state, func.count()).group_by(PacketRow.state)
                counts = {state: count for state, count in session.execute(query)}  # noqa: C416  rows are no pairs
        except StorageError:  # metrics must remain available while the database is down
            self._database.set(0)
            return
        self._database.set(1)
        for state in ("listed", "yanked", "revoked"):
            self._packets.labels(state).set(counts.get(state, 0))
