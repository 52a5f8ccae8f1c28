terraform {
  required_version = ">= 1.6"

  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
      # Exactly the version whose schema the tests compare this folder with.
      version = "4.55.0"
    }
  }
}

# Credentials are the caller's own (`az login`, or ARM_* in the environment). ARM_SUBSCRIPTION_ID
# names the subscription. Nothing else in this project logs in to Azure.
provider "azurerm" {
  # Registering every resource provider takes minutes and permissions; docs/azure.md lists the needed
  # ones.
  resource_provider_registrations = "none"

  features {
    resource_group {
      # Destroy everything in the run's group.
      prevent_deletion_if_contains_resources = false
    }
    virtual_machine {
      delete_os_disk_on_deletion = false
      # The machine has no agent to shut it down, and it syncs its output before it powers off.
      skip_shutdown_and_force_delete = true
    }
  }
}
