"""What kernels of attention are told of their workload: macros for `sequence.h`, and parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

import numpy as np

from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention.op import Attention
from search_spaces.attention.parameters import Parameters, Strides
from search_spaces.dialect import Dialect
from search_spaces.kernel import Array

_MAX_OFFSET = 2**31 - 2**16  # of 32 bits, with room for the end of the last group
_KINDS_OF_BIAS = {"head": 1, "full": 2}
_CONVERSIONS: Mapping[str, tuple[str, str]] = {  # to float32 and back
    "float16": ("half_to_float(x)", "float_to_half(x)"),
    "bfloat16": ("bfloat16_to_float(x)", "float_to_bfloat16(x)"),
    "float8_e4m3": ("float8_e4m3_to_float(x)", ""),
    "float8_e5m2": ("float8_e5m2_to_float(x)", ""),
}


@cache
def sequence_text() -> str:
    """`sequence.h`, to stand after the prelude and `workload_defines`."""
    return resources.files("search_spaces.attention").joinpath("sequence.h").read_text()


def workload_defines(given: Parameters, dialect: Dialect) -> str:
    """Text to stand after the prelude: every macro that `sequence.h` lists.

    Where a type is kept as bits, the conversions of the dialect come first.
    """
    values = _sizes(given) | _features(given) | _places(given) | _types(given, dialect)
    lines = [f"#define {name} {value}".rstrip() for name, value in values.items()]
    converted = {given.dtype, given.kv_dtype} - {"float32", "float16"}
    formats = [dialect.formats] if converted else []
    return "\n".join([*formats, *lines]) + "\n"


def inputs(given: Parameters) -> tuple[str, ...]:
    """Names of what INPUT_PARAMETERS declares: the inputs and scalars after q, k and v."""
    return tuple(array.name for array in _further_inputs(given))


def outputs(given: Parameters) -> tuple[str, ...]:
    """`out`, and `lse` if there is one."""
    return ("out", "lse") if given.lse else ("out",)


def arguments(given: Parameters) -> tuple[str, ...]:
    """Of a kernel with the parameters INPUT_PARAMETERS, out LSE_PARAMETER after q, k and v."""
    return inputs(given) + outputs(given)


def _arrays(given: Parameters) -> tuple[Array, ...]:
    return Attention().arrays(Workload.of("attention", given.canonical()))


def _further_inputs(given: Parameters) -> tuple[Array, ...]:
    return tuple(array for array in _arrays(given)[3:] if array.role != "output")


def _sizes(given: Parameters) -> dict[str, object]:
    return {
        "BATCH": given.batch,
        "HEADS": given.heads,
        "KV_HEADS": given.kv_heads,
        "Q_LEN": given.q_len,
        "KV_LEN": given.kv_len,
        "HEAD_DIM": given.head_dim,
        "V_DIM": given.v_dim,
        "TOTAL_Q": given.total_q,
    }


def _features(given: Parameters) -> dict[str, object]:
    return {
        "SCALE": _literal(given.scale),
        "CAUSAL": int(given.causal),
        "WINDOW": given.window,
        "SOFTCAP": _literal(given.softcap),
        "HAS_SOFTCAP": int(given.softcap > 0),
        "ALIBI": int(given.bias == "alibi"),
        "BIAS": _KINDS_OF_BIAS.get(given.bias, 0),
        "PACKED": int(given.packed),
        "PACKED_KV": int(given.packed_kv),
        "KV_LENGTHS": int(bool(given.kv_lens) and not given.packed_kv),
        "LSE": int(given.lse),
        "SCALED_KV": int(given.scaled_kv),
    }


def _places(given: Parameters) -> dict[str, object]:
    largest = max(np.prod(array.shape, dtype=object) for array in _arrays(given))
    return {
        "PAGE_SIZE": given.page_size,
        "PAGES_PER_SEQUENCE": given.pages_per_sequence,
        "K_PAGE_STRIDE": given.page_stride(given.head_dim),
        "V_PAGE_STRIDE": given.page_stride(given.v_dim),
        **_strides("Q", given.q_strides),
        **_strides("OUT", given.out_strides),
        **_strides("K", given.k_strides),
        **_strides("V", given.v_strides),
        "OFFSET": "int" if largest <= _MAX_OFFSET else "size_t",
    }


def _strides(name: str, strides: Strides) -> dict[str, object]:
    return {
        f"{name}_BATCH_STRIDE": strides.batch,
        f"{name}_HEAD_STRIDE": strides.head,
        f"{name}_ROW_STRIDE": strides.row,
    }


def _types(given: Parameters, dialect: Dialect) -> dict[str, object]:
    further = _further_inputs(given)
    lse = ", GLOBAL float *RESTRICT lse" if given.lse else ""
    to_float, from_float = _CONVERSIONS.get(given.dtype, ("(x)", "(x)"))
    return {
        "STORED": dialect.stored(given.dtype),
        "STORED_KV": dialect.stored(given.kv_dtype),
        "STORED_BYTES": dtypes.storage(given.dtype).itemsize,
        "STORED_KV_BYTES": dtypes.storage(given.kv_dtype).itemsize,
        "STORED_TO_FLOAT(x)": to_float,
        "FLOAT_TO_STORED(x)": from_float,
        "KV_TO_FLOAT(x)": _CONVERSIONS.get(given.kv_dtype, ("(x)",))[0],
        "INPUT_PARAMETERS": "".join(_declarations(further, dialect)),
        "INPUT_ARGUMENTS": "".join(f", {array.name}" for array in further),
        "LSE_PARAMETER": lse,
        "LSE_ARGUMENT": ", lse" if given.lse else "",
    }


def _declarations(arrays: tuple[Array, ...], dialect: Dialect) -> Iterator[str]:
    for array in arrays:
        kind = dialect.stored(array.dtype)
        is_scalar = array.role == "scalar"
        yield (
            f", {kind} {array.name}"
            if is_scalar
            else f", GLOBAL const {kind} *RESTRICT {array.name}"
        )


def _literal(value: float) -> str:
    """As float32, in C."""
    return f"{value!r}f"
