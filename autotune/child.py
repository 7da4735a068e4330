"""One question asked in a process of its own, because a driver may hang or crash on it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from records.errors import DeviceError

_ROOT = Path(__file__).resolve().parent.parent


def ask(function: str, *arguments: Any, timeout_s: float) -> Any:
    """`"package.module:function"` called with JSON arguments in a child process; its JSON result.

    Raises `DeviceError` where the child raises, crashes or is killed after `timeout_s` seconds.
    """
    command = [sys.executable, "-m", "autotune.child", function]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            command,
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"gave no answer within {timeout_s:g} s") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise DeviceError(_reason(done.returncode, done.stderr))
    return json.loads(lines[-1])


_OURS = f"{DeviceError.__module__}.{DeviceError.__qualname__}: "  # told by the words alone


def _reason(returncode: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    said = lines[-1].removeprefix(_OURS) if lines else ""
    last = f": {said}" if said else ""
    if returncode < 0:
        return f"crashed with {signal.Signals(-returncode).name}{last}"
    return f"failed{last or f' with exit status {returncode}'}"


def main() -> None:
    """The child's side: arguments on stdin, the result as the last line of stdout."""
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    print("\n" + json.dumps(function(*json.load(sys.stdin))))
    sys.stdout.flush()
    os._exit(0)  # a driver's own clean-up may crash, and must not spoil the answer


if __name__ == "__main__":
    main()
