"""The constructor of attention workloads: every parameter checked, defaults filled in."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.attention.parameters import BIASES, DTYPES, KV_DTYPES, LAYOUTS, Parameters

MAX_LENGTH = 2**24  # of a sequence: positions are exact in float32, as slopes of ALiBi need
MAX_HEAD_DIM = 512
MAX_COUNT = 2**16 - 1  # sequences and heads: an axis of a CUDA grid
MAX_ROWS = 2**31 - 1  # of packed sequences together, and pages: offsets and tables are int32
MAX_ELEMENTS = 2**40  # of any array; terabytes, more than any device holds


def attention(
    *,
    batch: int | None = None,
    heads: int,
    kv_heads: int | None = None,
    q_len: int | None = None,
    kv_len: int | None = None,
    head_dim: int,
    v_dim: int | None = None,
    dtype: str = "float32",
    kv_dtype: str | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    bias: str = "none",
    layout: str = "bhsd",
    q_lens: Sequence[int] = (),
    kv_lens: Sequence[int] = (),
    page_size: int | None = None,
    lse: bool = False,
) -> Workload:
    """out = softmax(scale Q Kᵀ) V for every sequence of a batch and every head.

    `q` is batch × `heads` × `q_len` × `head_dim`, `k` batch × `kv_heads` × `kv_len` × `head_dim`,
    `v` the same with `v_dim` (by default `head_dim`), `out` as `q` with `v_dim`. `kv_heads`
    divides `heads`: that many neighbours share a head of K and V. `kv_len` is `q_len` by default.
    `layout`: `bhsd` as said, or `bshd`, heads after rows.
    `dtype`: float32, float16 or bfloat16; sums are float32. `kv_dtype`: float8_e4m3 or float8_e5m2
    for K and V beside 16 bits; two float32 scalars `k_scale` and `v_scale` multiply them.
    `causal`: a query sees the keys up to its own position; the last query stands at the last key.
    `window`: of these the last `window` ones alone; without `causal` as many on either side, so
    that |position - key| < `window`. A query that sees no key gives zeros.
    `scale`: 1 / √head_dim by default. `softcap`: scores become cap · tanh(score / cap).
    `bias`, added after that: `alibi`: -`alibi_slopes`[head] · |position - key|, of float32
    `alibi_slopes`; `head`: `bias` of heads × q_len × kv_len; `full`: one for each sequence too;
    both of `dtype`.
    `kv_lens`: how many keys each sequence has: an int32 input `kv_lengths`; K and V have room for
    `kv_len`, the largest of them by default; what lies behind has no influence, NaN even.
    `q_lens`: queries, packed: rows of all sequences follow one another, as rows × heads × dim
    (layout `bshd`), and so do keys, by int32 inputs `q_offsets` and `kv_offsets`, each one longer
    than the batch. `kv_lens` are the same by default.
    `page_size`: K and V lie in pages of that many rows, an axis in place of the batch's; the
    int32 input `block_table`, batch × pages of the longest sequence, names each one's pages, and
    anything behind them. `kv_lengths` tells how many keys there are.
    `lse`: a second output, float32 of batch × heads × q_len (packed: heads × rows), the natural
    logarithm of the sum of exponentials; minus infinity where no key is seen.
    The kernel of a workload with lengths serves every batch whose lengths are no longer than the
    longest, and whose arrays have the same shapes.
    Raises `InvalidInputError` for anything else.
    """
    q_lens, kv_lens = _lengths("q_lens", q_lens), _lengths("kv_lens", kv_lens)
    kv_lens = kv_lens or q_lens
    sizes = _sizes(batch, q_len, kv_len, q_lens, kv_lens)
    heads = _whole("heads", heads, MAX_COUNT)
    head_dim = _whole("head_dim", head_dim, MAX_HEAD_DIM)
    _one_of("dtype", dtype, DTYPES)
    _one_of("bias", bias, BIASES)
    _one_of("layout", layout, LAYOUTS)
    parameters = Parameters(
        **sizes,
        heads=heads,
        kv_heads=heads if kv_heads is None else _whole("kv_heads", kv_heads, heads),
        head_dim=head_dim,
        v_dim=head_dim if v_dim is None else _whole("v_dim", v_dim, MAX_HEAD_DIM),
        dtype=dtype,
        kv_dtype=_kv_dtype(dtype, kv_dtype),
        scale=1.0 / math.sqrt(head_dim) if scale is None else _positive("scale", scale),
        causal=_flag("causal", causal),
        window=0 if window is None else _whole("window", window, MAX_LENGTH),
        softcap=0.0 if softcap is None else _positive("softcap", softcap),
        bias=bias,
        layout=layout,
        q_lens=q_lens,
        kv_lens=_kv_lens(kv_lens, sizes, page_size),
        page_size=0 if page_size is None else _whole("page_size", page_size, MAX_LENGTH),
        lse=_flag("lse", lse),
    )
    _check_together(parameters)
    _check_elements(parameters)
    return Workload.of("attention", parameters.canonical())


def _sizes(
    batch: int | None,
    q_len: int | None,
    kv_len: int | None,
    q_lens: tuple[int, ...],
    kv_lens: tuple[int, ...],
) -> dict[str, int]:
    """`batch`, `q_len` and `kv_len`, from the lists where there are any."""
    if q_lens and len(q_lens) != len(kv_lens):
        raise InvalidInputError(
            f"attention: q_lens and kv_lens must be as many, got {len(q_lens)} and "
            f"{len(kv_lens)}; give one of each a sequence"
        )
    count = len(kv_lens) or 1
    if batch is not None and kv_lens and batch != count:
        raise InvalidInputError(
            f"attention: batch must be the number of lengths, {count}, got {batch}; leave it out"
        )
    longest_q = max(q_lens, default=0)
    if q_lens and q_len not in (None, longest_q):
        raise InvalidInputError(
            f"attention: q_len must be the longest of q_lens, {longest_q}, got {q_len}; "
            "leave it out"
        )
    queries = _whole("q_len", longest_q if q_lens else q_len, MAX_LENGTH)
    longest_kv = max(kv_lens, default=queries)
    keys = _whole("kv_len", longest_kv if kv_len is None else kv_len, MAX_LENGTH)
    if kv_lens and keys < longest_kv:
        raise InvalidInputError(
            f"attention: kv_len must be at least the longest of kv_lens, {longest_kv}, got {keys}; "
            "leave it out"
        )
    return {
        "batch": _whole("batch", count if batch is None else batch, MAX_COUNT),
        "q_len": queries,
        "kv_len": keys,
    }


def _kv_lens(
    kv_lens: tuple[int, ...], sizes: dict[str, int], page_size: int | None
) -> tuple[int, ...]:
    """Pages always come with lengths: by default every sequence is full."""
    if page_size is None or kv_lens:
        return kv_lens
    return (sizes["kv_len"],) * sizes["batch"]


def _lengths(name: str, lengths: object) -> tuple[int, ...]:
    if isinstance(lengths, str) or not isinstance(lengths, Sequence):
        raise InvalidInputError(
            f"attention: {name} must be lengths, got {lengths!r}; pass a list of ints"
        )
    if len(lengths) > MAX_COUNT:
        raise InvalidInputError(
            f"attention: at most {MAX_COUNT} sequences, got {len(lengths)} {name}; "
            "cut them into several calls"
        )
    return tuple(_whole(f"every one of {name}", each, MAX_LENGTH, least=0) for each in lengths)


def _whole(name: str, value: object, most: int, least: int = 1) -> int:
    need = f"attention: {name} must be a whole number from {least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{need}, got {value!r}; pass an int") from None
    if isinstance(value, bool) or not least <= number <= most:
        raise InvalidInputError(f"{need}, got {value!r}")
    return number


def _positive(name: str, value: object) -> float:
    need = f"attention: {name} must be a positive number"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{need}, got {value!r}; pass a float, or leave it out")
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"{need}, got {value!r}; leave it out for none")
    return float(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"attention: {name} must be true or false, got {value!r}")
    return value


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidInputError(
            f"attention: {name} must be {' or '.join(allowed)}, got {value!r}; choose one of these"
        )


def _kv_dtype(dtype: str, kv_dtype: str | None) -> str:
    if kv_dtype is None or kv_dtype == dtype:
        return dtype
    _one_of("kv_dtype", kv_dtype, (dtype, *KV_DTYPES))
    if dtype == "float32":
        raise InvalidInputError(
            f"attention: kv_dtype {kv_dtype} needs Q in float16 or bfloat16, got {dtype}; "
            "choose one of these"
        )
    return kv_dtype


def _check_together(given: Parameters) -> None:
    """What single parameters do not show."""
    if given.heads % given.kv_heads:
        raise InvalidInputError(
            f"attention: kv_heads must divide heads={given.heads}, got {given.kv_heads}; "
            "choose a divisor, 1 for multi-query"
        )
    if given.packed and given.layout != "bshd":
        raise InvalidInputError(
            f"attention: packed queries lie as rows x heads x dim, got layout {given.layout}; "
            "choose layout bshd"
        )
    if given.bias in ("head", "full") and (given.q_lens or given.kv_lens):
        raise InvalidInputError(
            f"attention: bias {given.bias} is for sequences of one length, got lengths; "
            "use bias alibi, or pad"
        )


def _check_elements(given: Parameters) -> None:
    shapes: dict[str, Any] = {
        "q": given.q_shape,
        "k": given.k_shape,
        "v": given.v_shape,
        "bias": given.bias_shape,
    }
    rows = given.pages if given.page_size else max(given.total_q, sum(given.kv_lens))
    if (given.packed or given.page_size) and rows > MAX_ROWS:
        raise InvalidInputError(
            f"attention: at most {MAX_ROWS} rows of all sequences, or pages, got {rows}; "
            "cut the batch into several calls"
        )
    for name, shape in shapes.items():
        if math.prod(shape) >= MAX_ELEMENTS:
            raise InvalidInputError(
                f"attention: {name} would have {math.prod(shape)} elements; the limit is "
                f"2^{int(math.log2(MAX_ELEMENTS))}; cut the batch into several calls"
            )
