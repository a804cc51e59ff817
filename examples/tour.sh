#!/usr/bin/env bash
# A tour of Trellis that checks itself: for each store, real data goes in over the wire, 64
# connections write, the server is killed in the middle of it, and nothing that was acknowledged may
# be missing afterwards. One store is backed up while it is written, and restored elsewhere; then the
# data moves from store to store and back.
#
#   examples/tour.sh                              builds a debug binary, then runs
#   TRELLIS_BIN=target/release/trellis examples/tour.sh
#   TOUR_STORES="redb sqlite" examples/tour.sh    only these
#
# Ends with a table of what was checked, or with the first mismatch and status 1.
set -euo pipefail
cd "$(dirname "$0")/.."

ISO=/usr/share/iso-codes/json
# File, its table, the key of a row: each is imported as it is, one long array, and row by row.
TABLES=("iso_639-3 639-3 alpha_3" "iso_3166-1 3166-1 alpha_2" "iso_3166-2 3166-2 code")
STORES=${TOUR_STORES:-redb sqlite sled memory}
KILL_AFTER=${TOUR_KILL_AFTER:-10000}

WORK=$(mktemp -d)
SERVER=
finish() {
    local status=$?
    if [[ -n $SERVER ]]; then kill -KILL "$SERVER" 2>/dev/null || true; fi
    if [[ $status == 1 ]]; then
        echo "tour: what it worked on is in $WORK" >&2
    else
        rm -rf "$WORK"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
    echo "tour: $*" >&2
    exit 1
}

expect() { # what, expected, found
    [[ "$2" == "$3" ]] || fail "$1: expected $2, found $3"
}

kv_url() {
    case $1 in
    redb) echo redb:tree.redb ;;
    sqlite) echo sqlite:trellis.sqlite ;;
    sled) echo sled:tree.sled ;;
    memory) echo memory: ;;
    *) fail "unknown store: $1" ;;
    esac
}

# Starts a server on a free port of this machine; sets SERVER and URL.
start() { # store
    local log=$WORK/$1.log
    : >"$log"
    "$TRELLIS" serve --data "$WORK/$1" --port 0 --kv "$(kv_url "$1")" --log segment:log \
        >"$log" 2>&1 &
    SERVER=$!
    local port=
    for _ in $(seq 600); do
        port=$(sed -n 's|.*127\.0\.0\.1:\([0-9][0-9]*\).*|\1|p' "$log" | head -n 1)
        [[ -z $port ]] || break
        kill -0 "$SERVER" 2>/dev/null || fail "the server did not start: $(cat "$log")"
        sleep 0.05
    done
    [[ -n $port ]] || fail "the server says no address: $(cat "$log")"
    URL=ws://127.0.0.1:$port/db
}

stop() {
    kill -TERM "$SERVER"
    wait "$SERVER" || fail "the server did not end in order: $(cat "$WORK/$1.log")"
    SERVER=
}

local_cli() {
    "$TRELLIS" "$@" 2>"$WORK/cli.err" || fail "$1: $(cat "$WORK/cli.err")"
}

cli() {
    local verb=$1
    shift
    "$TRELLIS" "$verb" --url "$URL" "$@" 2>"$WORK/cli.err" || fail "$verb: $(cat "$WORK/cli.err")"
}

# Writes, and takes a full backup meanwhile; the server is killed after that.
write_beside_backup() { # store
    "$LOAD" write "$URL" "$SERVER" "$KILL_AFTER" "$WORK/$1.acknowledged" "$WORK/backed-up" \
        >"$WORK/written" &
    local load=$!
    for _ in $(seq 600); do
        [[ $(cli get tour/count) == null ]] || break
        sleep 0.05
    done
    cli backup --to "$WORK/backups" >/dev/null
    touch "$WORK/backed-up"
    wait "$load" || fail "$1: writing beside a backup"
    cat "$WORK/written"
}

# The backup that was taken under load, with what was committed since, is what the server held.
restored() { # store
    local_cli backup --verify --to "$WORK/backups" >/dev/null
    local_cli restore --from "$WORK/backups" --to "$WORK/restored" >/dev/null
    local_cli export --data "$WORK/restored" --format ndjson -o "$WORK/restored.ndjson"
    cmp -s "$WORK/$1.ndjson" "$WORK/restored.ndjson" ||
        fail "$1: what was restored is not what the server held"
    echo "tour: $1: backed up under load and restored elsewhere: ok"
}

# From store to store and back; the content's digest stays the same.
journey() {
    local from=redb:$WORK/redb store place line digest=
    for store in sqlite sled redb; do
        place=$store:$WORK/moved-$store
        line=$(local_cli migrate --from "$from" --to "$place")
        line=${line##* }
        expect "the digest after the move to $store" "${digest:=$line}" "$line"
        from=$place
    done
    local_cli verify "redb:$WORK/redb" --against "$from" >/dev/null
    local_cli check --data "$WORK/moved-redb" >/dev/null
    echo "tour: redb -> sqlite -> sled -> redb: the same digest, $digest"
}

tour() { # store
    local store=$1 name table key written line sources=() began=$SECONDS
    start "$store"
    for line in "${TABLES[@]}"; do
        read -r name table key <<<"$line"
        cli import "$ISO/$name.json" --path "iso/$name" --format json
        cli import "$WORK/$name.ndjson" --path "codes/$name" --format ndjson
        sources+=("iso/$name=$ISO/$name.json" "codes/$name=$WORK/$name.ndjson")
    done
    expect "$store: a language, read over the wire" \
        "$("$LOAD" pointer "$ISO/iso_639-3.json" /639-3/7/name)" \
        "$(cli get iso/iso_639-3/639-3/7/name)"
    expect "$store: a country, read over the wire" '"Uruguay"' "$(cli get codes/iso_3166-1/UY/name)"

    # Ends when the server does: tour-load kills it with every connection in the middle of a write.
    if [[ $store == redb ]]; then
        written=$(write_beside_backup "$store")
    else
        written=$("$LOAD" write "$URL" "$SERVER" "$KILL_AFTER" "$WORK/$store.acknowledged")
    fi
    wait "$SERVER" 2>/dev/null || true
    SERVER=

    start "$store"
    if [[ $store == redb ]]; then cli backup --to "$WORK/backups" --incremental >/dev/null; fi
    cli export --path "" --format ndjson -o "$WORK/$store.ndjson"
    line=$("$LOAD" verify "$WORK/$store.ndjson" "$WORK/$store.acknowledged" "${sources[@]}") ||
        fail "$store: the export is not what was acknowledged"
    stop "$store"

    # Once more after an orderly stop: the same, byte for byte.
    start "$store"
    cli export --path "" --format ndjson -o "$WORK/$store.again.ndjson"
    cmp -s "$WORK/$store.ndjson" "$WORK/$store.again.ndjson" ||
        fail "$store: an orderly restart changed the data"
    stop "$store"
    if [[ $store == redb ]]; then restored "$store"; fi
    read -r leaves acknowledged unacknowledged <<<"$line"
    expect "$store: acknowledged records" "$written" "$acknowledged"
    printf '%-8s %10s %14s %9s %16s %8s\n' "$store" "$leaves" "$acknowledged" 0 \
        "$unacknowledged" "$((SECONDS - began)) s" >>"$WORK/table"
    echo "tour: $store: ok"
}

if [[ ! -e $ISO/iso_639-3.json ]]; then
    echo "tour: the iso-codes package is missing; installing it"
    sudo=; [[ $(id -u) == 0 ]] || sudo=sudo
    $sudo apt-get install -y --no-install-recommends iso-codes >/dev/null ||
        fail "install the package iso-codes first"
fi

TARGET=${CARGO_TARGET_DIR:-target}
if [[ -n ${TRELLIS_BIN:-} ]]; then
    TRELLIS=$TRELLIS_BIN
else
    echo "tour: building trellis"
    cargo build --quiet -p trellis-server --features kv-sled
    TRELLIS=$TARGET/debug/trellis
fi
cargo build --quiet -p tour-load
LOAD=$TARGET/debug/tour-load

for line in "${TABLES[@]}"; do
    read -r name table key <<<"$line"
    "$LOAD" lines "$ISO/$name.json" "$table" "$key" >"$WORK/$name.ndjson"
done

for store in $STORES; do
    tour "$store"
done
if [[ " $STORES " == *" redb "* ]]; then journey; fi

echo
echo "Each store took three ISO tables over the wire, then records from 64 connections until the"
echo "server was killed (SIGKILL); after the restart an export held everything acknowledged, every"
echo "commit whole or not at all, and nothing else; after an orderly restart it was the same again."
if [[ " $STORES " == *" redb "* ]]; then
    echo "redb was backed up under that load and restored elsewhere, equal byte for byte, and moved"
    echo "from store to store and back with the same digest."
fi
echo
printf '%-8s %10s %14s %9s %16s %8s\n' store "iso leaves" acknowledged missing "beyond, whole" took
cat "$WORK/table"
