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

module "registry" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  suffix  = "a1b2c"
  sku     = "Basic"
  private = false
}

output "login_server" {
  description = "Where images are pushed."
  value       = module.registry.login_server
}
