"""A local host for Azure Functions apps written in the Python v2 model.

``python -m infra.local.functions_host --app-dir DIR --port N`` loads ``DIR/function_app.py``, reads
the bindings as the real host would, and runs the HTTP, Service Bus and timer triggers in one
process. It starts within a second and knows nothing about the app it hosts.

The same as in the real host (the modules name the sources):

* settings: the environment overrides ``local.settings.json``; ``%NAME%`` in bindings; disabled
  functions
* the worker's rules for parameters, annotations and return values, checked at start
* HTTP: route prefix, templates, constraints, route order (by function name); 404 for a wrong
  method, HEAD for GET triggers, 413, 429, an empty 500 for a failed function; a client that
  disconnects does not stop the function; request bodies without a length do not reach the function;
  of repeated response headers other than ``Set-Cookie`` only the last is sent
* Service Bus: peek-lock; a return completes the message, an exception abandons it immediately; lock
  renewal; batches; metadata (the host drops empty entries from a batch's arrays)
* timers: NCRONTAB in UTC, ``run_on_startup``, past-due runs; a timer never overlaps with itself

Different from the real host:

* function and admin keys are not checked, as in Core Tools; ``/admin`` answers only this machine
* one process; ``FUNCTIONS_WORKER_PROCESS_COUNT`` is ignored
* a function that exceeds ``functionTimeout`` counts as failed; it is cancelled (``async def``) or
  keeps running in its thread (``def``), while the real host restarts the worker process
* a wrong binding keeps the whole app from starting, not only its function
* bindings other than HTTP, Service Bus triggers and timers are refused at start; so are sessions,
  ``autoCompleteMessages: false`` and output bindings
* host.json: ``functionTimeout``, ``extensions.http.{routePrefix, maxOutstandingRequests,
  maxConcurrentRequests}`` and the batch, concurrency and lock options of ``extensions.serviceBus``
  are read; other keys are ignored, keys of old extension versions are refused
* retry policies are ignored, as the real host does for Service Bus triggers
* a message's ``Diagnostic-Id`` becomes the parent of the invocation's trace
"""
