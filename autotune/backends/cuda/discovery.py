"""Which CUDA devices there are, and whether each can be used."""

from __future__ import annotations

from autotune.backends.base import DeviceInfo
from autotune.backends.cuda import compiler, driver
from autotune.backends.cuda.target import target_of
from records.errors import AutotuneError


def list_devices() -> list[DeviceInfo]:
    """Every device by index, or one line that says why there is none. No context is made."""
    try:
        count = int(driver.cuda().Device.count())
        version = driver.driver_version()
        infos = [_info(index, version) for index in range(count)]
    except Exception as error:  # ours with the remedy, or a driver that cannot answer
        return [_absent(str(error))]
    if not infos:
        return [_absent("NVIDIA's driver lists no device: check nvidia-smi, CUDA_VISIBLE_DEVICES")]
    return sorted(infos, key=_rank)


def _absent(problem: str) -> DeviceInfo:
    return DeviceInfo("cuda", "cuda", "NVIDIA GPUs by CUDA", problem)


def _info(index: int, version: str) -> DeviceInfo:
    session = driver.Session(index)
    target = target_of(session)
    return DeviceInfo(f"cuda:{index}", "cuda", target.device, _problem(), target, f"CUDA {version}")


def _problem() -> str:
    try:
        compiler.compiler()
    except AutotuneError as error:
        return str(error)
    return ""


def _rank(info: DeviceInfo) -> int:
    """Orders by expected speed, fastest first; equals stay in the driver's order."""
    assert info.target is not None, "only listed devices are ranked"
    return -int(info.target.limit("units") * info.target.limit("clock_mhz", 1))
