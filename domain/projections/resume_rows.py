"""Updates rows of intents whose streams an earlier release could not fold."""

from __future__ import annotations

from psycopg_pool import AsyncConnectionPool

from domain.projections.following.parked import readable_again, unpark
from domain.projections.intents import INTENT_STATES, upsert
from domain.projections.stream_folds import folded_streams


async def resume_rows(pool: AsyncConnectionPool) -> int:
    """Fold streams that an earlier release parked and this one can read; returns their number.

    Rows that have the same or a later version stay unchanged.
    """
    stream_ids = await readable_again(pool, INTENT_STATES)
    count = 0
    for stream_id in stream_ids:
        async with pool.connection() as connection, connection.transaction():
            async for fold in folded_streams(connection, [stream_id]):
                if (row := fold.row()) is not None:
                    write = upsert(row)
                    await connection.execute(write.statement, write.params)
                    await unpark(connection, INTENT_STATES, stream_id)
                    count += 1
    return count
