"""A local host for Azure Functions apps written in the Python v2 model.

``python -m infra.local.functions_host --app-dir DIR --port N`` loads ``DIR/function_app.py``, reads
the bindings that the real host would index, serves the HTTP triggers and pumps the Service Bus and
timer triggers, in one process, within a second. It knows nothing about the app it hosts.

Like the real host (sources in the modules):

* settings: the environment over ``local.settings.json``, ``%NAME%`` in bindings, disabled functions
* worker rules for parameters, annotations and return values, checked at start
* HTTP: route prefix, templates, constraints, route order (by function name), 404 for a wrong
  method, HEAD for GET triggers, 413, 429, an empty 500 for a failed function; a client that goes
  away does not stop the function; request bodies without a length do not reach the function;
  repeated response headers other than ``Set-Cookie`` collapse to the last one
* Service Bus: peek-lock; return completes, an exception abandons at once; lock renewal, batches,
  metadata (including the empty entries that the host drops from a batch's arrays)
* timers: NCRONTAB in UTC, ``run_on_startup``, past-due runs, no overlap of one timer with itself

Different from the real host:

* function and admin keys are not checked, as in Core Tools; ``/admin`` answers loopback only
* one process; ``FUNCTIONS_WORKER_PROCESS_COUNT`` is ignored
* a function that exceeds ``functionTimeout`` is cancelled (``async def``) or left behind in its
  thread (``def``) and counts as failed; the real host restarts the worker process
* a wrong binding is an error at start for the whole app, not for that function alone
* bindings other than HTTP, Service Bus triggers and timers are refused at start, and so are
  sessions, ``autoCompleteMessages: false`` and output bindings
* of host.json: ``functionTimeout``, ``extensions.http.{routePrefix, maxOutstandingRequests,
  maxConcurrentRequests}`` and the batch, concurrency and lock options of ``extensions.serviceBus``;
  other keys are ignored, those of old extensions refused
* retry policies are ignored, as the real host does for Service Bus triggers
* ``Diagnostic-Id`` of a message is taken as the parent of the invocation's trace
"""
