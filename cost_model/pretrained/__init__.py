"""Cost models trained beforehand, from records of many workloads and devices, and the one shipped.

The shipped model is made, from the data that is kept for it, by

    autotune model train benchmarks/data -o cost_model/pretrained/shipped.ubj
"""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent / "shipped.ubj"
