# What the driver needs. Two are secrets, which expire with the run.

output "store" {
  description = "The storage account's blob service, with a signature."
  value       = "${azurerm_storage_account.run.primary_blob_endpoint}${data.azurerm_storage_account_sas.run.sas}"
  sensitive   = true
}

output "power_state" {
  description = "The machine's power state at the last refresh; empty if there is no machine."
  value       = local.machine == 1 ? data.azurerm_virtual_machine.run[0].power_state : ""
}

output "address" {
  description = "The public address of a machine that serves; empty otherwise."
  value       = local.serves == 1 ? azurerm_public_ip.serve[0].ip_address : ""
}

output "output_disk" {
  description = "The output disk's bytes, with a signature; empty before stage collect."
  value       = var.stage == "collect" ? azurerm_managed_disk_sas_token.output[0].sas_url : ""
  sensitive   = true
}
