terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }

    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }

  # One state per environment, each in a container of its own, locked by a blob lease. bootstrap makes
  # the account: terraform init -backend-config=environments/ENV.backend.hcl
  backend "azurerm" {}
}

provider "azurerm" {
  # ARM_SUBSCRIPTION_ID names the subscription.
  storage_use_azuread = true

  features {
    key_vault {
      purge_soft_delete_on_destroy    = false
      recover_soft_deleted_key_vaults = true
    }

    resource_group {
      prevent_deletion_if_contains_resources = true
    }

    storage {
      # Private accounts cannot be reached from outside the network, and no data plane is needed here.
      data_plane_available = false
    }

    template_deployment {
      delete_nested_items_during_deletion = false
    }

    virtual_machine_scale_set {
      roll_instances_when_required = true
    }
  }
}
