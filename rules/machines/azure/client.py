"""Azure's client for blob storage, from a hashed lock of its own. The first run on `azure` installs
it, and nothing else imports it.
"""

import importlib
import sys
from typing import Any

from rules.host import extras
from rules.host.places import CODE

LOCK = CODE / "rules" / "azure-requirements.lock"
# Twenty tries over some minutes; a connection that is silent for a minute counts as dead.
_PATIENT = {"retry_total": 8, "connection_timeout": 20, "read_timeout": 60}


def library(name: str = "azure.storage.blob") -> Any:
    """Return the client's module. Raises ToolError if it cannot be installed."""
    folder = extras.install("azure", LOCK)
    if str(folder) not in sys.path:
        # Appended last, so that packages in `.venv` take precedence.
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    return importlib.import_module(name)


def service(url: str, **options: Any) -> Any:
    """Return a client for the account at `url`, which contains the account's signature."""
    return library().BlobServiceClient(account_url=url, **(_PATIENT | options))


def blob(url: str, **options: Any) -> Any:
    """Return a client for the blob at `url`, which contains its signature."""
    return library().BlobClient.from_blob_url(url, **(_PATIENT | options))


def failures() -> type[Exception]:
    """Return the base class of the client's errors after its last retry."""
    base: type[Exception] = library("azure.core.exceptions").AzureError
    return base
