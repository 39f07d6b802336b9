# The rules of variables.tf and checks.tf that an environment can break, and the sandbox host's rights
# on each platform. Providers are mocked: no cloud, no sign-in.
mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = {
      subscription_id = "00000000-0000-0000-0000-000000000001"
      tenant_id       = "00000000-0000-0000-0000-000000000002"
      object_id       = "00000000-0000-0000-0000-000000000003"
      client_id       = "00000000-0000-0000-0000-000000000004"
    }
  }
}

mock_provider "time" {}

variables {
  environment            = "dev"
  location               = { name = "westeurope", code = "weu" }
  private                = false
  address_space          = "10.0.0.0/22"
  customer_managed_keys  = false
  database               = { sku = "B_Standard_B1ms", storage_mb = 32768, max_connections = 35 }
  database_administrator = { object_id = "00000000-0000-0000-0000-00000000000a", principal_name = "data-administrators" }
  service_bus            = { sku = "Standard" }
  plan                   = { sku = "B1" }
  alert_emails           = ["operations@example.com"]
  budget                 = { amount = 100, start = "2026-12-01T00:00:00Z" }
}

run "app_service" {
  command = plan

  assert {
    condition     = length(module.sandbox_scale_set) == 0 && length(module.sandbox_sessions) == 0
    error_message = "only the container on the plan"
  }

  assert {
    condition     = { for key, grant in azurerm_role_assignment.sandbox : key => grant.role_definition_name } == { receive-jobs = "Azure Service Bus Data Receiver", send-results = "Azure Service Bus Data Sender", pull-image = "AcrPull" }
    error_message = "the sandbox host receives jobs, sends results and pulls its image"
  }

  assert {
    condition = output.service_bus_entities.queues == {
      for queue in jsondecode(replace(file("modules/messaging/servicebus.json"), "/(?m)//[^\"\\n]*$/", "")).UserConfig.Namespaces[0].Queues :
      queue.Name => {
        lock                 = queue.Properties.LockDuration
        deliveries           = queue.Properties.MaxDeliveryCount
        ttl                  = queue.Properties.DefaultMessageTimeToLive
        dead_letters_expired = queue.Properties.DeadLetteringOnMessageExpiration
      }
    }
    error_message = "queues differ from servicebus.json"
  }
}

run "vm_scale_set" {
  command = plan

  variables {
    sandbox          = { platform = "vm_scale_set" }
    sandbox_machines = { admin_ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5fQh5x6Qe1yTn8v0oR4mXk2dY7Wc3bZs9uL0aP1qTt" }
  }

  assert {
    condition     = length(module.sandbox_scale_set) == 1 && output.sandbox_name == null
    error_message = "machines instead of the container on the plan"
  }

  assert {
    condition     = toset([for grant in azurerm_role_assignment.sandbox : grant.role_definition_name]) == toset(["Azure Service Bus Data Receiver", "Azure Service Bus Data Sender", "AcrPull"])
    error_message = "the sandbox host receives jobs, sends results and pulls its image"
  }
}

run "container_apps_sessions" {
  command = plan

  variables {
    sandbox = { platform = "container_apps_sessions" }
  }

  assert {
    condition     = length(module.sandbox_sessions) == 1 && length(module.sandbox_scale_set) == 0
    error_message = "a session pool, and a container that calls it"
  }

  assert {
    condition     = setsubtract([for grant in azurerm_role_assignment.sandbox : grant.role_definition_name], ["Azure Service Bus Data Receiver", "Azure Service Bus Data Sender", "AcrPull"]) == toset(["Azure ContainerApps Session Executor"])
    error_message = "besides, the sandbox host may run sessions"
  }
}

run "no_language_model" {
  command = plan

  assert {
    condition     = length(setintersection(keys(local.app_settings), ["AZURE_OPENAI_ENDPOINT", "QLP_LLM_MODEL", "QLP_EMBEDDING_MODEL"])) == 0 && !contains(keys(azurerm_role_assignment.app), "ask-models")
    error_message = "no language model is configured unless one is named"
  }
}

run "language_model" {
  command = plan

  variables {
    language_model = {
      endpoint   = "https://models.openai.azure.com"
      account_id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-models/providers/Microsoft.CognitiveServices/accounts/models"
      llm        = "programs"
    }
  }

  assert {
    condition     = local.app_settings["AZURE_OPENAI_ENDPOINT"] == "https://models.openai.azure.com" && local.app_settings["QLP_LLM_MODEL"] == "programs" && !contains(keys(local.app_settings), "QLP_EMBEDDING_MODEL")
    error_message = "the application is told the account and the deployments that are named"
  }

  assert {
    condition     = azurerm_role_assignment.app["ask-models"].role_definition_name == "Cognitive Services OpenAI User" && azurerm_role_assignment.app["ask-models"].scope == var.language_model.account_id
    error_message = "the application's identity may ask the account's models, and nobody else"
  }
}

run "language_models_that_are_none_are_named" {
  command = plan

  variables {
    language_model = { endpoint = "http://models.example.com", account_id = "models" }
  }

  expect_failures = [var.language_model]
}

run "wrong_values_are_named" {
  command = plan

  variables {
    environment            = "test"
    project                = "projects"
    location               = { name = "West Europe", code = "weu" }
    database_administrator = null
    app                    = { pool_size = 5 }
    sandbox                = { platform = "aks" }
  }

  expect_failures = [
    var.environment, var.project, var.location, var.database_administrator, var.app, var.sandbox
  ]
}

run "secrets_are_no_settings_and_machines_need_a_key" {
  command = plan

  variables {
    app     = { settings = { OPENAI_API_KEY = "x" } }
    sandbox = { platform = "vm_scale_set" }
  }

  expect_failures = [var.app, var.sandbox_machines]
}

run "production_is_locked_and_private" {
  command = plan

  variables {
    environment   = "prod"
    locks_enabled = false
    edge          = { sku = "Premium" }
  }

  expect_failures = [var.locks_enabled, var.private]
}

run "production_prevents" {
  command = plan

  variables {
    environment  = "prod"
    private      = true
    registry_sku = "Premium"
    service_bus  = { sku = "Premium" }
    edge         = { sku = "Premium", waf_mode = "Detection" }
  }

  expect_failures = [var.edge]
}

run "production_has_managed_rules" {
  command = plan

  variables {
    environment  = "prod"
    private      = true
    registry_sku = "Premium"
    service_bus  = { sku = "Premium" }
    edge         = { sku = "Standard" }
  }

  expect_failures = [var.edge]
}

run "private_needs_a_front_door" {
  command = plan

  variables {
    private      = true
    registry_sku = "Premium"
    service_bus  = { sku = "Premium" }
  }

  expect_failures = [var.edge]
}

run "no_more_connections_than_the_server_has" {
  command = plan

  variables {
    plan = { sku = "B1", workers = 3 }
    app  = { worker_processes = 2 }
  }

  expect_failures = [terraform_data.preconditions]
}
