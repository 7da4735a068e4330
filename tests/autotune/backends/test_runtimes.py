from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autotune.backends.opencl import runtimes


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings of a user, a cache of its own, and a pip runtime that is an empty file."""
    for name in runtimes.USER_SETTINGS:
        monkeypatch.setenv(name, "x")  # so that whatever the test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library = tmp_path / "lib" / "libintelocl.so"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(runtimes, "pip_runtime", lambda: library)
    return tmp_path


def vendors() -> dict[str, str]:
    directory = Path(os.environ["OCL_ICD_VENDORS"])
    return {path.name: path.read_text() for path in directory.iterdir()}


def system(environment: Path, **icds: str) -> Path:
    directory = environment / "vendors"
    directory.mkdir()
    for name, text in icds.items():
        (directory / f"{name}.icd").write_text(text)
    (directory / "README").write_text("not an icd")
    return directory


def test_the_pip_runtime_stands_beside_the_systems(environment: Path) -> None:
    runtimes.make_visible(system(environment, nvidia="libnvidia-opencl.so.1\n"))
    assert vendors() == {
        "nvidia.icd": "libnvidia-opencl.so.1\n",
        "autotune-intel-cpu.icd": f"{environment}/lib/libintelocl.so\n",
    }


def test_without_system_runtimes_there_is_the_pip_one(environment: Path) -> None:
    runtimes.make_visible(environment / "absent")
    assert list(vendors()) == ["autotune-intel-cpu.icd"]


def test_a_systems_own_intel_runtime_goes_first(environment: Path) -> None:
    runtimes.make_visible(system(environment, intel="/opt/intel/libintelocl.so\n"))
    assert vendors() == {"intel.icd": "/opt/intel/libintelocl.so\n"}


@pytest.mark.parametrize("name", runtimes.USER_SETTINGS)
def test_a_users_setting_wins(
    environment: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/mine")
    runtimes.make_visible(environment)
    assert {key: os.environ.get(key) for key in runtimes.USER_SETTINGS if key in os.environ} == {
        name: "/mine"
    }
    assert not (environment / "cache").exists()


def test_nothing_changes_without_a_pip_runtime(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "pip_runtime", lambda: None)
    runtimes.make_visible(environment)
    assert "OCL_ICD_VENDORS" not in os.environ


def test_a_second_call_and_a_changed_system(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = system(environment, one="one.so\n")
    runtimes.make_visible(directory)
    first = os.environ["OCL_ICD_VENDORS"]
    runtimes.make_visible(directory)
    assert os.environ["OCL_ICD_VENDORS"] == first
    monkeypatch.delenv("OCL_ICD_VENDORS")
    (directory / "one.icd").unlink()
    runtimes.make_visible(directory)
    assert list(vendors()) == ["autotune-intel-cpu.icd"]


def test_many_at_once_agree(environment: Path) -> None:
    icds = {f"{index}.icd": "x" * 10_000 for index in range(5)}
    with ThreadPoolExecutor(8) as pool:
        directories = set(pool.map(lambda _: runtimes._vendors(icds), range(32)))
    (directory,) = directories
    assert {path.name: path.read_text() for path in directory.iterdir()} == icds


def test_a_runtime_that_does_not_load_is_named_with_the_remedy(environment: Path) -> None:
    assert "pip install intel-cmplr-lib-rt" in runtimes.loading_problem()


def test_no_runtime_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "pip_runtime", lambda: None)
    assert 'pip install "autotune-kernels[cpu]"' in runtimes.loading_problem()
