"""The log of ``eventsourcing`` (see requirements-bench.txt), which ours is compared with."""

from __future__ import annotations

from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict


def recorder_at(url: str, connections: int = 1) -> PostgresApplicationRecorder:
    """A recorder of its own with an empty table and a pool of ``connections``."""
    at = conninfo_to_dict(url)
    datastore = PostgresDatastore(
        dbname=str(at["dbname"]),
        host=str(at["host"]),
        port=str(at["port"]),
        user=str(at["user"]),
        password=str(at["password"]),
        pool_size=connections,
        max_overflow=0,
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="stored_events")
    recorder.create_table()
    return recorder
