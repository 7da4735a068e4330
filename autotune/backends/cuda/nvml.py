"""Clocks, power and temperature through NVML. The only module that imports nvidia-ml-py.

Optional: without the package or its library nothing is told.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from records.canonical import Value

_PERIOD_S = 0.1  # a question takes the driver up to milliseconds

# nvmlClocksEventReason… of nvml.h; idling and clocks that somebody has set are no throttling.
_THROTTLES: Mapping[int, str] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


class Telemetry:
    """Samples a device between launches; not more often than every 0.1 s."""

    def __init__(self, pci_bus_id: str) -> None:
        self._nvml: Any = None
        self._sampled_s = float("-inf")
        self._throttled: set[str] = set()
        self._latest: dict[str, Value] = {}
        try:
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id.encode())
            self._nvml = nvml
        except Exception:  # no package, no library, a device it does not know
            return

    @property
    def driver_version(self) -> str:
        """Of NVIDIA's driver package, such as `"580.65.06"`; `""` where unknown."""
        return str(self._asked(lambda nvml: nvml.nvmlSystemGetDriverVersion()) or "")

    def sample(self) -> None:
        """Call while the device still has the clocks of the work just done."""
        if self._nvml is None or time.monotonic() - self._sampled_s < _PERIOD_S:
            return
        handle = self._handle
        found = {
            "clock_mhz": self._asked(lambda n: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM)),
            "memory_clock_mhz": self._asked(
                lambda n: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM)
            ),
            "power_w": self._asked(lambda n: n.nvmlDeviceGetPowerUsage(handle) / 1000),
            "temperature_c": self._asked(
                lambda n: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU)
            ),
        }
        self._latest = {name: value for name, value in found.items() if value is not None}
        self._throttled |= self._throttles()
        self._sampled_s = time.monotonic()

    def restart(self) -> None:
        """Forget what was sampled: another kernel's measurement begins."""
        self._sampled_s, self._latest = float("-inf"), {}
        self._throttled = set()

    @property
    def details(self) -> dict[str, Value]:
        """The latest sample (`clock_mhz`, `memory_clock_mhz`, `power_w`, `temperature_c`), and
        `throttled`: every reason seen since `restart`, absent where there was none."""
        throttled = ", ".join(sorted(self._throttled))
        return {**self._latest, **({"throttled": throttled} if throttled else {})}

    def _throttles(self) -> set[str]:
        handle = self._handle
        bits = self._asked(lambda n: n.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return {name for bit, name in _THROTTLES.items() if bits & bit}

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        """The answer, or `None`: some devices do not tell some facts."""
        if self._nvml is None:
            return None
        try:
            return question(self._nvml)
        except Exception:
            return None
