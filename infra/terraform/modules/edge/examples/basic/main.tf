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

# A Front Door in front of a public origin, for two countries.
module "edge" {
  source = "../../"

  name                = "example-dev"
  resource_group_name = azurerm_resource_group.example.name

  suffix            = "a1b2c"
  sku               = "Standard"
  origin_is_private = false
  origin            = { host_name = "func-example.azurewebsites.net", health_path = "/api/health" }
  allowed_countries = ["CH", "DE"]
}

output "host_name" {
  description = "What clients call."
  value       = module.edge.host_name
}
