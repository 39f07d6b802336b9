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

data "azurerm_client_config" "current" {}

# A vault with one key that encrypts a database.
module "security" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  suffix                = "a1b2c"
  tenant_id             = data.azurerm_client_config.current.tenant_id
  private               = true
  customer_managed_keys = ["database"]
}

output "vault" {
  description = "The vault made."
  value       = module.security.key_vault_name
}
