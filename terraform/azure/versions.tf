terraform {
  required_version = ">= 1.6"

  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
      # Exactly the version whose typed schema the tests compare this folder with.
      version = "4.55.0"
    }
  }
}

# Credentials are the caller's own (`az login`, or ARM_* in the environment), ARM_SUBSCRIPTION_ID
# names the subscription. Nothing else of this project logs in to Azure.
provider "azurerm" {
  # Registering every resource provider takes minutes and rights; docs/azure.md names those needed.
  resource_provider_registrations = "none"

  features {
    resource_group {
      # Whatever the run left in its group goes with it.
      prevent_deletion_if_contains_resources = false
    }
    virtual_machine {
      delete_os_disk_on_deletion = false
      # No agent is in the machine to shut it down, and what it wrote is synced before it powers off.
      skip_shutdown_and_force_delete = true
    }
  }
}
