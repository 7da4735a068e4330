"""When a session begins with the shipped model's choices, and what it says where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_tunings import target

from autotune.api import search_space
from autotune.prior import primed
from autotune.strategies.base import SearchStrategy
from autotune.strategies.guided import Guided
from cost_model.pretrained import SHIPPED
from cost_model.pretrained.header import Judged
from cost_model.pretrained.model import PretrainedModel
from records.target import Target
from records.workload import Workload
from search_spaces import registry

MODEL = PretrainedModel.load(SHIPPED)


def workload() -> Workload:
    return registry.op("matmul").workload(m=640, n=640, k=640)


def known_target(**changes: str) -> Target:
    """A device that the shipped model was trained on."""
    backend, device, arch = MODEL.header.targets[0]
    return target(**{"backend": backend, "device": device, "arch": arch, **changes})


def begun(
    path: Path, device: Target, asked_of: Workload | None = None
) -> tuple[SearchStrategy, SearchStrategy, list[str]]:
    """The strategy alone, what becomes of it, and the notices."""
    notices: list[str] = []
    space = search_space(workload(), known_target())
    plain = Guided(space, 0)
    made = primed(plain, asked_of or workload(), device, space, 0, notices.append, path=path)
    return plain, made, notices


@pytest.fixture
def helping(tmp_path: Path) -> Path:
    """The shipped trees, judged to help on other workloads."""
    return saved(tmp_path, Judged(9, 0.9, 0.01, 0.2))


def saved(folder: Path, judged: Judged) -> Path:
    path = folder / "model.ubj"
    header = replace(MODEL.header, judged={"matmul": {"workload": judged}})
    model = PretrainedModel.load(SHIPPED)
    model.header = header
    model.save(path)
    return path


def test_the_first_batch_has_the_fastest_expected(helping: Path) -> None:
    plain, made, notices = begun(helping, known_target())
    assert made is not plain
    assert len(notices) == 1 and "the pretrained model expects to be fast" in notices[0]
    batch = list(made.ask(12))
    score = MODEL.predict(workload(), known_target(), batch).score
    assert len(batch) == 8 and score[:4].min() > np.median(score[4:])


def test_a_model_that_was_no_better_than_guessing_is_not_used(tmp_path: Path) -> None:
    path = saved(tmp_path, Judged(9, 0.5, 0.2, 0.2))
    plain, made, notices = begun(path, known_target())
    assert made is plain
    assert len(notices) == 1 and "hardly better than random" in notices[0]


def test_a_device_or_an_op_that_it_was_not_judged_on(helping: Path) -> None:
    plain, made, notices = begun(helping, known_target(device="Another"))
    assert made is plain and "not judged on a device" in notices[0]
    attention = registry.op("attention").workload(heads=2, q_len=64, head_dim=64)
    plain, made, notices = begun(helping, known_target(), attention)
    assert made is plain and "knows nothing of attention" in notices[0]


def test_a_type_that_it_was_not_trained_on(helping: Path) -> None:
    half = registry.op("matmul").workload(m=640, n=640, k=640, dtype="float16")
    plain, made, notices = begun(helping, known_target(), half)
    assert made is plain
    assert notices == [
        "the pretrained model is not used: it was trained on no matmul with dtype=float16"
    ]


def test_another_version_of_a_template(helping: Path) -> None:
    line, _, trees = helping.read_bytes().partition(b"\n")
    header = json.loads(line)
    header["templates"]["matmul"]["cpu"] += 1
    helping.write_bytes(json.dumps(header).encode() + b"\n" + trees)
    plain, made, notices = begun(helping, known_target())
    assert made is plain and "template cpu of matmul is at version" in notices[0]


@pytest.mark.parametrize("data", [b"", b"nonsense", SHIPPED.read_bytes()[:-100]])
def test_a_damaged_file_costs_a_notice(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.ubj"
    path.write_bytes(data)
    plain, made, notices = begun(path, known_target())
    assert made is plain and "the pretrained model is not used: " in notices[0]


def test_json_inside_predicts_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    MODEL.save(path)
    schedules = search_space(workload(), known_target()).sample(20, np.random.default_rng(0))
    one, other = (
        model.predict(workload(), known_target(), schedules).score
        for model in (MODEL, PretrainedModel.load(path))
    )
    assert one.tolist() == other.tolist()
