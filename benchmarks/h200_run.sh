#!/usr/bin/env bash
# Everything that needs the GPU, in steps of under 9 minutes each and under 25 together:
#
#     benchmarks/h200_run.sh [--dry-run] [--wheels DIR] [--work DIR] STEP...
#
#     verify    conformance kits, tests that need silicon, the device's peaks       ~3 min
#     correct   every template x dtype x layout x epilogue at awkward sizes,
#               and compute-sanitizer on a few, where the tool is found             ~4 min
#     tune-1    bfloat16, int4 weights                                              ~6 min
#     tune-2    float16, float8, tf32, int8                                         ~6 min
#     bench     stored bests against cuBLAS and cuBLASLt                            ~5 min
#     triton    the bfloat16 ones against an autotuned Triton matmul too; not in all
#     export    the records of each shape, for benchmarks/data                     <1 min
#     all       verify correct tune-1 tune-2 bench export
#
# Needs a Python with PyTorch; what else is missing is installed from the wheels in DIR
# (carry/wheels unless told), into DIR of --work (h200 unless told), where the database lies too.
# Steps go on from that database: between machines bring it along. Where $OUT is set, the
# database, the logs and the exported records are copied there after each step. A step that fails
# does not stop the next; the exit status is 1 if any did.
#
# TUNE_S and CORRECT_S set the seconds of tuning a shape and of the correctness runs.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

wheels=carry/wheels
work=h200
dry=
steps=()

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=1 ;;
        --wheels) wheels=${2:?--wheels needs a directory}; shift ;;
        --work) work=${2:?--work needs a directory}; shift ;;
        -h | --help) usage; exit 0 ;;
        all) steps+=(verify correct tune-1 tune-2 bench export) ;;
        verify | correct | tune-1 | tune-2 | bench | triton | export) steps+=("$1") ;;
        *) echo "no step $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
if [ ${#steps[@]} -eq 0 ]; then
    usage >&2
    exit 2
fi

tune_s=${TUNE_S:-16}
correct_s=${CORRECT_S:-170}
database=$work/cuda_matmul.db
case $work in
    /*) site=$work/site ;;
    *) site=$PWD/$work/site ;;
esac
export PYTHONUNBUFFERED=1 PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH}

# run LIMIT_S COMMAND...: with a limit, or only shown.
run() {
    local limit_s=$1
    shift
    if [ -n "$dry" ]; then
        printf '[%4s s] %s\n' "$limit_s" "$*"
        return 0
    fi
    timeout --kill-after=10 "$limit_s" "$@"
}

install_wheels() {
    [ -d "$work/site" ] && return 0
    if [ ! -d "$wheels" ] && [ -z "$dry" ]; then
        echo "no wheels in $wheels: what is installed must do" >&2
        return 0
    fi
    run 120 python3 -m pip install -q --no-index --no-deps --upgrade \
        --target "$work/site" "$wheels"/*.whl
}

sanitize() {
    local tool
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
    if [ -z "$tool" ] && [ -z "$dry" ]; then
        echo "compute-sanitizer is not installed: left out"
        return 0
    fi
    run 150 "${tool:-compute-sanitizer}" --tool memcheck --target-processes all \
        --error-exitcode 1 python3 benchmarks/cuda_correctness.py \
        --samples 1 --limit 16 --seed 1 --time-limit 90
}

tune() {
    run 530 python3 benchmarks/cuda_matmul.py --db "$database" --tune-only \
        --time-limit "$tune_s" --shapes "$1"
}

step() {
    case $1 in
        verify) run 400 python3 benchmarks/h200_verify.py ;;
        correct)
            local failed=0
            run 350 python3 benchmarks/cuda_correctness.py --time-limit "$correct_s" || failed=1
            sanitize || failed=1
            return $failed
            ;;
        tune-1) tune 'bfloat16/*,int4/*' ;;
        tune-2) tune 'float16/*,float8_e4m3/*,tf32/*,int8/*' ;;
        bench)
            run 530 python3 benchmarks/cuda_matmul.py --db "$database" --bench-only \
                --rounds 9 --write "$work/cuda_matmul.md"
            ;;
        triton)
            run 530 python3 benchmarks/cuda_matmul.py --db "$database" --bench-only --triton \
                --rounds 9 --shapes 'bfloat16/*' --write "$work/cuda_matmul_triton.md"
            ;;
        export)
            run 60 python3 benchmarks/cuda_matmul.py --db "$database" --export "$work/data"
            ;;
    esac
}

# What to bring home: few files, as some ways home take only a few.
deliver() {
    [ -n "${OUT:-}" ] || return 0
    [ -f "$database" ] && python3 - "$database" "$OUT/cuda_matmul.db" <<'PYTHON'
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as source:
    with contextlib.closing(sqlite3.connect(sys.argv[2])) as copy:
        source.backup(copy)
PYTHON
    [ -d "$work/data" ] && tar -C "$work" -cf "$OUT/data.tar" data
    tar -C "$work" -czf "$OUT/logs.tar.gz" --exclude=data --exclude=site --exclude='*.db*' .
}

[ -n "$dry" ] || mkdir -p "$work" || exit 2
install_wheels || exit 2
failed=()
for name in "${steps[@]}"; do
    echo "== $name"
    started_s=$SECONDS
    if [ -n "$dry" ]; then
        step "$name"
        continue
    fi
    step "$name" 2>&1 | tee "$work/$name.log" || failed+=("$name")
    echo "== $name: $((SECONDS - started_s)) s"
    deliver
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
