# Who may do what. Only the role of the vault's encryption identity is granted elsewhere, in
# modules/security, and the release's roles in release.tf.
locals {
  bus_receiver = "Azure Service Bus Data Receiver"
  bus_sender   = "Azure Service Bus Data Sender"

  sandbox_grants = merge(
    {
      "receive-jobs" = { role = local.bus_receiver, scope = module.messaging.queue_ids["sandbox-jobs"] }
      "send-results" = { role = local.bus_sender, scope = module.messaging.queue_ids["sandbox-results"] }
      "pull-image"   = { role = "AcrPull", scope = local.registry.id }
    },
    var.sandbox.platform == "container_apps_sessions" ? {
      "run-sessions" = { role = "Azure ContainerApps Session Executor", scope = one(module.sandbox_sessions[*].id) }
    } : {}
  )

  # The application lists, removes and resends dead letters for operators, so it may send to and
  # receive from every queue and topic.
  app_grants = merge(
    { for name, id in module.messaging.queue_ids : "receive-${name}" => { role = local.bus_receiver, scope = id } },
    { for name, id in module.messaging.queue_ids : "send-${name}" => { role = local.bus_sender, scope = id } },
    { for key, id in module.messaging.subscription_ids : "receive-${replace(key, "/", "-")}" => { role = local.bus_receiver, scope = id } },
    { for name, id in module.messaging.topic_ids : "send-${name}" => { role = local.bus_sender, scope = id } },
    {
      "host-blobs"   = { role = "Storage Blob Data Owner", scope = module.app_service.storage_account_id }
      "host-queues"  = { role = "Storage Queue Data Contributor", scope = module.app_service.storage_account_id }
      "host-tables"  = { role = "Storage Table Data Contributor", scope = module.app_service.storage_account_id }
      "read-secrets" = { role = "Key Vault Secrets User", scope = module.security.key_vault_id }
      "sign-seals"   = { role = "Key Vault Crypto User", scope = module.security.seal_key.id }
    },
    var.language_model == null ? {} : {
      "ask-models" = { role = "Cognitive Services OpenAI User", scope = var.language_model.account_id }
    },
  )
}

resource "azurerm_role_assignment" "sandbox" {
  for_each = local.sandbox_grants

  description          = "Sandbox host: ${each.key}"
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = module.security.identities["sandbox"].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "app" {
  for_each = local.app_grants

  description          = "Application: ${each.key}"
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = module.security.identities["app"].principal_id
  principal_type       = "ServicePrincipal"
}
