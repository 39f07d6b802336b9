# For each environment, one identity that applies and one that only plans. Jobs of the repository's
# environments infrastructure-NAME and plan-NAME sign in as them, without any secret.
locals {
  appliers  = { for name in var.environments : "infrastructure-${name}" => name }
  planners  = { for name in var.environments : "plan-${name}" => name }
  deployers = merge(local.appliers, local.planners)

  subscription = "/subscriptions/${data.azurerm_client_config.current.subscription_id}"

  # All roles that the configuration grants. A deployer can grant these and no others, such as Owner.
  grantable_roles = toset([
    "AcrPull",
    "AcrPush",
    "Azure ContainerApps Session Executor",
    "Azure Service Bus Data Receiver",
    "Azure Service Bus Data Sender",
    "Key Vault Crypto Service Encryption User",
    "Key Vault Secrets User",
    "Storage Blob Data Owner",
    "Storage Queue Data Contributor",
    "Storage Table Data Contributor",
    "Website Contributor",
  ])

  grantable_ids = join(", ", sort([for role in data.azurerm_role_definition.grantable : reverse(split("/", role.id))[0]]))
}

data "azurerm_role_definition" "grantable" {
  for_each = local.grantable_roles

  name  = each.key
  scope = local.subscription
}

resource "azurerm_user_assigned_identity" "deployer" {
  for_each = local.deployers

  name                = "id-${var.project}-${each.key}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

resource "azurerm_federated_identity_credential" "deployer" {
  for_each = var.github_repository == null ? {} : local.deployers

  name                = "github-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  parent_id           = azurerm_user_assigned_identity.deployer[each.key].id
  issuer              = "https://token.actions.githubusercontent.com"
  audience            = ["api://AzureADTokenExchange"]
  subject             = "repo:${var.github_repository}:environment:${each.key}"
}

# Planning needs to write too, as it locks the state.
resource "azurerm_role_assignment" "state" {
  for_each = local.deployers

  description          = "${each.key} reads and locks its own state"
  scope                = azurerm_storage_container.state[each.value].id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "operator_states" {
  description          = "Whoever runs bootstrap reads and locks every state"
  scope                = azurerm_storage_account.states.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_role_assignment" "contributor" {
  for_each = local.appliers

  description          = "${each.key} makes resources"
  scope                = local.subscription
  role_definition_name = "Contributor"
  principal_id         = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "granter" {
  for_each = local.appliers

  description          = "${each.key} grants the roles that the configuration hands out"
  scope                = local.subscription
  role_definition_name = "Role Based Access Control Administrator"
  principal_id         = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type       = "ServicePrincipal"
  condition_version    = "2.0"
  condition            = <<-CONDITION
    (
      (!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'}))
      OR
      (@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {${local.grantable_ids}})
    )
    AND
    (
      (!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'}))
      OR
      (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {${local.grantable_ids}})
    )
  CONDITION
}

resource "azurerm_role_assignment" "reader" {
  for_each = local.planners

  description          = "${each.key} reads resources"
  scope                = local.subscription
  role_definition_name = "Reader"
  principal_id         = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type       = "ServicePrincipal"
}

# The provider compares app settings, which Azure lists with an action that Reader does not include.
resource "azurerm_role_definition" "settings_reader" {
  name        = "${var.project} settings reader"
  scope       = local.subscription
  description = "Lists apps' settings and deployments' outputs, to compare them with the code"

  permissions {
    actions = [
      "Microsoft.Web/sites/config/list/action",
      "Microsoft.Web/sites/slots/config/list/action",
      "Microsoft.Resources/deployments/exportTemplate/action",
    ]
  }
}

resource "azurerm_role_assignment" "settings_reader" {
  for_each = local.planners

  description        = "${each.key} compares settings"
  scope              = local.subscription
  role_definition_id = azurerm_role_definition.settings_reader.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type     = "ServicePrincipal"
}

# By default, only Owner and User Access Administrator may manage locks.
resource "azurerm_role_definition" "lock_keeper" {
  name        = "${var.project} lock keeper"
  scope       = local.subscription
  description = "Sets and removes locks"

  permissions {
    actions = ["Microsoft.Authorization/locks/*"]
  }
}

resource "azurerm_role_assignment" "lock_keeper" {
  for_each = local.appliers

  description        = "${each.key} locks what holds data"
  scope              = local.subscription
  role_definition_id = azurerm_role_definition.lock_keeper.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.deployer[each.key].principal_id
  principal_type     = "ServicePrincipal"
}
