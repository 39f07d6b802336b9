# The identity that builds and releases. Jobs of the repository's environments sign in as it, without
# any secret.
locals {
  release_grants = var.release == null ? {} : merge(
    {
      deploy       = { role = "Website Contributor", scope = azurerm_resource_group.this.id }
      read-secrets = { role = "Key Vault Secrets User", scope = module.security.key_vault_id }
    },
    var.shared_registry == null ? { push-images = { role = "AcrPush", scope = local.registry.id } } : {}
  )
}

resource "azurerm_user_assigned_identity" "release" {
  count = var.release == null ? 0 : 1

  name                = "id-${local.name}-release"
  location            = var.location.name
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

resource "azurerm_federated_identity_credential" "release" {
  for_each = var.release == null ? toset([]) : var.release.environments

  name                = "github-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  parent_id           = azurerm_user_assigned_identity.release[0].id
  issuer              = "https://token.actions.githubusercontent.com"
  audience            = ["api://AzureADTokenExchange"]
  subject             = "repo:${var.release.repository}:environment:${each.key}"
}

resource "azurerm_role_assignment" "release" {
  for_each = local.release_grants

  description          = "Release: ${each.key}"
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.release[0].principal_id
  principal_type       = "ServicePrincipal"
}
