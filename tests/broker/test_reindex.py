"""The database is a function of the store, and can be rebuilt from it exactly."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from m2kt.errors import StorageError
from m2kt_broker import Broker, BrokerSettings, Caller, parse_record
from m2kt_broker.catalogue import Base
from m2kt_broker.stores import read_all
from tests.broker import services
from tests.broker.packets import SamplePacket, cosigned, notice, receipt, recut, sample

ANN, BOB = Caller("ann", "publisher"), Caller("bob", "admin")
PLACES = ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.registry])]


def rows_of(broker: Broker) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, sorted by primary key."""
    with broker.database.read() as session:
        rows_by_table = {}
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in session.execute(select(table)).mappings()]
            rows_by_table[table.name] = sorted(rows, key=lambda row: [str(row[c.name]) for c in table.primary_key])
        return rows_by_table


@pytest.fixture(params=PLACES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> BrokerSettings:
    if request.param == "sqlite":
        return BrokerSettings(data=tmp_path / "broker")
    pg: services.Postgres = request.getfixturevalue("pg")
    registry = request.getfixturevalue("registry")
    name = f"b{random.randrange(10**9)}"
    return BrokerSettings(data=tmp_path / "broker", database=pg.new_database(name), store=f"oci://{registry}/{name}")


def open_broker(settings: BrokerSettings) -> Broker:
    broker = Broker(settings)
    broker.start()
    return broker


def publish(broker: Broker, packet: SamplePacket, tmp_path: Path, caller: Caller = ANN) -> None:
    broker.publish(packet.digest, packet.at(tmp_path / "packet.m2kp"), caller)


def fill(broker: Broker, tmp_path: Path) -> None:
    """Add rows to every table."""
    broker.create_key("ann", "publisher", "tests")
    key, _ = broker.create_key("tom", "reader", "tests")
    broker.end_key(key.id, "tests")
    broker.create_key("tom", "admin", "tests")
    packets = [sample(seed, name=f"skill {seed}") for seed in range(4)]
    for packet in packets:
        publish(broker, packet, tmp_path)
    publish(broker, cosigned(packets[0], "ada"), tmp_path, BOB)
    for verdict in ("accepted", "rejected"):
        broker.add_statement(packets[1].digest, receipt(packets[1].digest, verdict), ANN)
    publish(broker, recut(packets[0], "eve"), tmp_path)
    publish(broker, recut(packets[2], "eve"), tmp_path)
    for packet, state, signer in (
        (1, "yanked", None),
        (1, "listed", "tom"),
        (2, "yanked", None),
        (3, "revoked", "tom"),
    ):
        change = notice(packets[packet].digest, state, signer=signer)["content"]
        broker.set_state(packets[packet].digest, change, ANN if signer is None else BOB)


def test_reindex_restores_every_row(settings: BrokerSettings, tmp_path: Path) -> None:
    broker = open_broker(settings)
    fill(broker, tmp_path)
    before = rows_of(broker)
    assert all(before.values()), "expected rows in every table"
    broker.reindex()
    assert rows_of(broker) == before
    broker.close()


def test_start_rebuilds_a_deleted_database(tmp_path: Path) -> None:
    settings = BrokerSettings(data=tmp_path / "broker")
    broker = open_broker(settings)
    fill(broker, tmp_path)
    before = rows_of(broker)
    broker.close()
    for file in settings.data.glob("broker.db*"):
        file.unlink()
    again = open_broker(settings)
    assert rows_of(again) == before
    again.close()


def test_order_of_records_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks of several servers may differ: any order within a kind gives the same rows."""
    from m2kt_broker import _service as service

    settings = BrokerSettings(data=tmp_path / "broker")
    broker = open_broker(settings)
    fill(broker, tmp_path)
    before = rows_of(broker)
    names = list(broker.store.digests("records"))
    for seed in range(5):
        random.Random(seed).shuffle(names)
        positions = {name: position for position, name in enumerate(names)}
        with monkeypatch.context() as patch:
            patch.setattr(service, "by_time", lambda _, digest, order=positions: (str(order[digest]), digest))
            broker.reindex()
        assert rows_of(broker) == before
    broker.close()


def test_record_that_the_database_lacks_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database fails after the record was stored: no acknowledgement, but the next call adds the rows."""
    from m2kt_broker import _service as service

    settings = BrokerSettings(data=tmp_path / "broker")
    broker = open_broker(settings)
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise StorageError("the database does not answer")

        patch.setattr(service, "apply", fails)
        with pytest.raises(StorageError):
            publish(broker, sample(0), tmp_path)
    assert broker.catalogue_is_stale and rows_of(broker)["packets"] == []
    publish(broker, sample(1), tmp_path)
    assert not broker.catalogue_is_stale
    assert {row["digest"] for row in rows_of(broker)["packets"]} == {sample(0).digest, sample(1).digest}
    before = rows_of(broker)
    broker.reindex()
    assert rows_of(broker) == before
    broker.close()


def test_damage_in_the_store_is_reported_and_isolated(tmp_path: Path) -> None:
    settings = BrokerSettings(data=tmp_path / "broker")
    broker = open_broker(settings)
    for seed in (0, 1):
        publish(broker, sample(seed), tmp_path)
    broker.add_statement(sample(0).digest, receipt(sample(0).digest), ANN)
    assert broker.find_damaged() == []
    blob = next(r["blob"] for r in rows_of(broker)["packets"] if r["digest"] == sample(0).digest)
    broker.close()
    name = blob.removeprefix("sha256:")
    (settings.data / "store" / "packets" / name[:2] / name).write_bytes(b"rot")
    options = ["--data", str(settings.data), "--json"]
    assert json.loads(services.m2kt("broker", "check", *options).stdout) == {"damaged": [f"packets {blob}"]}
    again = services.m2kt("broker", "reindex", *options)
    assert again.returncode == 9 and "2 records cannot be read" in again.stderr
    broker = open_broker(settings)
    assert [row["digest"] for row in rows_of(broker)["packets"]] == [sample(1).digest]
    assert len(broker.unreadable_records) == 2  # the packet and its statement
    publish(broker, sample(0), tmp_path)  # as the message says
    assert broker.find_damaged() == [] and broker.reindex() == 4 and not broker.unreadable_records
    broker.close()


def test_records_contain_no_secret(tmp_path: Path) -> None:
    broker = open_broker(BrokerSettings(data=tmp_path / "broker"))
    record, token = broker.create_key("ann", "publisher", "tests")
    broker.close()
    secret = token.rpartition("_")[2]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    stored = [read_all(broker.store, "records", d) for d in broker.store.digests("records")]
    assert [parse_record(content) for content in stored] == [record]


def test_migrations_create_the_tables_of_the_models(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    broker = open_broker(BrokerSettings(data=tmp_path / "broker"))
    with broker.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    broker.close()
