data "azurerm_client_config" "current" {}

locals {
  name = "${var.project}-${var.environment}-${var.location.code}"
  # The same in every apply, but different in every subscription.
  suffix = substr(sha1("${data.azurerm_client_config.current.subscription_id}/${local.name}"), 0, 5)

  tags = merge(var.tags, {
    project     = var.project
    environment = var.environment
    managed-by  = "terraform"
  })

  common = {
    name                = local.name
    location            = var.location.name
    resource_group_name = azurerm_resource_group.this.name
    tags                = local.tags
  }

  registry = var.shared_registry != null ? var.shared_registry : {
    id           = one(module.registry[*].id)
    login_server = one(module.registry[*].login_server)
  }

  # The sandbox host is a container on the App Service plan, or on machines of its own.
  sandbox_on_plan = contains(["app_service", "container_apps_sessions"], var.sandbox.platform)

  encryption_keys = var.customer_managed_keys ? toset(concat(
    ["database", "storage"], var.service_bus.sku == "Premium" ? ["service-bus"] : []
  )) : toset([])
}

resource "azurerm_resource_group" "this" {
  name     = "rg-${local.name}"
  location = var.location.name
  tags     = local.tags
}

module "networking" {
  source = "./modules/networking"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  address_space          = var.address_space
  private                = var.private
  sandbox_delegation     = local.sandbox_on_plan ? "Microsoft.Web/serverFarms" : null
  sandbox_sessions       = var.sandbox.platform == "container_apps_sessions"
  sandbox_package_egress = var.sandbox.platform == "vm_scale_set" && var.sandbox_machines.source_image_id == null
  app_https_egress       = var.language_model != null || contains(keys(var.app.secrets), "OPENAI_API_KEY")
  operator_cidrs         = var.private ? var.operator_cidrs : []
  private_dns_zones      = { for service in local.endpoint_services : service => local.private_dns_zones[service] }
  ddos_protection        = var.ddos_protection
}

module "security" {
  source = "./modules/security"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix                = local.suffix
  tenant_id             = data.azurerm_client_config.current.tenant_id
  private               = var.private
  operator_cidrs        = var.operator_cidrs
  subnet_ids            = [module.networking.subnet_ids["app"]]
  customer_managed_keys = local.encryption_keys
}

module "monitoring" {
  source = "./modules/monitoring"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  retention_days    = var.logs.retention_days
  daily_quota_gb    = var.logs.daily_quota_gb
  alert_emails      = var.alert_emails
  resource_group_id = azurerm_resource_group.this.id
  budget            = var.budget
}

module "database" {
  source = "./modules/database"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix         = local.suffix
  tenant_id      = data.azurerm_client_config.current.tenant_id
  administrator  = var.database_administrator
  server         = var.database
  private        = var.private
  operator_cidrs = var.operator_cidrs
  encryption_key = contains(local.encryption_keys, "database") ? module.security.encryption_keys["database"] : null
}

module "messaging" {
  source = "./modules/messaging"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix         = local.suffix
  namespace      = var.service_bus
  private        = var.private
  encryption_key = contains(local.encryption_keys, "service-bus") ? module.security.encryption_keys["service-bus"] : null
}

module "registry" {
  source = "./modules/registry"
  count  = var.shared_registry == null ? 1 : 0

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix  = local.suffix
  sku     = var.registry_sku
  private = var.private && !var.registry_open_to_builders
}

module "app_service" {
  source = "./modules/app_service"

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix              = local.suffix
  plan                = var.plan
  private             = var.private
  slot                = var.slot
  storage_replication = var.plan.zone_redundant ? "ZRS" : "LRS"
  encryption_key      = contains(local.encryption_keys, "storage") ? module.security.encryption_keys["storage"] : null

  subnet_ids = {
    app     = module.networking.subnet_ids["app"]
    sandbox = module.networking.subnet_ids["sandbox"]
  }

  inbound = {
    cidrs           = var.client_cidrs
    from_front_door = var.edge != null
    front_door_guid = module.edge.profile_guid
  }

  app = {
    identity_id      = module.security.identities["app"].id
    client_id        = module.security.identities["app"].client_id
    python_version   = var.app.python_version
    worker_processes = var.app.worker_processes
    settings         = merge(local.app_settings, var.app.settings)
    key_vault_name   = module.security.key_vault_name
    secrets          = var.app.secrets
  }

  application_insights_connection_string = module.monitoring.application_insights_connection_string

  sandbox = local.sandbox_on_plan ? {
    identity_id     = module.security.identities["sandbox"].id
    client_id       = module.security.identities["sandbox"].client_id
    registry_server = local.registry.login_server
    image           = var.sandbox.image
    settings        = local.sandbox_settings
  } : null

  # The host pulls its image as soon as it exists.
  depends_on = [azurerm_role_assignment.sandbox]
}

module "sandbox_scale_set" {
  source = "./modules/sandbox_scale_set"
  count  = var.sandbox.platform == "vm_scale_set" ? 1 : 0

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  subnet_id            = module.networking.subnet_ids["sandbox"]
  sku                  = var.sandbox_machines.sku
  zones                = var.sandbox_machines.zones
  instances            = { minimum = var.sandbox_machines.minimum, maximum = var.sandbox_machines.maximum }
  source_image_id      = var.sandbox_machines.source_image_id
  admin_ssh_public_key = var.sandbox_machines.admin_ssh_public_key
  encryption_at_host   = var.sandbox_machines.encryption_at_host
  identity             = module.security.identities["sandbox"]
  registry_server      = local.registry.login_server
  image                = var.sandbox.image
  settings             = local.sandbox_settings

  queue = {
    namespace_id = module.messaging.id
    name         = "sandbox-jobs"
  }

  depends_on = [azurerm_role_assignment.sandbox, azurerm_private_endpoint.this]
}

module "sandbox_sessions" {
  source = "./modules/sandbox_sessions"
  count  = var.sandbox.platform == "container_apps_sessions" ? 1 : 0

  name                = local.common.name
  location            = local.common.location
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags
}

module "edge" {
  source = "./modules/edge"

  name                = local.common.name
  resource_group_name = local.common.resource_group_name
  tags                = local.common.tags

  suffix                = local.suffix
  enabled               = var.edge != null
  sku                   = try(var.edge.sku, "Standard")
  waf_mode              = try(var.edge.waf_mode, "Prevention")
  rate_limit_per_minute = try(var.edge.rate_limit_per_minute, 600)
  allowed_countries     = try(var.edge.allowed_countries, [])
  origin_is_private     = var.edge != null && var.private

  origin = {
    host_name        = module.app_service.app_host_name
    health_path      = "/api/health"
    private_link_id  = module.app_service.app_id
    private_location = var.location.name
  }
}
