"""Facts about this machine go to a directory of this run, not to the user's cache."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Devices are listed while tests are collected, before any fixture could redirect the cache.
_cache = tempfile.mkdtemp(prefix="autotune-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = _cache
