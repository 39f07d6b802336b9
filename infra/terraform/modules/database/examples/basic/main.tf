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

# The smallest server, closed to public networks.
variable "data_administrators" {
  description = "Object ID of the Microsoft Entra group that administers the database."
  type        = string
}

module "database" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  suffix        = "a1b2c"
  tenant_id     = data.azurerm_client_config.current.tenant_id
  private       = true
  administrator = { object_id = var.data_administrators, principal_name = "data-administrators" }

  server = {
    sku             = "B_Standard_B1ms"
    storage_mb      = 32768
    max_connections = 35
  }
}

output "host" {
  description = "The server's host name."
  value       = module.database.fqdn
}
