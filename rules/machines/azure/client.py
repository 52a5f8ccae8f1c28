"""Azure's own client of blob storage, from a hashed lock of its own: installed by the first run
on `azure`, imported by nothing else.
"""

import importlib
import sys
from typing import Any

from rules.host import extras
from rules.host.places import CODE

LOCK = CODE / "rules" / "azure-requirements.lock"
# Twenty tries over some minutes; a connection that says nothing for a minute is none.
_PATIENT = {"retry_total": 8, "connection_timeout": 20, "read_timeout": 60}


def library(name: str = "azure.storage.blob") -> Any:
    """The client's module. Raises ToolError where it cannot be installed."""
    folder = extras.install("azure", LOCK)
    if str(folder) not in sys.path:
        # Last: what `.venv` has stays what it is.
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    return importlib.import_module(name)


def service(url: str, **options: Any) -> Any:
    """A client of the account whose blob service is at `url`, which carries its signature."""
    return library().BlobServiceClient(account_url=url, **(_PATIENT | options))


def blob(url: str, **options: Any) -> Any:
    """A client of the one blob at `url`, which carries its signature."""
    return library().BlobClient.from_blob_url(url, **(_PATIENT | options))


def failures() -> type[Exception]:
    """The base of what the client raises when a request has failed for good."""
    base: type[Exception] = library("azure.core.exceptions").AzureError
    return base
