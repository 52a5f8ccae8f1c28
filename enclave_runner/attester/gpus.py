"""Ask the machine's GPUs for their reports, through NVIDIA's driver (NVML).

Only GPUs in confidential computing mode give a report: for others, and for those in developer mode,
the certificate has none, and `platform.gpu` gives no verdict (docs/spec/gpu.md). Functions,
constants and struct layouts are those of NVIDIA's nvml.h, driver 580. Switches between GPUs are not
asked, because that takes a library that the image's driver does not have.

This was tried on an H200 with driver 580.159.04 that was not in confidential computing mode: the
layouts match those of NVIDIA's own Python module, and the settings are all zero, so the GPU is not
asked. Asked anyway, it returns no certificate (error 999). No GPU has given a report yet.
"""

import ctypes
from ctypes import POINTER, Array, Structure, byref, c_ubyte, c_uint, c_void_p
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from aicert.errors import ToolError
from aicert.formats.gpu import MAX_DEVICES, DeviceReport

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_SETTINGS_V1 = 1 << 24
_ENVIRONMENT_PRODUCTION = 2
_FEATURE_ON, _DEVELOPERS_OFF, _PROTECTED_PCIE = 1, 0, 1
_ACCEPTING = 1


class Settings(Structure):
    """nvmlSystemConfComputeSettings_v1_t."""

    _fields_ = (
        ("version", c_uint),
        ("environment", c_uint),
        ("ccFeature", c_uint),
        ("devToolsMode", c_uint),
        ("multiGpuMode", c_uint),
    )


class Certificates(Structure):
    """nvmlConfComputeGpuCertificate_t."""

    _fields_ = (
        ("certChainSize", c_uint),
        ("attestationCertChainSize", c_uint),
        ("certChain", c_ubyte * 0x1000),
        ("attestationCertChain", c_ubyte * 0x1400),
    )


class Report(Structure):
    """nvmlConfComputeGpuAttestationReport_t."""

    _fields_ = (
        ("isCecAttestationReportPresent", c_uint),
        ("attestationReportSize", c_uint),
        ("cecAttestationReportSize", c_uint),
        ("nonce", c_ubyte * 0x20),
        ("attestationReport", c_ubyte * 0x2000),
        ("cecAttestationReport", c_ubyte * 0x1000),
    )


_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "nvmlInit_v2": (),
    "nvmlShutdown": (),
    "nvmlSystemGetConfComputeSettings": (POINTER(Settings),),
    "nvmlSystemSetConfComputeGpusReadyState": (c_uint,),
    "nvmlDeviceGetCount_v2": (POINTER(c_uint),),
    "nvmlDeviceGetHandleByIndex_v2": (c_uint, POINTER(c_void_p)),
    "nvmlDeviceGetConfComputeGpuCertificate": (c_void_p, POINTER(Certificates)),
    "nvmlDeviceGetConfComputeGpuAttestationReport": (c_void_p, POINTER(Report)),
}


class Nvml:
    """NVIDIA's library, as functions that raise ToolError when they fail."""

    def __init__(self, library: Any) -> None:
        self._functions = {name: getattr(library, name) for name in _FUNCTIONS}
        for name, function in self._functions.items():
            function.argtypes, function.restype = _FUNCTIONS[name], c_uint

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of `_FUNCTIONS`."""
        code = self._functions[name](*arguments)
        if code != _SUCCESS:
            raise ToolError(f"NVIDIA's driver: {name} returned {code}")


def load() -> Nvml | None:
    """Load the library of the image's driver; None if there is none, or only an older one."""
    try:
        return Nvml(ctypes.CDLL(LIBRARY))
    except (OSError, AttributeError):
        return None


def ask(nvml: Nvml | None, nonce: bytes) -> tuple[DeviceReport, ...]:
    """Ask all GPUs for reports about `nonce` (`formats.gpu`), in the driver's order.

    Returns nothing if the GPUs are not protected. A protected GPU computes only after this, because
    the driver waits until it is told to accept work. ToolError if a GPU does not answer.
    """
    if nvml is None:
        return ()
    nvml.call("nvmlInit_v2")
    try:
        if not _are_protected(nvml):
            return ()
        devices = tuple(_ask_one(nvml, index, nonce) for index in range(_count(nvml)))
        nvml.call("nvmlSystemSetConfComputeGpusReadyState", c_uint(_ACCEPTING))
        return devices
    finally:
        nvml.call("nvmlShutdown")


def _are_protected(nvml: Nvml) -> bool:
    """Return whether the driver says that GPUs are protected, and not in developer mode."""
    settings = Settings(version=ctypes.sizeof(Settings) | _SETTINGS_V1)
    try:
        nvml.call("nvmlSystemGetConfComputeSettings", byref(settings))
    except ToolError:
        # The driver returns "not supported" for GPUs that cannot be protected.
        return False
    is_on: bool = settings.ccFeature == _FEATURE_ON or settings.multiGpuMode == _PROTECTED_PCIE
    is_closed: bool = settings.devToolsMode == _DEVELOPERS_OFF
    return is_on and is_closed and settings.environment == _ENVIRONMENT_PRODUCTION


def _count(nvml: Nvml) -> int:
    count = c_uint()
    nvml.call("nvmlDeviceGetCount_v2", byref(count))
    if not 0 < count.value <= MAX_DEVICES:
        raise ToolError(f"NVIDIA's driver lists {count.value} GPUs, not 1 to {MAX_DEVICES}")
    return count.value


def _ask_one(nvml: Nvml, index: int, nonce: bytes) -> DeviceReport:
    device = c_void_p()
    nvml.call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(device))
    certificates = Certificates()
    nvml.call("nvmlDeviceGetConfComputeGpuCertificate", device, byref(certificates))
    report = Report(nonce=(c_ubyte * 0x20)(*nonce))
    nvml.call("nvmlDeviceGetConfComputeGpuAttestationReport", device, byref(report))
    pem = _first(certificates.attestationCertChain, certificates.attestationCertChainSize)
    try:
        chain = load_pem_x509_certificates(pem)
    except ValueError:
        raise ToolError(f"GPU {index} gave no certificates for its key") from None
    return DeviceReport(
        report=_first(report.attestationReport, report.attestationReportSize),
        chain=tuple(one.public_bytes(Encoding.DER) for one in chain),
    )


def _first(data: object, size: int) -> bytes:
    """Return the first `size` bytes of a buffer, where `size` comes from the driver."""
    return bytes(cast("Array[c_ubyte]", data))[:size]
