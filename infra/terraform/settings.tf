# The environment of the application and the sandbox host, with the names of domain/settings.py and
# sandbox_host/settings.py, and of the queues and topics in modules/messaging/servicebus.json.
locals {
  bus_settings = {
    ServiceBusConnection__fullyQualifiedNamespace = module.messaging.fully_qualified_namespace
    QLP_SANDBOX_JOBS_QUEUE                        = "sandbox-jobs"
    QLP_SANDBOX_RESULTS_QUEUE                     = "sandbox-results"
  }

  # The identity's token is the password; the certificate is verified with the system's CA bundle.
  database_url = "postgresql://${urlencode(module.security.identities["app"].name)}@${module.database.fqdn}:5432/${module.database.database}?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt"

  # Models are off unless named; without an API key, the application uses its identity.
  model_settings = var.language_model == null ? {} : { for name, value in {
    AZURE_OPENAI_ENDPOINT = var.language_model.endpoint
    QLP_LLM_MODEL         = var.language_model.llm
    QLP_EMBEDDING_MODEL   = var.language_model.embedding
  } : name => value if value != null }

  app_settings = merge(local.bus_settings, local.model_settings, {
    DATABASE_URL                     = local.database_url
    QLP_DATABASE_POOL_SIZE           = tostring(var.app.pool_size)
    ServiceBusConnection__clientId   = module.security.identities["app"].client_id
    ServiceBusConnection__credential = "managedidentity"
    QLP_INTENTS_QUEUE                = "intents"
    QLP_EVENTS_TOPIC                 = "intent-events"
    QLP_EVENTS_SUBSCRIPTION          = "process-manager"
    QLP_RELAY_SCHEDULE               = "*/5 * * * * *"
    QLP_RECOVERY_SCHEDULE            = "*/15 * * * * *"
    QLP_DEAD_LETTERS_SCHEDULE        = "0 * * * * *"
    QLP_PROJECTIONS_SCHEDULE         = "*/15 * * * * *"
    QLP_PURGE_SCHEDULE               = "0 7 * * * *"
    QLP_SIMILARITY_SCHEDULE          = "0 30 3 * * *"
    QLP_SEAL_SCHEDULE                = "*/30 * * * * *"
    QLP_SEAL_SIGNER                  = module.security.seal_key.url
    QLP_SEAL_ANCHOR                  = module.app_service.seal_container_url
    QLP_STALLED_AFTER_SECONDS        = "60"
    # The machines of a scale set have no common address; watch the queue instead.
    QLP_SANDBOX_URL = local.sandbox_on_plan ? "https://app-${local.name}-sandbox-${local.suffix}.azurewebsites.net" : ""
  })

  runtimes = {
    app_service             = ["docker", "bubblewrap"]
    vm_scale_set            = ["docker"]
    container_apps_sessions = ["sessions"]
  }

  sandbox_settings = merge(
    local.bus_settings,
    {
      QLP_SANDBOX_RUNTIMES    = join(",", coalescelist(var.sandbox.runtimes, local.runtimes[var.sandbox.platform]))
      QLP_SANDBOX_CONCURRENCY = tostring(var.sandbox.concurrency)
      # The host's Docker engine pulls them with the host's identity.
      QLP_SANDBOX_IMAGES        = "${local.registry.login_server}/qlp-sandbox-{language}:${var.sandbox.language_tag}"
      QLP_SANDBOX_APP_URL       = "https://func-${local.name}-${local.suffix}.azurewebsites.net"
      QLP_SANDBOX_DRAIN_SECONDS = "60"
      QLP_SANDBOX_HEALTH_HOST   = "0.0.0.0"
      QLP_SANDBOX_HEALTH_PORT   = "8081"
    },
    var.sandbox.memory_mib == null ? {} : { QLP_SANDBOX_MEMORY_BYTES = tostring(var.sandbox.memory_mib * 1024 * 1024) },
    var.sandbox.platform == "container_apps_sessions" ? { QLP_SANDBOX_SESSIONS_ENDPOINT = one(module.sandbox_sessions[*].endpoint) } : {},
  )
}
