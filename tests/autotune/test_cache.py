from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from autotune import cache


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_root", cache._root.__wrapped__)


def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    directory = cache.cache_directory("peaks", "more")
    assert directory == tmp_path / "xdg" / "autotune-kernels" / "peaks" / "more"
    assert directory.is_dir()


def test_without_the_variable_it_lies_in_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / ".cache" / "autotune-kernels"


def test_a_home_that_cannot_be_written_gives_a_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    directory = cache.cache_directory("peaks")
    assert directory == tmp_path / f"autotune-kernels-{os.getuid()}" / "peaks"
    assert directory.parent.stat().st_mode & 0o077 == 0


def test_a_temporary_directory_that_is_a_link_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"autotune-kernels-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache.cache_directory("peaks")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_is_replaced_whole_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "fact"
    cache.write_atomically(path, b"old")
    cache.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "fact"
    cache.write_atomically(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        cache.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
