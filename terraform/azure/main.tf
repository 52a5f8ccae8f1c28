# One run of a measured machine on Azure: from the image's VHD to a Trusted Launch machine and back.
# rules/machines/azure/run.py applies it in four stages and destroys it; docs/azure.md explains both.

locals {
  machine = var.stage == "machine" ? 1 : 0
  disks   = var.stage == "store" ? 0 : 1
  # A machine that serves has a port and no output disk.
  serves = var.port > 0 ? local.machine : 0
  output = var.port > 0 ? 0 : 1
  tags = {
    aicert  = "machine"
    run     = var.run
    expires = var.expires
  }
}

resource "azurerm_resource_group" "run" {
  name     = var.name
  location = var.region
  tags     = local.tags
}

# Alerts only: it stops nothing. The machine ends when it powers off, at the driver's time limit, or
# at the auto-shutdown below.
resource "azurerm_consumption_budget_resource_group" "run" {
  count             = var.budget > 0 ? 1 : 0
  name              = var.name
  resource_group_id = azurerm_resource_group.run.id
  amount            = var.budget
  time_grain        = "Monthly"

  time_period {
    # The current month: `starts` is a quarter of an hour ago, and Azure refuses a month that has
    # ended.
    start_date = formatdate("YYYY-MM-01'T'00:00:00'Z'", timeadd(var.starts, "15m"))
  }

  notification {
    operator      = "GreaterThanOrEqualTo"
    threshold     = 100
    contact_roles = ["Owner"]
  }
}

# For uploaded VHDs, and for the machine's console.
resource "azurerm_storage_account" "run" {
  name                             = var.name
  resource_group_name              = azurerm_resource_group.run.name
  location                         = azurerm_resource_group.run.location
  account_tier                     = "Standard"
  account_replication_type         = "LRS"
  https_traffic_only_enabled       = true
  min_tls_version                  = "TLS1_2"
  allow_nested_items_to_be_public  = false
  cross_tenant_replication_enabled = false
  local_user_enabled               = false
  # The key makes the driver's signature below.
  shared_access_key_enabled = true
  tags                      = local.tags
}

resource "azurerm_storage_container" "disks" {
  name                  = "disks"
  storage_account_id    = azurerm_storage_account.run.id
  container_access_type = "private"
}

# Made from the account's key; it expires with the run.
data "azurerm_storage_account_sas" "run" {
  connection_string = azurerm_storage_account.run.primary_connection_string
  https_only        = true
  start             = var.starts
  expiry            = var.expires

  services {
    blob  = true
    file  = false
    queue = false
    table = false
  }

  resource_types {
    # To list containers: boot diagnostics chooses the name of its container.
    service   = true
    container = true
    object    = true
  }

  permissions {
    read    = true
    write   = true
    list    = true
    create  = true
    add     = false
    delete  = false
    update  = false
    process = false
    tag     = false
    filter  = false
  }
}

resource "azurerm_shared_image_gallery" "run" {
  count               = local.disks
  name                = var.name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  tags                = local.tags
}

resource "azurerm_shared_image" "machine" {
  count               = local.disks
  name                = "aicert-machine"
  gallery_name        = azurerm_shared_image_gallery.run[0].name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  os_type             = "Linux"
  architecture        = "x64"
  hyper_v_generation  = "V2"
  # The image accepts no user, password or key: it has no provisioning agent and no network stack.
  specialized            = true
  trusted_launch_enabled = true
  tags                   = local.tags

  identifier {
    publisher = "aicert"
    offer     = "machine"
    sku       = var.name
  }
}

resource "azurerm_shared_image_version" "machine" {
  count               = local.disks
  name                = "1.0.0"
  gallery_name        = azurerm_shared_image_gallery.run[0].name
  image_name          = azurerm_shared_image.machine[0].name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  blob_uri            = "${azurerm_storage_account.run.primary_blob_endpoint}${azurerm_storage_container.disks.name}/image.vhd"
  storage_account_id  = azurerm_storage_account.run.id
  tags                = local.tags

  target_region {
    name                   = azurerm_resource_group.run.location
    regional_replica_count = 1
    storage_account_type   = "Standard_LRS"
  }
}

resource "azurerm_managed_disk" "image" {
  count                         = local.disks
  name                          = "image"
  resource_group_name           = azurerm_resource_group.run.name
  location                      = azurerm_resource_group.run.location
  storage_account_type          = "StandardSSD_LRS"
  create_option                 = "FromImage"
  gallery_image_reference_id    = azurerm_shared_image_version.machine[0].id
  os_type                       = "Linux"
  hyper_v_generation            = "V2"
  trusted_launch_enabled        = true
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  tags                          = local.tags
}

resource "azurerm_managed_disk" "inputs" {
  count                         = local.disks
  name                          = "inputs"
  resource_group_name           = azurerm_resource_group.run.name
  location                      = azurerm_resource_group.run.location
  storage_account_type          = "StandardSSD_LRS"
  create_option                 = "Import"
  source_uri                    = "${azurerm_storage_account.run.primary_blob_endpoint}${azurerm_storage_container.disks.name}/inputs.vhd"
  storage_account_id            = azurerm_storage_account.run.id
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  tags                          = local.tags
}

resource "azurerm_managed_disk" "output" {
  count                = local.disks * local.output
  name                 = "output"
  resource_group_name  = azurerm_resource_group.run.name
  location             = azurerm_resource_group.run.location
  storage_account_type = "StandardSSD_LRS"
  create_option        = "Empty"
  disk_size_gb         = var.output_gib
  # Read from outside with a signature, once the machine is gone.
  network_access_policy         = "AllowAll"
  public_network_access_enabled = true
  tags                          = local.tags
}

# A machine must have an interface. The image that trains has no driver for it, and these rules are a
# second barrier; one that serves has a port for the named networks alone.
resource "azurerm_virtual_network" "run" {
  count               = local.machine
  name                = var.name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  address_space       = ["10.0.0.0/29"]
  tags                = local.tags
}

resource "azurerm_subnet" "run" {
  count                           = local.machine
  name                            = var.name
  resource_group_name             = azurerm_resource_group.run.name
  virtual_network_name            = azurerm_virtual_network.run[0].name
  address_prefixes                = ["10.0.0.0/29"]
  default_outbound_access_enabled = false
}

resource "azurerm_network_security_group" "run" {
  count               = local.machine
  name                = var.name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  tags                = local.tags
}

resource "azurerm_network_security_rule" "deny" {
  for_each                    = toset(local.machine == 1 ? ["Inbound", "Outbound"] : [])
  name                        = "deny-${lower(each.value)}"
  resource_group_name         = azurerm_resource_group.run.name
  network_security_group_name = azurerm_network_security_group.run[0].name
  # Ahead of Azure's own rules (65000 and up), which allow traffic within the network.
  priority                   = 200
  direction                  = each.value
  access                     = "Deny"
  protocol                   = "*"
  source_port_range          = "*"
  destination_port_range     = "*"
  source_address_prefix      = "*"
  destination_address_prefix = "*"
}

# Answers need no rule of their own. Nothing else goes out, except to the platform's own address
# 168.63.129.16, which no rule closes.
resource "azurerm_network_security_rule" "serve" {
  count                       = local.serves
  name                        = "serve"
  resource_group_name         = azurerm_resource_group.run.name
  network_security_group_name = azurerm_network_security_group.run[0].name
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = tostring(var.port)
  source_address_prefixes     = var.clients
  destination_address_prefix  = "10.0.0.4"
}

resource "azurerm_public_ip" "serve" {
  count               = local.serves
  name                = var.name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = local.tags
}

resource "azurerm_subnet_network_security_group_association" "run" {
  count                     = local.machine
  subnet_id                 = azurerm_subnet.run[0].id
  network_security_group_id = azurerm_network_security_group.run[0].id
}

resource "azurerm_network_interface" "run" {
  count               = local.machine
  name                = var.name
  resource_group_name = azurerm_resource_group.run.name
  location            = azurerm_resource_group.run.location
  tags                = local.tags

  # A machine that trains has no public address. The image has no DHCP: the one that serves knows its
  # address (rules/serving/cloud.py), the first that Azure leaves to its customers.
  ip_configuration {
    name                          = "private"
    subnet_id                     = azurerm_subnet.run[0].id
    private_ip_address_allocation = "Static"
    private_ip_address            = "10.0.0.4"
    public_ip_address_id          = one(azurerm_public_ip.serve[*].id)
  }

  # Traffic is denied before the machine exists.
  depends_on = [
    azurerm_network_security_rule.deny,
    azurerm_subnet_network_security_group_association.run,
  ]
}

resource "azurerm_linux_virtual_machine" "run" {
  count                 = local.machine
  name                  = var.name
  resource_group_name   = azurerm_resource_group.run.name
  location              = azurerm_resource_group.run.location
  size                  = var.size
  network_interface_ids = [azurerm_network_interface.run[0].id]
  os_managed_disk_id    = azurerm_managed_disk.image[0].id
  # The virtual TPM, which alone makes it a Trusted Launch machine.
  vtpm_enabled = true
  # With Azure's default keys, Secure Boot starts only what Microsoft signed. Our kernel is accepted
  # by its measurements (PCR 4 and 11), and a signature would add nothing; docs/azure.md, "Secure boot".
  secure_boot_enabled = false
  tags                = local.tags

  os_disk {
    caching = "ReadOnly"
  }

  boot_diagnostics {
    storage_account_uri = azurerm_storage_account.run.primary_blob_endpoint
  }
}

# Whether the machine still runs, if its console does not say.
data "azurerm_virtual_machine" "run" {
  count               = local.machine
  name                = azurerm_linux_virtual_machine.run[0].name
  resource_group_name = azurerm_resource_group.run.name
}

# The machine's init waits for its disks, and identifies them by these numbers. Inputs come last, so
# once they are there, everything is.
resource "azurerm_virtual_machine_data_disk_attachment" "output" {
  count              = local.machine * local.output
  managed_disk_id    = azurerm_managed_disk.output[0].id
  virtual_machine_id = azurerm_linux_virtual_machine.run[0].id
  lun                = 11
  caching            = "None"
}

resource "azurerm_virtual_machine_data_disk_attachment" "inputs" {
  count              = local.machine
  managed_disk_id    = azurerm_managed_disk.inputs[0].id
  virtual_machine_id = azurerm_linux_virtual_machine.run[0].id
  lun                = 10
  caching            = "ReadOnly"

  depends_on = [azurerm_virtual_machine_data_disk_attachment.output]
}

# In case the driver dies: the machine must not run for days. Azure accepts only a time of day, so for
# a run that may last more than a day this would come too early.
resource "azurerm_dev_test_global_vm_shutdown_schedule" "run" {
  count                 = timecmp(var.expires, timeadd(var.starts, "24h")) < 0 ? local.machine : 0
  virtual_machine_id    = azurerm_linux_virtual_machine.run[0].id
  location              = azurerm_resource_group.run.location
  enabled               = true
  daily_recurrence_time = formatdate("hhmm", var.expires)
  timezone              = "UTC"
  tags                  = local.tags

  notification_settings {
    enabled = false
  }
}

# A disk can be read only when no machine uses it. terraform does not finish a stage's removals before
# its additions, so this is a separate stage.
resource "azurerm_managed_disk_sas_token" "output" {
  count               = var.stage == "collect" ? 1 : 0
  managed_disk_id     = azurerm_managed_disk.output[0].id
  access_level        = "Read"
  duration_in_seconds = 14400
}
