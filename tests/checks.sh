# Runs checks, side by side or one after the other. The suites that are shell scripts source this file.
#
#   check NAME COMMAND...   runs COMMAND, a program or a function, as a job of its own; it passes when
#                           COMMAND exits with 0
#   need NAME COMMAND...    the same for a check that later ones build on: it runs even if ONLY excludes it,
#                           and the script continues when it has ended
#   finish SUITE            waits for all jobs, prints the failed checks, exits
#
# COMMAND finds an empty folder of its own in $mine. Its output is collected, and printed if it fails.
# Checks end in any order, so no check may need the result of another. A script whose checks build on
# each other sets jobs=1: then each check has ended before the script continues.
# A check that needs a CA of its own starts one: "${ca[@]}" PROGRAM, or beside_ca FUNCTION.
#
# Environment:
#   ONLY        runs only the checks whose name contains this text
#   ACME_JOBS   number of checks at a time; default: number of cores + 1

work=$(mktemp -d)
jobs=${ACME_JOBS:-$(($(nproc) + 1))}
names=() failures=()
passed=0 started=0 matched=0
declare -A name_of=() output_of=() start_of=() # by process id
ca=(python3 tests/pebble/with_pebble.py --)
memcheck=(valgrind -q --leak-check=full --show-leak-kinds=all --errors-for-leak-kinds=all
    --suppressions=tests/capi/valgrind.supp --error-exitcode=99 --trace-children=no)

beside_ca() {
    "${ca[@]}" bash -c "$(declare -p mine memcheck; declare -f); $1"
}

# Without job control, bash lets background jobs ignore SIGINT, and their children inherit that.
set -m
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

check() {
    names+=("$1")
    [[ $1 == *"${ONLY-}"* ]] || return 0
    matched=$((matched + 1))
    begin "$@"
    ((jobs > 1)) || all_end
}

need() {
    names+=("$1")
    [[ $1 != *"${ONLY-}"* ]] || matched=$((matched + 1))
    all_end
    begin "$@"
    all_end
}

begin() {
    local pid
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

all_end() {
    while ((${#name_of[@]} > 0)); do
        one_ends
    done
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
        grep -hE '^(.*: [0-9]+ passed|NOT RUN|an order|[0-9]+ allocations|Ran [0-9]+ tests?)' "$output" | sed 's/^/    /'
    else
        failures+=("$name")
        echo "FAILED: $name"
        echo "    status $status$time"
        sed 's/^/    /' "$output"
    fi
    rm -rf "${output%.out}" "$output"
}

# Ends what a signal has left running, children first.
end_all() {
    local pid
    # Bash reports each ended job; if the reader of this output is gone, the rest must be ended all the same.
    trap '' PIPE
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
    local name
    all_end
    # A failed check that others need is told first: it may be the reason.
    if ((matched == 0 && ${#failures[@]} == 0)); then
        echo "no check has '${ONLY-}' in its name. There are:"
        printf '    %s\n' "${names[@]}"
        exit 1
    fi
    for name in "${failures[@]}"; do
        echo "FAILED: $name; again: make $1 ONLY='${name//\'/\'\\\'\'}'"
    done
    echo "$passed passed, ${#failures[@]} failed"
    ((${#failures[@]} == 0))
    exit
}
