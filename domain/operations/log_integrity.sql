-- name: versions
select stream_id, version from events
where (stream_id, version) > (%(stream_id)s::text, %(version)s::integer)
order by stream_id, version
limit %(limit)s

-- name: event_at
select lane::integer, lane_position, event_id from events
where stream_id = %(stream_id)s and version = %(version)s
