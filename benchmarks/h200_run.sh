#!/usr/bin/env bash
# Everything that needs the GPU, in steps of under 9 minutes each and under 25 together:
#
#     benchmarks/h200_run.sh [--dry-run] [--wheels DIR] [--work DIR] STEP...
#
# `all` is every step that is marked so below. A step is killed when its seconds are up; what it
# leaves of them, in a run of several steps, goes to the next ones. What was measured by then is
# kept: trials are rows of the database, and the table is written after each race.
#
# Needs a Python with PyTorch; what else is missing is installed from the wheels in DIR
# (carry/wheels unless told), into DIR of --work (h200 unless told), where the databases lie too.
# Steps go on from those: between machines bring them along. Where $OUT is set, the
# databases, the logs and the exported records are copied there after each step. A step that fails
# does not stop the next; the exit status is 1 if any did.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

# A step is a line here (name, seconds, whether it is part of `all`, what it does) and a function
# `step_NAME SECONDS`, with _ for -, that may take so many. Those of `all` make 1410 together.
STEPS='
verify   150 all conformance kits, tests that need silicon, peaks of the device
correct  140 all every template x dtype x layout x epilogue at awkward sizes; compute-sanitizer
tune-1   430 all schedules of bfloat16 and int4 weights
tune-2   430 all schedules of float16, float8, tf32 and int8
bench    230 all stored bests against cuBLAS, cuBLASLt and others
export    30 all the records of each shape, for benchmarks/data
triton   500 -   the bfloat16 ones against an autotuned Triton matmul too
attention-correct 150 - every template of attention x types x masks x places; compute-sanitizer
attention-tune    520 - schedules of attention
attention-bench   300 - its stored bests against cuDNN, FlashAttention and others
attention-export   30 - its records
'
MOST_S=530    # of one step
INSTALL_S=45
MARGIN_S=15   # between what a step asks of itself and its end

step_verify() { run "$1" python3 benchmarks/h200_verify.py; }

step_correct() { correct "$1" matmul; }

step_attention_correct() { correct "$1" attention; }

correct() {
    local failed=0 correct_s=$(($1 * 2 / 3))
    run "$correct_s" python3 benchmarks/cuda_correctness.py --op "$2" \
        --time-limit $((correct_s - MARGIN_S)) || failed=1
    sanitize $(($1 - correct_s)) "$2" || failed=1
    return $failed
}

step_tune_1() { tune "$1" matmul --shapes 'bfloat16/*,int4/*'; }

step_tune_2() { tune "$1" matmul --shapes 'float16/*,float8_e4m3/*,tf32/*,int8/*'; }

step_attention_tune() { tune "$1" attention; }

step_bench() { race "$1" matmul --write "$work/cuda_matmul.md"; }

step_attention_bench() { race "$1" attention --write "$work/cuda_attention.md"; }

step_triton() {
    race "$1" matmul --triton --shapes 'bfloat16/*' --write "$work/cuda_matmul_triton.md"
}

step_export() { export_records "$1" matmul; }

step_attention_export() { export_records "$1" attention; }

# table LIMIT_S OP OPTION...: the benchmark of an op, with its database.
table() {
    local limit_s=$1 op=$2
    shift 2
    run "$limit_s" python3 "benchmarks/cuda_$op.py" --db "$work/cuda_$op.db" \
        --problems "$work/problems" "$@"
}

# As many schedules as the time allows.
tune() {
    local limit_s=$1 op=$2
    shift 2
    table "$limit_s" "$op" --tune-only --trials 1000 --deadline $((limit_s - MARGIN_S)) "$@"
}

race() {
    local limit_s=$1 op=$2
    shift 2
    table "$limit_s" "$op" --bench-only --rounds 9 --deadline $((limit_s - MARGIN_S)) "$@"
}

export_records() {
    [ -n "$dry" ] || rm -rf "$work/problems"
    table "$1" "$2" --export "$work/data"
}

sanitize() {
    local tool
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
    if [ -z "$tool" ] && [ -z "$dry" ]; then
        echo "compute-sanitizer is not installed: left out"
        return 0
    fi
    run "$1" "${tool:-compute-sanitizer}" --tool memcheck --target-processes all \
        --error-exitcode 1 python3 benchmarks/cuda_correctness.py --op "$2" \
        --samples 1 --limit 16 --seed 1 --time-limit $(($1 / 2))
}

# run LIMIT_S COMMAND...: with a limit, or only shown. An interrupt first: it ends a run in order.
run() {
    local limit_s=$1
    shift
    if [ -n "$dry" ]; then
        printf '[%4s s] %s\n' "$limit_s" "$*"
        return 0
    fi
    timeout --signal=INT --kill-after=5 "$limit_s" "$@"
}

install_wheels() {
    [ -d "$work/site" ] && return 0
    if [ ! -d "$wheels" ] && [ -z "$dry" ]; then
        echo "no wheels in $wheels: what is installed must do" >&2
        return 0
    fi
    run "$INSTALL_S" python3 -m pip install -q --no-index --no-deps --upgrade \
        --target "$work/site" "$wheels"/*.whl
}

# What to bring home: few files, as some ways home take only a few.
deliver() {
    [ -n "${OUT:-}" ] || return 0
    local database
    for database in "$work"/cuda_*.db; do
        [ -f "$database" ] && python3 - "$database" "$OUT/${database##*/}" <<'PYTHON'
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as source:
    with contextlib.closing(sqlite3.connect(sys.argv[2])) as copy:
        source.backup(copy)
PYTHON
    done
    [ -d "$work/data" ] && tar -C "$work" -cf "$OUT/data.tar" data
    tar -C "$work" -czf "$OUT/logs.tar.gz" --exclude=data --exclude=site --exclude=problems \
        --exclude='*.db*' .
}

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    echo "Steps, with their seconds:"
    echo "$STEPS"
}

# field NAME N: a column of the step's line.
field() { awk -v name="$1" -v column="$2" '$1 == name { print $column }' <<<"$STEPS"; }

# Seconds since the script began; in a dry run, as if each step took all of its own.
planned_s=0
elapsed_s() { if [ -n "$dry" ]; then echo "$planned_s"; else echo "$SECONDS"; fi; }

wheels=carry/wheels
work=h200
dry=
steps=()
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=1 ;;
        --wheels) wheels=${2:?--wheels needs a directory}; shift ;;
        --work) work=${2:?--work needs a directory}; shift ;;
        -h | --help) usage; exit 0 ;;
        all) mapfile -t -O "${#steps[@]}" steps < <(awk '$3 == "all" { print $1 }' <<<"$STEPS") ;;
        *)
            if [ -z "$(field "$1" 2)" ]; then
                echo "no step $1" >&2
                usage >&2
                exit 2
            fi
            steps+=("$1")
            ;;
    esac
    shift
done
if [ ${#steps[@]} -eq 0 ]; then
    usage >&2
    exit 2
fi

case $work in
    /*) site=$work/site ;;
    *) site=$PWD/$work/site ;;
esac
export PYTHONUNBUFFERED=1 PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH}

[ -n "$dry" ] || mkdir -p "$work" || exit 2
install_wheels || exit 2
failed=()
end_s=$(elapsed_s)
for name in "${steps[@]}"; do
    end_s=$((end_s + $(field "$name" 2)))
    limit_s=$((end_s - $(elapsed_s)))
    limit_s=$((limit_s > MOST_S ? MOST_S : limit_s < 2 * MARGIN_S ? 2 * MARGIN_S : limit_s))
    echo "== $name"
    if [ -n "$dry" ]; then
        "step_${name//-/_}" "$limit_s"
        planned_s=$end_s
        continue
    fi
    started_s=$SECONDS
    "step_${name//-/_}" "$limit_s" 2>&1 | tee "$work/$name.log" || failed+=("$name")
    echo "== $name: $((SECONDS - started_s)) of $limit_s s"
    deliver
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
