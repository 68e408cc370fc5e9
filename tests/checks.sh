# Sourced by the suites that are shell scripts: runs checks and reports those that fail.
#
#   check NAME COMMAND...  runs COMMAND; prints its output when it fails
#   need NAME COMMAND...   the same for a check that later ones build on: it runs whatever ONLY asks for
#   finish SUITE           prints the closing lines; its status is that of the suite
#
# ONLY=WORD runs the checks whose names contain WORD. $work is a folder that is removed at the end.

passed=0
failures=()
names=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() {
    names+=("$1")
    [[ $1 == *"${ONLY:-}"* ]] || return 0
    need "$@"
}

need() {
    local begin=$SECONDS
    if "${@:2}" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok: $1$(seconds_since "$begin")"
        report "$work/out"
    else
        failures+=("$1")
        echo "FAILED: $1"
        sed 's/^/    /' "$work/out"
    fi
}

# A suite that shows lines of a check that passed has its own.
report() { :; }

# Only long checks show their time.
seconds_since() { ((SECONDS - $1 < 5)) || echo " ($((SECONDS - $1)) s)"; }

finish() {
    local name
    if [[ ${ONLY:-} && ! " ${names[*]}" == *"$ONLY"* ]]; then
        printf 'No check has "%s" in its name. There are:\n' "$ONLY"
        printf '    %s\n' "${names[@]}"
        return 1
    fi
    for name in "${failures[@]}"; do
        echo "FAILED: $name; again: make $1 ONLY='${name//\'/\'\\\'\'}'"
    done
    echo "$passed passed, ${#failures[@]} failed"
    ((passed > 0 && ${#failures[@]} == 0))
}
