#!/usr/bin/env bash
# Everything that wants a card, in less than ten minutes, the most important first:
#
#     tests/gpu/run.sh              on a card
#     tests/gpu/run.sh --pretend    on none: small networks, on a card that is pretended
#
# Nothing is installed or downloaded: torch from 2.11 on, the other packages that the pipeline needs
# and pytest have to be there; PYTHON names the interpreter. Each step has a time of its own and leaves
# what it knows in OUT (by default build/gpu), so that a slow one costs no other. At last OUT has
# results.json, and table.md for docs/performance.md; the exit code is 1 if a step did not end well.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

PYTHON=${PYTHON:-python3}
OUT=${OUT:-build/gpu}
TOTAL_S=580
SOAK_S=180
pretend=()
case ${1-} in
    "") ;;
    --pretend) pretend=(--pretend) ;;
    *)
        echo "usage: tests/gpu/run.sh [--pretend]" >&2
        exit 2
        ;;
esac
if ((${#pretend[@]})); then
    # A busy CPU takes its time for what a card does at once.
    TOTAL_S=3600
    SOAK_S=15
fi

export PYTHONPATH="$PWD:$PWD/tests/support:$PWD/tests/gpu" PYTHONDONTWRITEBYTECODE=1
# What torch compiles is kept for the next run.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$PWD/build/gpu-compiled}
mkdir -p "$OUT"
# Of an earlier run.
rm -f "$OUT"/*.json "$OUT"/*.part "$OUT"/*.log "$OUT"/tests.xml "$OUT"/table.md
failed=()

# step NAME SECONDS COMMAND…: at most so long; what it says goes to NAME.log.
step() {
    local name=$1 limit_s=$2 began=$SECONDS status=0
    shift 2
    if ((${#pretend[@]})); then limit_s=$((limit_s * 5)); fi
    if ((limit_s > TOTAL_S - SECONDS)); then limit_s=$((TOTAL_S - SECONDS)); fi
    if ((limit_s < 5)); then
        failed+=("$name")
        echo "$name: no time is left"
        return
    fi
    timeout --kill-after=5 "$limit_s" "$@" >"$OUT/$name.log" 2>&1 || status=$?
    if ((status != 0)); then
        failed+=("$name")
        tail -n 5 "$OUT/$name.log"
    fi
    echo "$name: $((SECONDS - began)) s of $limit_s, exit code $status"
}

# measure NAME SECONDS STEP [OPTION…]
measure() {
    local name=$1 limit_s=$2 what=$3
    shift 3
    step "$name" "$limit_s" "$PYTHON" tests/gpu/measure.py "$what" "$OUT/$name.json" "$@" \
        ${pretend[@]+"${pretend[@]}"}
}

# What they leave of the time is the soak's, three minutes if it can: few need as long as they may.
measure about 30 about
step tests 95 "$PYTHON" -m pytest -c tests/gpu/pytest.ini tests/gpu --junitxml="$OUT/tests.xml"
measure bench-1024 110 bench --size 1024
if ! ((${#pretend[@]})); then
    # What is pretended has one size, and cannot be compiled.
    measure bench-1024-compiled 100 bench --size 1024 --compile regional
    measure bench-768 50 bench --size 768
    measure bench-768-compiled 60 bench --size 768 --compile regional
fi
measure modes 40 modes
measure four 30 four
# Besides its seconds it loads, and finishes what is under way.
soak_s=$((TOTAL_S - SECONDS - 40))
if ((soak_s > SOAK_S)); then soak_s=$SOAK_S; fi
if ((soak_s < 1)); then soak_s=1; fi
measure soak $((soak_s + 35)) soak --seconds "$soak_s"

"$PYTHON" tests/gpu/table.py "$OUT" || failed+=(table)
echo "In all $SECONDS s; the files are in $OUT."
if ((${#failed[@]})); then
    echo "These did not end well: ${failed[*]}"
    exit 1
fi
