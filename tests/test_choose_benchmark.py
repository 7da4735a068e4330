"""The benchmark of choices for unseen shapes: what it reads, and that it judges fairly."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from records.errors import InvalidInputError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COLUMNS = "m,k,n,mat1_dtype,mat2_dtype,using_tf32,choice,feedback"
TILES = ((16, 32, 2), (32, 64, 4), (64, 64, 4), (128, 128, 8))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def choice(rows: int, columns: int, warps: int) -> str:
    return f"type=triton_BLOCK-M={rows}_BLOCK-K=32_BLOCK-N={columns}_numstages=3_numwarps={warps}"


def written(folder: Path, lines: list[str], numbers: tuple[str, ...] = ("m", "k", "n")) -> Path:
    facts = {"name": "mm", "shared_memory": 166912, "numerical_features": numbers}
    path = folder / "times.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a100/mm.txt", "\n".join([json.dumps(facts), COLUMNS, *lines]))
    return path


@pytest.fixture
def times(tmp_path: Path) -> Path:
    """Tiles are best that are an eighth of the rows; the library loses a fifth; one tile fails."""
    lines = []
    for m in (128, 256, 512, 1024):
        for n in range(256, 256 + 24 * 64, 64):
            shape = f"{m},256,{n},torch.float16,torch.float16,not_float_32"
            lines.append(f"{shape},extern_mm,1.25")
            for rows, columns, warps in TILES:
                slowness = max(8 * rows / m, m / (8 * rows)) ** 0.5
                lines.append(f"{shape},{choice(rows, columns, warps)},{slowness}")
            lines.append(f"{shape},{choice(256, 256, 8)},inf")
    return written(tmp_path, lines)


def test_shapes_as_they_were_measured(times: Path) -> None:
    [shapes] = module("choose_data").read([times]).values()
    assert len(shapes) == 4 * 24 and {len(shape.schedules) for shape in shapes} == {6}
    first = shapes[0]
    assert first.workload["m"] == 128 and first.workload["dtype"] == "float16"
    assert first.shares[0] == pytest.approx(0.8) and first.shares[-1] == 0.0
    assert len(list(first.records())) == 6 and not list(first.records())[-1].measurement.is_ok
    assert "extern_mm" not in first.without("extern_mm").choices


def test_repeats_count_as_their_median(tmp_path: Path) -> None:
    shape = "16,16,16,torch.float32,torch.float32,not_float_32"
    tile = choice(16, 32, 2)
    path = written(
        tmp_path, [*(f"{shape},{tile},{time}" for time in (1, 9, 2)), f"{shape},extern_mm,4"]
    )
    [[only]] = module("choose_data").read([path]).values()
    assert only.times_s == pytest.approx((0.002, 0.004))


def test_the_model_chooses_better_than_one_schedule_for_all(times: Path) -> None:
    choose = module("choose")
    [shapes] = module("choose_data").read([times]).values()
    found = choose.compared(shapes)
    lost = {name: sum(each.first) / len(shapes) for name, each in found.items()}
    assert lost["PyTorch's default"] == pytest.approx(0.2)
    assert lost["cost model"] < 0.02 < lost["best single"] < lost["at random"]
    for each in found.values():
        assert len(each.first) == len(shapes)
        assert all(third <= first for first, third in zip(each.first, each.third, strict=True))


def test_tables_on_stdout_and_in_a_file(times: Path, tmp_path: Path) -> None:
    command = module("choose").main
    out = tmp_path / "choose.md"
    done = CliRunner().invoke(command, [str(times), "--most", "40", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.count("| cost model |") == 2
    assert "**mm, Triton's schedules alone: 40 shapes**" in out.read_text()


def test_a_file_of_another_form(tmp_path: Path) -> None:
    read = module("choose_data").read
    path = tmp_path / "text.zip"
    path.write_text("no archive")
    with pytest.raises(InvalidInputError, match="no zip archive"):
        read([path])
    with pytest.raises(InvalidInputError, match="not the form of PyTorch's times"):
        read([written(tmp_path, ["x,16,16,torch.float32,torch.float32,no,extern_mm,1"])])
