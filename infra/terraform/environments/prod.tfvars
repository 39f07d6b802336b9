# Private, zone-redundant, encrypted with customer-managed keys.
environment = "prod"
location    = { name = "westeurope", code = "weu" }
tags        = { owner = "qlp-team", cost-center = "qlp-prod" }

private         = true
address_space   = "10.22.0.0/22"
ddos_protection = false # about 2,944 USD a month; Front Door absorbs attacks on the only public address

edge = {
  sku                   = "Premium"
  waf_mode              = "Prevention"
  rate_limit_per_minute = 600
  # Countries of the customers; empty admits every country.
  allowed_countries = ["AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "LU", "NL", "NO", "PL", "PT", "SE", "US"]
}

customer_managed_keys = true
locks_enabled         = true

plan         = { sku = "P1v3", workers = 2, zone_redundant = true }
app          = { pool_size = 8, worker_processes = 2 }
slot         = "next"
sandbox      = { platform = "app_service", concurrency = 2, memory_mib = 3072 }
registry_sku = "Premium"
service_bus  = { sku = "Premium", capacity = 1 }

database = {
  sku               = "GP_Standard_D4ds_v5"
  storage_mb        = 131072
  max_connections   = 1703
  backup_days       = 35
  high_availability = true
}

logs   = { retention_days = 90, daily_quota_gb = -1 }
budget = { amount = 3000, start = "2026-12-01T00:00:00Z" }
