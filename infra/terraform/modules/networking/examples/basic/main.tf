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

# A private network, in which the names of the database and the vault resolve.
module "networking" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  address_space      = "10.0.0.0/22"
  private            = true
  sandbox_delegation = "Microsoft.Web/serverFarms"
  private_dns_zones = {
    database  = "privatelink.postgres.database.azure.com"
    key-vault = "privatelink.vaultcore.azure.net"
  }
}

output "subnets" {
  description = "The subnets made."
  value       = module.networking.subnet_ids
}
