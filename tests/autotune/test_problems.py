from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune import comparison, problems
from autotune.problems import Checker, Problem, Verdict, check, checker, problem, reference_for
from autotune.testing.addition import ADDITION, register
from search_spaces import threads


def of(expected: Any, allowed: Any) -> Problem:
    return Problem({}, {"c": np.asarray(expected, np.float64)}, {"c": np.asarray(allowed)})


def array(*shape: int) -> npt.NDArray[np.float64]:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def test_a_right_answer_has_no_error_and_tells_its_largest() -> None:
    verdict = check(of([1.0, 2.0], [0.1, 0.4]), {"c": np.array([1.05, 2.1], np.float32)})
    assert verdict.error == ""
    assert verdict.max_error_ratio == pytest.approx(0.5, rel=1e-5)


def test_exact_answers_need_no_tolerance() -> None:
    assert check(of([0.0, np.inf], 0.0), {"c": np.array([0.0, np.inf])}).error == ""


def test_a_scalar_output() -> None:
    assert check(of(3.0, 0.1), {"c": np.float32(3.0).reshape(())}).error == ""
    assert "[0]: 4, expected 3 ± 0.1" in check(of(3.0, 0.1), {"c": np.array(4.0)}).error


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_one_wrong_element_is_found_wherever_it_is(
    wrong: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_BLOCK_ELEMENTS", block)
    expected = array(5, 3, 4)
    for at in np.ndindex(expected.shape):
        actual = expected.copy()
        actual[at] = wrong
        error = check(of(expected, 1e-3), {"c": actual}).error
        assert error.startswith(f"c: 1 of 60 elements are off, the worst at {list(at)}: ")
        assert f"expected {expected[at]:.9g} ± 0.001" in error


def test_first_and_worst_are_told_apart() -> None:
    actual = array(4, 4)
    actual[1, 2] += 1
    actual[3, 0] += 5
    error = check(of(array(4, 4), 0.5), {"c": actual}).error
    assert "2 of 16 elements are off, the worst at [3, 0]: 17, expected 12 ± 0.5" in error
    assert error.endswith("the first at [1, 2]: 7, expected 6 ± 0.5")


def test_the_worst_is_relative_to_what_is_allowed() -> None:
    error = check(of([1.0, 1.0], [0.01, 1.0]), {"c": np.array([1.5, 5.0])}).error
    assert "the worst at [0]" in error


def test_a_missing_or_misshapen_output_is_an_error() -> None:
    assert "shape None, expected (2,)" in check(of([1.0, 2.0], 1.0), {}).error
    assert "shape (3,), expected (2,)" in check(of([1.0, 2.0], 1.0), {"c": np.ones(3)}).error


def test_many_blocks_in_threads_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    expected, actual = array(64, 33), array(64, 33) + random.uniform(-1.2, 1.2, (64, 33))
    whole = check(of(expected, 1.0), {"c": actual})
    assert "elements are off" in whole.error
    monkeypatch.setattr(comparison, "_BLOCK_ELEMENTS", 100)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    assert check(of(expected, 1.0), {"c": actual}) == whole


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """The verdicts of comparisons with a reference."""
    verdicts: list[Verdict] = []

    def noted(problem: Problem, outputs: Any) -> Verdict:
        verdicts.append(check(problem, outputs))
        return verdicts[-1]

    monkeypatch.setattr(problems, "check", noted)
    return verdicts


def test_bytes_equal_to_right_ones_are_right_without_a_comparison(
    compared: list[Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_EQUAL_ELEMENTS", 5)
    checking = Checker(of(array(4, 4), 0.5))
    first = checking.check({"c": array(4, 4) + 0.25})
    assert first == Verdict("", 0.5)
    assert checking.check({"c": array(4, 4) + 0.25}) == first
    assert len(compared) == 1


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_other_bytes_are_compared_wherever_they_differ(
    compared: list[Verdict], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_BLOCK_ELEMENTS", block)
    checking = Checker(of(array(4, 4), 0.5))
    assert checking.check({"c": array(4, 4)}).error == ""
    for at in np.ndindex(4, 4):
        wrong = array(4, 4)
        wrong[at] = -1.0
        assert "1 of 16 elements are off" in checking.check({"c": wrong}).error
    assert len(compared) == 17
    assert checking.check({"c": array(4, 4)}).error == "", "wrong ones do not displace right ones"
    assert len(compared) == 17


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"c": np.zeros((2, 2))},
        {"c": np.zeros(4, np.float32)},
        {"c": np.array([0.0, -0.0, 0.0, 0.0])},
        {"c": np.zeros((4, 2))[:, 0]},
    ],
    ids=("missing", "misshapen", "another type", "another zero", "apart in memory"),
)
def test_only_the_same_bytes_are_taken_for_equal(
    compared: list[Verdict], outputs: dict[str, Any]
) -> None:
    checking = Checker(of(np.zeros(4), 0.5))
    checking.check({"c": np.zeros(4)})
    assert checking.check(outputs) == check(checking.problem, outputs)
    assert len(compared) == 2


def test_problems_are_kept_and_found_by_their_arrays() -> None:
    register()
    workload = ADDITION.workload(n=64)
    first = problem(workload, 7)
    assert problem(workload, 7) is first
    assert checker(workload, 7).problem is first
    assert reference_for(first.inputs) is first.reference
    assert reference_for({name: values.copy() for name, values in first.inputs.items()}) is None
    for seed in range(100, 110):
        assert problem(workload, seed) is not first
    assert reference_for(first.inputs) is None, "references are large: old ones must go"
