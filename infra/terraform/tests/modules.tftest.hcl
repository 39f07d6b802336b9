# Values that each module refuses. Providers are mocked.
mock_provider "azurerm" {}
mock_provider "time" {}

variables {
  name                = "test-weu"
  location            = "westeurope"
  resource_group_name = "rg-test"
  suffix              = "a1b2c"
}

run "networking" {
  command = plan

  module {
    source = "./modules/networking"
  }

  variables {
    name               = "Test_weu"
    private            = true
    address_space      = "10.0.0.0/25"
    sandbox_delegation = "Microsoft.App/environments"
    operator_cidrs     = ["0.0.0.0/0"]
  }

  expect_failures = [var.name, var.address_space, var.sandbox_delegation, var.operator_cidrs]
}

run "security" {
  command = plan

  module {
    source = "./modules/security"
  }

  variables {
    tenant_id             = "00000000-0000-0000-0000-000000000002"
    private               = true
    suffix                = "abc"
    customer_managed_keys = ["Database"]
  }

  expect_failures = [var.suffix, var.customer_managed_keys]
}

run "database" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    tenant_id     = "00000000-0000-0000-0000-000000000002"
    private       = true
    administrator = { object_id = "administrators", principal_name = "administrators" }
    server        = { sku = "B_Standard_B1ms", storage_mb = 32768, max_connections = 35, high_availability = true }
  }

  expect_failures = [var.administrator, var.server]
}

run "database_geo_redundant_with_our_key" {
  command = plan

  module {
    source = "./modules/database"
  }

  variables {
    tenant_id      = "00000000-0000-0000-0000-000000000002"
    private        = true
    administrator  = { object_id = "00000000-0000-0000-0000-00000000000a", principal_name = "administrators" }
    server         = { sku = "GP_Standard_D2ds_v5", storage_mb = 32768, max_connections = 844, geo_redundant_backup = true }
    encryption_key = { versioned = "https://kvtest.vault.azure.net/keys/database/0123456789abcdef0123456789abcdef", identity_id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-test/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-test" }
  }

  expect_failures = [azurerm_postgresql_flexible_server.this]
}

run "messaging" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    private        = true
    namespace      = { sku = "Standard" }
    encryption_key = { versionless = "https://kvtest.vault.azure.net/keys/bus", identity_id = "id-test" }
  }

  expect_failures = [var.private, var.encryption_key]
}

run "registry" {
  command = plan

  module {
    source = "./modules/registry"
  }

  variables {
    private = true
    sku     = "Basic"
  }

  expect_failures = [var.private]
}

run "monitoring" {
  command = plan

  module {
    source = "./modules/monitoring"
  }

  variables {
    resource_group_id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-test"
    alert_emails      = []
    retention_days    = 7
    budget            = { amount = 100, start = "2026-12-15T00:00:00Z" }
  }

  expect_failures = [var.alert_emails, var.retention_days, var.budget]
}

run "app_service" {
  command = plan

  module {
    source = "./modules/app_service"
  }

  variables {
    private                                = true
    plan                                   = { sku = "B1", workers = 2, zone_redundant = true }
    subnet_ids                             = { app = "app", sandbox = "sandbox" }
    inbound                                = { cidrs = ["0.0.0.0/0"] }
    app                                    = { identity_id = "id", client_id = "client", key_vault_name = "kvtest", settings = {}, python_version = "3.9" }
    sandbox                                = { identity_id = "id", client_id = "client", registry_server = "example.azurecr.io", image = "no tag", settings = { QLP_SANDBOX_HEALTH_PORT = "8081" } }
    application_insights_connection_string = "none"
  }

  expect_failures = [var.plan, var.inbound, var.app, var.sandbox]
}

run "edge" {
  command = plan

  module {
    source = "./modules/edge"
  }

  variables {
    sku                   = "Standard"
    origin                = { host_name = "example.azurewebsites.net", health_path = "/api/health" }
    origin_is_private     = true
    waf_mode              = "Off"
    rate_limit_per_minute = 1
    allowed_countries     = ["Germany"]
    body_exclusions       = { text = "Contains" }
  }

  expect_failures = [
    var.origin_is_private, var.waf_mode, var.rate_limit_per_minute, var.allowed_countries, var.body_exclusions
  ]
}

run "sandbox_scale_set" {
  command = plan

  module {
    source = "./modules/sandbox_scale_set"
  }

  variables {
    subnet_id            = "sandbox"
    admin_ssh_public_key = "not a key"
    identity             = { id = "id", client_id = "client" }
    registry_server      = "example.azurecr.io"
    image                = "no tag"
    instances            = { minimum = 5, maximum = 4 }
    settings             = { QLP_SANDBOX_HEALTH_PORT = "8081" }
    queue                = { namespace_id = "namespace", name = "sandbox-jobs", jobs_per_machine = 0 }
  }

  expect_failures = [var.admin_ssh_public_key, var.image, var.instances, var.queue]
}

run "sandbox_sessions" {
  command = plan

  module {
    source = "./modules/sandbox_sessions"
  }

  variables {
    max_sessions     = 0
    cooldown_seconds = 1
  }

  expect_failures = [var.max_sessions, var.cooldown_seconds]
}
