"""The function app: composes the blueprints, and nothing else."""

import azure.functions as func

from functions import health, integrity, intents_http, maintenance, messages, operations_http

app = func.FunctionApp()
app.register_functions(intents_http.bp)
app.register_functions(operations_http.bp)
app.register_functions(messages.bp)
app.register_functions(maintenance.bp)
app.register_functions(integrity.bp)
app.register_functions(health.bp)
