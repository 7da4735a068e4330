"""The former place of `autotune.device_names`: this module's name hides `autotune.devices()`."""

from autotune.device_names import is_simulator as is_simulator
from autotune.device_names import list_devices as list_devices
from autotune.device_names import open_backend as open_backend
from autotune.device_names import resolve as resolve
