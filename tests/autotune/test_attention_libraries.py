"""Rivals of attention: right wherever PyTorch runs, and honest about what they cannot do."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autotune.device_names import resolve
from autotune.libraries import libraries, library
from autotune.libraries.attention_cuda import CUDNN, EFFICIENT, FLASH, SdpaOnDevice
from autotune.libraries.attention_flex import flex_call
from autotune.libraries.attention_host import NumpyAttention, SdpaAttention
from autotune.libraries.attention_varlen import VarlenAttention, varlen_call
from autotune.libraries.base import Library
from autotune.libraries.cublas import tensors_of
from autotune.libraries.sdpa import Way, additive_mask, ways
from autotune.libraries.torch_device import TorchExecution, to_array
from autotune.problems import check, problem
from autotune.testing import devices
from autotune.testing.library import LibraryConformance
from records import Target, Workload
from search_spaces.attention import attention
from search_spaces.attention.parameters import Parameters
from search_spaces.matmul import matmul

CPU = Target.of("opencl", "a CPU", "x86-64", {"kind": "cpu"})
GPU = Target.of("cuda", "an NVIDIA GPU", "sm_90a", {"kind": "gpu"})
HAS_TORCH = importlib.util.find_spec("torch") is not None
CUDA_DEVICES = devices.names("cuda") if HAS_TORCH else []
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")

MASKS: dict[str, dict[str, Any]] = {
    "plain": dict(),
    "causal": dict(causal=True),
    "causal, more keys": dict(causal=True, kv_len=40),
    "grouped": dict(kv_heads=2),
    "grouped, causal": dict(kv_heads=1, causal=True),
    "window": dict(window=5, kv_len=30),
    "causal window": dict(window=5, causal=True, kv_heads=2),
    "wide window": dict(window=1000),
    "wide window, causal": dict(window=24, causal=True),
    "alibi": dict(bias="alibi", causal=True),
    "bias": dict(bias="head", kv_len=31),
    "bias of sequences": dict(bias="full", kv_heads=2, causal=True),
    "scale": dict(scale=0.3, v_dim=16),
    "full lengths": dict(kv_lens=(24, 24)),
    "decode": dict(q_len=1, kv_len=50, kv_heads=2, causal=True),
}


def shape(**more: Any) -> Workload:
    usual = dict(batch=2, heads=4, q_len=24, head_dim=32)
    return attention(**{**usual, **more})


SHAPES = [shape(layout=layout, **mask) for mask in MASKS.values() for layout in ("bhsd", "bshd")]


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Of PyTorch and Triton these alone count as installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: (
            (object() if name in names else None)
            if name in ("torch", "triton")
            else found(name, *more)
        ),
    )


# Without PyTorch


class TestNumpyAttention(LibraryConformance):
    @pytest.fixture(autouse=True)
    def without_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        installed(monkeypatch)

    @pytest.fixture
    def library(self) -> NumpyAttention:
        return NumpyAttention()

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return SHAPES

    @pytest.fixture
    def target(self) -> Target:
        return CPU


def names(workload: Workload, target: Target) -> list[str]:
    return [library.name for library in libraries(workload, target)]


def test_on_the_host_pytorch_is_the_rival_and_numpy_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "torch")
    assert names(shape(), CPU) == ["sdpa"]
    assert names(shape(dtype="bfloat16"), CPU) == ["sdpa"]
    installed(monkeypatch)
    assert names(shape(), CPU) == ["numpy_attention"]
    assert names(shape(dtype="bfloat16"), CPU) == []
    assert "pip install torch" in library("sdpa").rejects(shape(), CPU)
    assert names(matmul(m=8, n=8, k=8), CPU) == ["numpy"]


EVERY = ["sdpa_cudnn", "sdpa_flash", "sdpa_efficient", "varlen_flash"]


@pytest.mark.parametrize(
    ("params", "rivals"),
    [
        (dict(), EVERY),
        (dict(causal=True, layout="bshd"), EVERY),
        (dict(causal=True, kv_len=30), EVERY),
        (dict(kv_heads=2), ["sdpa_cudnn", "sdpa_flash", "varlen_flash"]),
        (dict(kv_heads=2, q_len=1, kv_len=64), EVERY),
        (dict(window=5, causal=True), ["sdpa_cudnn", "sdpa_efficient", "varlen_flash"]),
        (dict(v_dim=16), ["sdpa_cudnn", "sdpa_efficient"]),
        (dict(head_dim=320), ["sdpa_cudnn", "sdpa_efficient"]),
        (dict(bias="head"), ["sdpa_cudnn", "sdpa_efficient"]),
        (dict(bias="alibi"), []),
        (dict(softcap=30.0), []),
        (dict(lse=True), []),
        (dict(kv_dtype="float8_e4m3"), []),
        (dict(dtype="float32"), ["sdpa_efficient"]),
        (dict(dtype="float32", bias="alibi"), ["sdpa_efficient"]),
        (dict(batch=None, q_len=None, q_lens=(3, 5), layout="bshd"), ["varlen_flash"]),
        (dict(kv_lens=(5, 24)), ["varlen_flash"]),
        (dict(page_size=16, q_len=1, kv_len=100), ["varlen_flash"]),
        (dict(causal=True, kv_len=8), ["varlen_flash"]),
    ],
    ids=str,
)
def test_rivals_on_nvidia_gpus(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], rivals: list[str]
) -> None:
    installed(monkeypatch, "torch", "triton")
    workload = shape(**{"dtype": "bfloat16", **params})
    assert names(workload, GPU) == rivals
    assert "flex" not in rivals


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("flex", dict(dtype="bfloat16", softcap=30.0, bias="alibi", window=9), ""),
        ("flex", dict(dtype="float32"), "only float16 and bfloat16"),
        ("flex", dict(dtype="bfloat16", kv_lens=(5, 24)), "sequences of one length"),
        ("flex", dict(dtype="bfloat16", kv_len=8, causal=True), "see no key"),
        ("sdpa_flash", dict(dtype="bfloat16", window=3), "no mask but a causal one"),
        ("sdpa_flash", dict(), "FlashAttention is for 16 bits"),
        ("sdpa_cudnn", dict(), "cuDNN is for 16 bits"),
        ("sdpa_efficient", dict(kv_heads=2), "as many heads of K as of Q"),
        ("sdpa_efficient", dict(softcap=3.0), "no softcap"),
        ("sdpa_efficient", dict(kv_lens=(5, 24)), "sequences of one length"),
        ("sdpa_efficient", dict(causal=True, kv_len=8), "queries see no key"),
        ("sdpa_efficient", dict(q_len=2**17, kv_len=2**17, window=9), "its mask would have"),
        ("varlen_flash", dict(dtype="float16", bias="alibi"), "no softcap and no bias"),
        ("varlen_flash", dict(), "16 bits"),
    ],
)
def test_what_a_rival_cannot_do_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, params: dict[str, Any], reason: str
) -> None:
    installed(monkeypatch, "torch", "triton")
    found = library(name).rejects(shape(**params), GPU)
    assert reason in found and bool(reason) == bool(found)


@pytest.mark.parametrize("rival", [*EVERY, "flex", "sdpa", "numpy_attention"])
def test_rivals_are_of_their_op_and_of_their_device(
    monkeypatch: pytest.MonkeyPatch, rival: str
) -> None:
    installed(monkeypatch, "torch", "triton")
    assert library(rival).op == "attention"
    elsewhere = GPU if rival in ("sdpa", "numpy_attention") else CPU
    assert library(rival).rejects(shape(dtype="bfloat16"), elsewhere)


# With PyTorch, on the CPU


class TestSdpaOnTheHost(LibraryConformance):
    pytestmark = needs_torch

    @pytest.fixture
    def library(self) -> SdpaAttention:
        return SdpaAttention()

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        short = [shape(dtype=dtype, **MASKS["grouped, causal"]) for dtype in SHORT]
        return [*SHAPES[::7], *short]

    @pytest.fixture
    def target(self) -> Target:
        return CPU


SHORT = ("float16", "bfloat16")


def result_of(torch: Any, workload: Workload, way: Way) -> Any:
    out = way.arranged(way.call()).contiguous()
    return to_array(torch, Parameters.of(workload).dtype, out)


@needs_torch
@pytest.mark.parametrize("workload", SHAPES, ids=str)
def test_every_way_of_calling_is_right(torch: Any, workload: Workload) -> None:
    facts = problem(workload, seed=0)
    tensors = tensors_of(torch, workload, facts.inputs, "cpu")
    for way in ways(torch, Parameters.of(workload), tensors):
        assert check(facts, {"out": result_of(torch, workload, way)}).error == "", way.name


@needs_torch
@pytest.mark.parametrize("rival", [CUDNN, FLASH, EFFICIENT], ids=lambda rival: rival.name)
@pytest.mark.parametrize("workload", SHAPES, ids=str)
def test_the_one_way_of_each_backend_is_right(
    torch: Any, workload: Workload, rival: SdpaOnDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = attention(**{**workload.values, "dtype": "bfloat16"})
    workload = workload if rival is EFFICIENT else short
    installed(monkeypatch, "torch")
    if rival.rejects(workload, GPU):
        return
    facts = problem(workload, seed=0)
    way = rival.way(
        torch, Parameters.of(workload), tensors_of(torch, workload, facts.inputs, "cpu")
    )
    assert check(facts, {"out": result_of(torch, workload, way)}).error == ""


@needs_torch
def test_a_backend_runs_alone(torch: Any) -> None:
    from torch.nn.attention import SDPBackend

    asked = torch.nn.attention._cur_sdpa_kernel_backends
    calls: list[Any] = []
    way = Way("", lambda: calls.append(asked()), lambda out: out)
    CUDNN.alone(torch, way)()
    FLASH.alone(torch, way)()
    assert calls == [[SDPBackend.CUDNN_ATTENTION], [SDPBackend.FLASH_ATTENTION]]
    assert len(asked()) > 1


@needs_torch
def test_no_mask_is_written_where_none_is_needed(torch: Any) -> None:
    for name in ("plain", "causal", "wide window", "wide window, causal", "decode"):
        workload = shape(**MASKS[name])
        tensors = tensors_of(torch, workload, problem(workload, seed=0).inputs, "cpu")
        assert additive_mask(torch, Parameters.of(workload), tensors) is None
        *_, last = ways(torch, Parameters.of(workload), tensors)
        assert last.name in ("plain", "is_causal", "folded")


RAGGED: dict[str, dict[str, Any]] = {
    "packed": dict(q_lens=(5, 1, 8), layout="bshd", causal=True),
    "packed, other keys": dict(q_lens=(5, 0, 3), kv_lens=(9, 12, 3), layout="bshd", window=4),
    "lengths": dict(q_len=2, kv_lens=(11, 3, 7), kv_len=12, causal=True),
    "pages": dict(q_len=2, kv_lens=(13, 4, 8), page_size=4, kv_heads=2),
    "pages, packed": dict(q_lens=(3, 1), kv_lens=(9, 6), page_size=4, layout="bshd"),
}


@needs_torch
@pytest.mark.parametrize(
    "params",
    [
        *(MASKS[name] for name in ("plain", "causal, more keys", "window", "causal window")),
        dict(layout="bshd", kv_heads=1, causal=True),
        dict(causal=True, kv_len=8),
        *(dict(batch=None, **{"q_len": None, **ragged}) for ragged in RAGGED.values()),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", SHORT)
def test_packed_rows_are_the_workloads_own(torch: Any, params: dict[str, Any], dtype: str) -> None:
    workload = shape(**{**params, "dtype": dtype})
    assert library("varlen_flash").op == workload.op
    facts = problem(workload, seed=0)
    given = Parameters.of(workload)
    tensors = tensors_of(torch, workload, facts.inputs, "cpu")
    out = varlen_call(torch, varlen_as_documented, given, tensors)()
    arranged = VarlenAttention.arranged(given, out)
    assert check(facts, {"out": to_array(torch, dtype, arranged)}).error == ""


def varlen_as_documented(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Any = None,
    block_table: Any = None,
) -> Any:
    """What PyTorch's page says of `varlen_attn`, one sequence and head at a time."""
    import torch

    assert query.is_contiguous() and key.is_contiguous() and value.is_contiguous()
    before, after = (math.inf if reach < 0 else reach for reach in window_size)
    out = torch.zeros((*query.shape[:-1], value.shape[-1]))
    for batch in range(len(cu_seq_q) - 1):
        rows = slice(int(cu_seq_q[batch]), int(cu_seq_q[batch + 1]))
        if block_table is None:
            keys = slice(int(cu_seq_k[batch]), int(cu_seq_k[batch + 1]))
            k, v = key[keys].float(), value[keys].float()
        else:
            pages = block_table[batch].long()
            k, v = key[pages].flatten(0, 1).float(), value[pages].flatten(0, 1).float()
        if seqused_k is not None:
            k, v = k[: seqused_k[batch]], v[: seqused_k[batch]]
        q = query[rows].float()
        assert len(q) <= max_q and len(k) <= max_k
        shared = q.shape[1] // k.shape[1]
        assert enable_gqa or shared == 1
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        ahead = torch.arange(len(k)) - torch.arange(len(q))[:, None] - (len(k) - len(q))
        scores[:, (ahead > after) | (-ahead > before)] = -math.inf
        weights = torch.softmax(scores, -1).nan_to_num(0.0)
        out[rows] = torch.einsum("hqk,khd->qhd", weights, v)
    return out.to(query.dtype)


@needs_torch
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    "params",
    [*MASKS.values(), dict(softcap=4.0, bias="alibi", window=6, causal=True, layout="bshd")],
    ids=str,
)
def test_scores_and_masks_of_flex_are_the_workloads_own(torch: Any, params: dict[str, Any]) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    workload = shape(**params)
    facts, given = problem(workload, seed=0), Parameters.of(workload)
    tensors = tensors_of(torch, workload, facts.inputs, "cpu")
    out = flex_call(torch, flex_attention, given, tensors)()
    out = out if given.layout == "bhsd" else out.transpose(1, 2)
    assert check(facts, {"out": to_array(torch, given.dtype, out.contiguous())}).error == ""


def test_results_are_arranged_once_nothing_is_timed() -> None:
    steps: list[str] = []

    def arranged(result: Any) -> Any:
        steps.append("arranged")
        return result

    event = SimpleNamespace(
        record=lambda: steps.append("event"),
        synchronize=lambda: None,
        elapsed_time=lambda end: 1.0,
    )
    cuda = SimpleNamespace(
        Event=lambda enable_timing: event, get_device_properties=lambda device: SimpleNamespace()
    )
    tensor = SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: np.ones((2, 3), np.float32)))
    execution = TorchExecution(
        SimpleNamespace(cuda=cuda), "cuda:0", lambda: tensor, "float32", {}, name="out",
        arranged=arranged,
    )  # fmt: skip
    execution.launch()
    assert steps == ["event", "event"]
    assert execution.outputs()["out"].shape == (2, 3)
    assert steps == ["event", "event", "arranged"]


# With PyTorch on a GPU


@pytest.mark.parametrize("device", CUDA_DEVICES or [None])
class TestOnDevice(LibraryConformance):
    @pytest.fixture(params=EVERY)
    def library(self, request: pytest.FixtureRequest, device: str | None) -> Library:
        if device is None:
            pytest.skip("no CUDA device with PyTorch")
        return library(request.param)

    @pytest.fixture
    def target(self, device: str) -> Target:
        found = resolve(device).target
        assert found is not None
        return found

    @pytest.fixture
    def workloads(self, library: Library, target: Target) -> Sequence[Workload]:
        every: list[Callable[[str], Workload]] = [
            lambda dtype, mask=mask: shape(head_dim=64, dtype=dtype, **mask)  # type: ignore[misc]
            for mask in (MASKS["plain"], MASKS["causal"], dict(layout="bshd"))
        ]
        made = [make(dtype) for make in every for dtype in SHORT]
        return [workload for workload in made if not library.rejects(workload, target)]
