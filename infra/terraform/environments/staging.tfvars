# As production, only smaller, so that releases are tested in a private network.
environment = "staging"
location    = { name = "westeurope", code = "weu" }
tags        = { owner = "qlp-team", cost-center = "qlp-staging" }

private       = true
address_space = "10.21.0.0/22"

edge = {
  sku                   = "Premium"
  rate_limit_per_minute = 600
}

customer_managed_keys = true
locks_enabled         = false

plan         = { sku = "P1v3", workers = 1 }
app          = { pool_size = 8 }
slot         = "next"
sandbox      = { platform = "app_service", concurrency = 2, memory_mib = 3072 }
registry_sku = "Premium"
# Hosted runners push here, signed in; production gets this registry as TF_VAR_shared_registry.
registry_open_to_builders = true
service_bus               = { sku = "Premium", capacity = 1 }

database = {
  sku             = "GP_Standard_D2ds_v5"
  storage_mb      = 65536
  max_connections = 844
  backup_days     = 7
}

logs   = { retention_days = 30, daily_quota_gb = 2 }
budget = { amount = 1800, start = "2026-12-01T00:00:00Z" }
