# What the demonstrations have in common; sourced by them, from the root of the repository.
#
# Sets TRELLIS (the binary: TRELLIS_BIN, or a debug build), LOAD (tour-load), ISO (real data), and
# WORK, a directory that stays only after a failure. What still runs in the end is killed.

NAME=$(basename "$0" .sh)
ISO=/usr/share/iso-codes/json
WORK=$(mktemp -d)

finish() {
    local status=$? process
    for process in $(jobs -pr); do kill -KILL "$process" 2>/dev/null || true; done
    if [[ $status == 1 ]]; then
        echo "$NAME: what it worked on is in $WORK" >&2
    else
        rm -rf "$WORK"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$NAME: $*" >&2
    exit 1
}

expect() { # what, expected, found
    [[ "$2" == "$3" ]] || fail "$1: expected $2, found $3"
}

# Starts a server on this machine; sets PROCESS, PORT and URL.
start() { # name (of its log), port (0: any), further options of `serve`
    local log=$WORK/$1.log port=$2
    shift 2
    : >"$log"
    "$TRELLIS" serve --port "$port" "$@" >"$log" 2>&1 &
    PROCESS=$!
    for _ in $(seq 600); do
        PORT=$(sed -n 's|^listening on ws://127\.0\.0\.1:\([0-9][0-9]*\).*|\1|p' "$log")
        URL=ws://127.0.0.1:$PORT/db
        [[ -z $PORT ]] || return 0
        kill -0 "$PROCESS" 2>/dev/null || fail "the server did not start: $(cat "$log")"
        sleep 0.05
    done
    fail "the server says no address: $(cat "$log")"
}

# Ends a server in order.
stop() { # process, name of its log
    kill -TERM "$1"
    wait "$1" || fail "$2 did not end in order: $(cat "$WORK/$2.log")"
}

# Ends it in the middle of what it does.
slay() { # process
    kill -KILL "$1"
    wait "$1" 2>/dev/null || true
}

# Runs the command; what it says of itself is shown only if it fails.
cli() { # arguments
    "$TRELLIS" "$@" 2>"$WORK/cli.err" || fail "$1: $(cat "$WORK/cli.err")"
}

if [[ ! -e $ISO/iso_639-3.json ]]; then
    echo "$NAME: the iso-codes package is missing; installing it"
    sudo=; [[ $(id -u) == 0 ]] || sudo=sudo
    $sudo apt-get install -y --no-install-recommends iso-codes >/dev/null ||
        fail "install the package iso-codes first"
fi
if [[ -n ${TRELLIS_BIN:-} ]]; then
    TRELLIS=$TRELLIS_BIN
else
    echo "$NAME: building trellis"
    cargo build --quiet -p trellis-server --features kv-sled
    TRELLIS=${CARGO_TARGET_DIR:-target}/debug/trellis
fi
cargo build --quiet -p tour-load
LOAD=${CARGO_TARGET_DIR:-target}/debug/tour-load
