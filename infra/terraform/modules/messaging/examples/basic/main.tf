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

# A Standard namespace with the application's entities.
module "messaging" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  suffix    = "a1b2c"
  private   = false
  namespace = { sku = "Standard" }
}

output "queues" {
  description = "The queues made."
  value       = keys(module.messaging.queue_ids)
}
