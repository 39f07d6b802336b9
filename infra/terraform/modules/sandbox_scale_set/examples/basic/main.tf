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
  sandbox_delegation = null
}

variable "public_key" {
  description = "Public SSH key, as Azure asks for one."
  type        = string
}

# Up to four machines, one per ten waiting jobs.
module "sandbox_scale_set" {
  source = "../../"

  name                = "example-dev"
  location            = azurerm_resource_group.example.location
  resource_group_name = azurerm_resource_group.example.name

  subnet_id            = module.networking.subnet_ids["sandbox"]
  admin_ssh_public_key = var.public_key
  identity             = { id = azurerm_user_assigned_identity.example.id, client_id = azurerm_user_assigned_identity.example.client_id }
  registry_server      = "crexample.azurecr.io"
  image                = "qlp-sandbox-host:1"
  settings             = { QLP_SANDBOX_HEALTH_PORT = "8081" }

  queue = {
    namespace_id = "${azurerm_resource_group.example.id}/providers/Microsoft.ServiceBus/namespaces/sb-example"
    name         = "sandbox-jobs"
  }
}

output "scale_set" {
  description = "The scale set made."
  value       = module.sandbox_scale_set.id
}
