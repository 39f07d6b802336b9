# Cheap: one small worker, a burstable database, no Front Door, nothing Premium.
environment = "dev"
location    = { name = "westeurope", code = "weu" }
tags        = { owner = "qlp-team", cost-center = "qlp-dev" }

private       = false
address_space = "10.20.0.0/22"
# Who may call and operate it: set client_cidrs and operator_cidrs here, or TF_VAR_client_cidrs and
# TF_VAR_operator_cidrs.

customer_managed_keys = false
locks_enabled         = false

plan         = { sku = "B1", workers = 1 }
app          = { pool_size = 8 }
sandbox      = { platform = "app_service", concurrency = 1, memory_mib = 512 }
registry_sku = "Basic"
service_bus  = { sku = "Standard" }

database = {
  sku             = "B_Standard_B1ms"
  storage_mb      = 32768
  max_connections = 35
  backup_days     = 7
}

logs   = { retention_days = 30, daily_quota_gb = 1 }
budget = { amount = 120, start = "2026-12-01T00:00:00Z" }
