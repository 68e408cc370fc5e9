# Runs checks side by side. tests/capi/run and tests/cpp/run source this file.
#
#   check NAME COMMAND...   runs COMMAND, a program or a function, as a job of its own; it passes when
#                           COMMAND exits with 0
#   finish                  waits for all jobs, prints what has failed, exits
#
# COMMAND finds an empty folder of its own in $mine. Its output is kept together, and printed when it
# fails. Checks end in any order: no check may need the result of another one. A check that needs a
# CA starts one for itself: "${ca[@]}" PROGRAM, or beside_ca FUNCTION.
#
# Environment:
#   ONLY        runs only the checks whose name contains this text
#   ACME_JOBS   number of checks at a time; default: number of cores + 1
#   ACME_LIST   prints the names of the checks and runs none

work=$(mktemp -d)
jobs=${ACME_JOBS:-$(($(nproc) + 1))}
names=() failures=()
passed=0 started=0
declare -A name_of=() output_of=() start_of=() # by process id
# A CA that does the same each time: it refuses no good nonce and reuses no authorization.
ca=(python3 tests/pebble/with_pebble.py --env PEBBLE_WFE_NONCEREJECT=0 --env PEBBLE_AUTHZREUSE=0 --)
memcheck=(valgrind -q --leak-check=full --show-leak-kinds=all --errors-for-leak-kinds=all
    --suppressions=tests/capi/valgrind.supp --error-exitcode=99 --trace-children=no)

beside_ca() {
    "${ca[@]}" bash -c "$(declare -p mine memcheck; declare -f); $1"
}

# Without job control, bash lets background jobs ignore SIGINT, and so would all that they start.
set -m
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

check() {
    local pid
    names+=("$1")
    [[ $1 == *"${ONLY-}"* && -z ${ACME_LIST-} ]] || return 0
    while ((${#name_of[@]} >= jobs)); do
        one_ends
    done
    started=$((started + 1))
    mine=$work/$started
    mkdir "$mine"
    (trap - EXIT INT TERM HUP; "${@:2}") >"$mine.out" 2>&1 </dev/null &
    pid=$!
    name_of[$pid]=$1 output_of[$pid]=$mine.out start_of[$pid]=$SECONDS
}

# Waits for one job and prints its result.
one_ends() {
    local pid='' status=0 seconds name output time=
    wait -n -p pid "${!name_of[@]}" || status=$?
    name=${name_of[$pid]} output=${output_of[$pid]}
    seconds=$((SECONDS - start_of[$pid]))
    unset "name_of[$pid]" "output_of[$pid]" "start_of[$pid]"
    ((seconds <= 5)) || time=" ($seconds s)"
    if ((status == 0)); then
        passed=$((passed + 1))
        echo "ok: $name$time"
        grep -hE '^(.*: [0-9]+ passed|NOT RUN|an order|[0-9]+ allocations)' "$output" | sed 's/^/    /'
    else
        failures+=("$name")
        echo "FAILED: $name$time, status $status"
        sed 's/^/    /' "$output"
    fi
    rm -rf "${output%.out}" "$output"
}

# Ends what a signal has left running, children first.
end_all() {
    local pid
    for pid in "${!name_of[@]}"; do
        end_tree "$pid"
    done
    rm -rf "$work"
}

end_tree() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do
        end_tree "$child"
    done
    kill -TERM "$1" 2>/dev/null
}

finish() {
    local other name
    if [[ -n ${ACME_LIST-} ]]; then
        printf '%s\n' "${names[@]}"
        exit 0
    fi
    while ((${#name_of[@]} > 0)); do
        one_ends
    done
    if ((started == 0)); then
        # `make test-c` runs both scripts with the same word.
        other=tests/cpp/run
        [[ $0 != *cpp/run ]] || other=tests/capi/run
        if env -u ONLY ACME_LIST=1 $other | grep -F -- "$ONLY" >/dev/null; then
            echo "$0: no check here has '$ONLY' in its name; $other has one"
            exit 0
        fi
        echo "no check has '$ONLY' in its name. The checks of tests/capi/run and tests/cpp/run:"
        { printf '%s\n' "${names[@]}" && env -u ONLY ACME_LIST=1 $other; } | sed 's/^/    /'
        exit 1
    fi
    echo "$0: $passed passed, ${#failures[@]} failed"
    for name in "${failures[@]}"; do
        echo "FAILED: $name; alone: make test-c ONLY='$name'"
    done
    ((${#failures[@]} == 0))
    exit
}
