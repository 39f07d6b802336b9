-- name: built
select p.name, p.version, r.events::float8 / greatest(r.total, r.events, 1)
from projections p left join projection_rebuilds r on r.projection = p.name
