"""The function app: registers the blueprints, and keeps secrets out of logs."""

import os

import azure.functions as func

from domain.contracts.redaction import guard
from functions import (
    artifacts_http,
    health,
    intents_http,
    maintenance,
    messages,
    operations_http,
    output_http,
    result_http,
    sandbox_http,
    similar_http,
    unrouted,
)

guard(os.environ)

app = func.FunctionApp()
app.register_functions(intents_http.bp)
app.register_functions(similar_http.bp)
app.register_functions(artifacts_http.bp)
app.register_functions(output_http.bp)
app.register_functions(result_http.bp)
app.register_functions(operations_http.bp)
app.register_functions(sandbox_http.bp)
app.register_functions(messages.bp)
app.register_functions(maintenance.bp)
app.register_functions(health.bp)
app.register_functions(unrouted.bp)
