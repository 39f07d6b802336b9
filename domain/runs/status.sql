-- name: of
-- By stream, in order. The data of SandboxRunFinished is not parsed, because it may contain all the
-- output; its run follows from the command's id.
select e.stream_id, e.tenant_id, e.type, e.command_id,
    case when e.type in ('SandboxRunRequested', 'SandboxRunKillRequested')
        then (e.data->>'run_id')::uuid end,
    case when e.type = 'SandboxRunRequested'
        then (e.data->'limits'->>'artifact_bytes')::bigint end
from events e
where e.stream_id = any(%(streams)s)
    and e.type in ('SandboxRunRequested', 'SandboxRunKillRequested', 'SandboxRunFinished',
        'IntentCancelled', 'IntentFailed')
order by e.stream_id, e.version
