# Conditions that involve several variables.
locals {
  # While a release is checked, the slot runs beside production.
  database_connections = var.plan.workers * var.app.worker_processes * var.app.pool_size * (var.slot == null ? 1 : 2)
}

resource "terraform_data" "preconditions" {
  lifecycle {
    precondition {
      condition     = local.database_connections <= var.database.max_connections - 2
      error_message = "The application may open ${local.database_connections} database connections (plan.workers × app.worker_processes × app.pool_size, twice with a slot) but ${var.database.sku} allows ${var.database.max_connections}, two of which must stay free: lower one of the factors, or choose a larger server."
    }

    precondition {
      condition     = !var.customer_managed_keys || var.service_bus.sku == "Premium" || var.environment != "prod"
      error_message = "Production encrypts Service Bus with a customer-managed key, which needs service_bus.sku Premium."
    }

    precondition {
      condition     = contains(keys(module.messaging.queue_ids), local.sandbox_settings["QLP_SANDBOX_JOBS_QUEUE"]) && contains(keys(module.messaging.queue_ids), local.sandbox_settings["QLP_SANDBOX_RESULTS_QUEUE"]) && contains(keys(module.messaging.queue_ids), local.app_settings["QLP_INTENTS_QUEUE"]) && contains(keys(module.messaging.subscription_ids), "${local.app_settings["QLP_EVENTS_TOPIC"]}/${local.app_settings["QLP_EVENTS_SUBSCRIPTION"]}")
      error_message = "settings.tf names a queue, topic or subscription that modules/messaging/servicebus.json does not have."
    }
  }
}
