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

module "monitoring" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  alert_emails      = ["operations@example.com"]
  resource_group_id = azurerm_resource_group.example.id
  budget            = { amount = 100, start = "2026-12-01T00:00:00Z" }
}

output "workspace" {
  description = "The workspace made."
  value       = module.monitoring.workspace_id
}
