terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }
  }
}

provider "azurerm" {
  features {}
}

resource "azurerm_resource_group" "example" {
  name     = "rg-example"
  location = "westeurope"
}

resource "azurerm_user_assigned_identity" "example" {
  name                = "id-example"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name
}

module "networking" {
  source = "../../../networking"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  address_space      = "10.0.0.0/22"
  private            = true
  sandbox_delegation = "Microsoft.Web/serverFarms"
}

# A function app on the smallest plan, without a sandbox host.
module "app_service" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  suffix     = "a1b2c"
  plan       = { sku = "B1" }
  private    = false
  subnet_ids = { app = module.networking.subnet_ids["app"], sandbox = module.networking.subnet_ids["sandbox"] }
  inbound    = { cidrs = ["203.0.113.0/24"] }

  app = {
    identity_id    = azurerm_user_assigned_identity.example.id
    client_id      = azurerm_user_assigned_identity.example.client_id
    settings       = { QLP_INTENTS_QUEUE = "intents" }
    key_vault_name = "kv-example"
  }

  application_insights_connection_string = "InstrumentationKey=00000000-0000-0000-0000-000000000000"
}

output "host_name" {
  description = "Where the application answers."
  value       = module.app_service.app_host_name
}
