# Alerts on metrics that Azure measures itself.
locals {
  alerts = merge(
    {
      dead-letters = {
        about     = "Service Bus gave up delivering messages; see qlp dead-letters list", severity = 2, scope = module.messaging.id
        namespace = "Microsoft.ServiceBus/namespaces", metric = "DeadletteredMessages", aggregation = "Maximum", operator = "GreaterThan", threshold = 0, frequency = "PT5M", window = "PT15M"
      }
      waiting-messages = {
        about     = "Messages wait in the queues; are the application and the sandbox host running?", severity = 2, scope = module.messaging.id
        namespace = "Microsoft.ServiceBus/namespaces", metric = "ActiveMessages", aggregation = "Average", operator = "GreaterThan", threshold = 1000, frequency = "PT5M", window = "PT15M"
      }
      database-down = {
        about     = "PostgreSQL is down", severity = 0, scope = module.database.id
        namespace = "Microsoft.DBforPostgreSQL/flexibleServers", metric = "is_db_alive", aggregation = "Maximum", operator = "LessThan", threshold = 1, frequency = "PT1M", window = "PT5M"
      }
      database-storage = {
        about     = "PostgreSQL's storage is almost full", severity = 1, scope = module.database.id
        namespace = "Microsoft.DBforPostgreSQL/flexibleServers", metric = "storage_percent", aggregation = "Average", operator = "GreaterThan", threshold = 85, frequency = "PT15M", window = "PT1H"
      }
      database-cpu = {
        about     = "PostgreSQL's CPU is busy", severity = 2, scope = module.database.id
        namespace = "Microsoft.DBforPostgreSQL/flexibleServers", metric = "cpu_percent", aggregation = "Average", operator = "GreaterThan", threshold = 85, frequency = "PT5M", window = "PT15M"
      }
      database-connections = {
        about     = "PostgreSQL has few connections left", severity = 2, scope = module.database.id
        namespace = "Microsoft.DBforPostgreSQL/flexibleServers", metric = "active_connections", aggregation = "Maximum", operator = "GreaterThan", threshold = floor(var.database.max_connections * 0.9), frequency = "PT5M", window = "PT15M"
      }
      app-unhealthy = {
        about     = "GET /api/health fails", severity = 0, scope = module.app_service.app_id
        namespace = "Microsoft.Web/sites", metric = "HealthCheckStatus", aggregation = "Average", operator = "LessThan", threshold = 50, frequency = "PT1M", window = "PT5M"
      }
      app-errors = {
        about     = "The application answers with 5xx", severity = 1, scope = module.app_service.app_id
        namespace = "Microsoft.Web/sites", metric = "Http5xx", aggregation = "Total", operator = "GreaterThan", threshold = 20, frequency = "PT5M", window = "PT5M"
      }
      plan-memory = {
        about     = "The App Service plan has little memory left", severity = 2, scope = module.app_service.plan_id
        namespace = "Microsoft.Web/serverfarms", metric = "MemoryPercentage", aggregation = "Average", operator = "GreaterThan", threshold = 90, frequency = "PT5M", window = "PT15M"
      }
    },
    local.sandbox_on_plan ? {
      sandbox-unhealthy = {
        about     = "The sandbox host takes no jobs; its /health says why", severity = 1, scope = module.app_service.sandbox_id
        namespace = "Microsoft.Web/sites", metric = "HealthCheckStatus", aggregation = "Average", operator = "LessThan", threshold = 50, frequency = "PT5M", window = "PT15M"
      }
    } : {},
  )
}

resource "azurerm_monitor_metric_alert" "this" {
  for_each = local.alerts

  name                = "alert-${local.name}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  scopes              = [each.value.scope]
  description         = each.value.about
  severity            = each.value.severity
  frequency           = each.value.frequency
  window_size         = each.value.window
  tags                = local.tags

  criteria {
    metric_namespace = each.value.namespace
    metric_name      = each.value.metric
    aggregation      = each.value.aggregation
    operator         = each.value.operator
    threshold        = each.value.threshold
  }

  action {
    action_group_id = module.monitoring.action_group_id
  }
}
