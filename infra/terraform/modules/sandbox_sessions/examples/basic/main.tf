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

module "sandbox_sessions" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  max_sessions = 10
}

output "endpoint" {
  description = "Where executions are requested."
  value       = module.sandbox_sessions.endpoint
}
