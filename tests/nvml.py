"""NVIDIA's library as the runner calls it: C functions of its names and layouts, and the forged
devices behind them. There is no such GPU here.
"""

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_uint, c_void_p
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from enclave_runner.attester import gpus
from tests.adversarial import nvidia_forge as forge

DEVICES = (forge.device(), forge.another())


class Driver:
    """Two GPUs, and what the driver was called with; `fails`: a function's result instead of 0."""

    def __init__(self, **options: Any) -> None:
        usual = {"version": 0x1000014, "environment": 2, "on": 1, "developers": 0, "together": 0}
        self.settings = usual | {"count": 2, "pem": None, "size": None} | options
        self.fails: dict[str, int] = options.get("fails", {})
        self.calls: list[str] = []
        self.ready = 0
        functions: dict[str, tuple[Callable[..., int], tuple[Any, ...]]] = {
            "nvmlInit_v2": (lambda: 0, ()),
            "nvmlShutdown": (lambda: 0, ()),
            "nvmlSystemGetConfComputeSettings": (self._settings, (POINTER(gpus.Settings),)),
            "nvmlSystemSetConfComputeGpusReadyState": (self._ready, (c_uint,)),
            "nvmlDeviceGetCount_v2": (self._count, (POINTER(c_uint),)),
            "nvmlDeviceGetHandleByIndex_v2": (self._handle, (c_uint, POINTER(c_void_p))),
            "nvmlDeviceGetConfComputeGpuCertificate": (
                self._certificates,
                (c_void_p, POINTER(gpus.Certificates)),
            ),
            "nvmlDeviceGetConfComputeGpuAttestationReport": (
                self._report,
                (c_void_p, POINTER(gpus.Report)),
            ),
        }
        self.library = SimpleNamespace(
            **{name: self._function(name, *function) for name, function in functions.items()}
        )

    def _function(
        self, name: str, function: Callable[..., int], kinds: tuple[Any, ...]
    ) -> Callable[..., int]:
        def called(*arguments: Any) -> int:
            self.calls.append(name)
            return self.fails.get(name) or function(*arguments)

        return CFUNCTYPE(c_uint, *kinds)(called)

    def _settings(self, to: Any) -> int:
        if to[0].version != self.settings["version"]:
            return 25
        to[0].environment, to[0].ccFeature = self.settings["environment"], self.settings["on"]
        to[0].devToolsMode = self.settings["developers"]
        to[0].multiGpuMode = self.settings["together"]
        return 0

    def _ready(self, accepting: int) -> int:
        self.ready = accepting
        return 0

    def _count(self, to: Any) -> int:
        to[0] = self.settings["count"]
        return 0

    @staticmethod
    def _handle(index: int, to: Any) -> int:
        to[0] = 0x1000 + index
        return 0

    def _certificates(self, device: int, to: Any) -> int:
        _, chain = forge.answer_of(DEVICES[device - 0x1000], bytes(32))
        pem = b"".join(load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)
        pem = self.settings["pem"] or pem
        ctypes.memmove(to[0].attestationCertChain, pem, len(pem))
        to[0].attestationCertChainSize = len(pem)
        return 0

    def _report(self, device: int, to: Any) -> int:
        report, _ = forge.answer_of(DEVICES[device - 0x1000], bytes(to[0].nonce))
        ctypes.memmove(to[0].attestationReport, report, len(report))
        to[0].attestationReportSize = self.settings["size"] or len(report)
        return 0
