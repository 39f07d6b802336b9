-- name: kept
select current_setting(%(name)s, true)
