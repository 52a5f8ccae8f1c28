# Find by tag what runs of any checkout left in the subscription, and remove one such resource group
# after importing it (`./doit clean azure`).

terraform {
  required_version = ">= 1.6"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "4.55.0"
    }
  }
}

provider "azurerm" {
  resource_provider_registrations = "none"

  features {
    resource_group {
      prevent_deletion_if_contains_resources = false
    }
  }
}

variable "group" {
  type        = string
  default     = ""
  description = "The resource group to remove; empty to list them."
}

variable "region" {
  type        = string
  default     = ""
  description = "That group's region."
}

data "azurerm_resources" "strays" {
  required_tags = { aicert = "machine" }
}

resource "azurerm_resource_group" "stray" {
  count    = var.group == "" ? 0 : 1
  name     = var.group
  location = var.region

  lifecycle {
    ignore_changes = [tags]
  }
}

output "strays" {
  description = "id, region, run and end of each resource that carries the tag."
  value = [for item in data.azurerm_resources.strays.resources : {
    id      = item.id
    region  = item.location
    run     = lookup(item.tags, "run", "")
    expires = lookup(item.tags, "expires", "")
  }]
}
