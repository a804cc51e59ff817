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

source examples/common.sh

# File, its table, the key of a row: each is imported as it is, one long array, and row by row.
TABLES=("iso_639-3 639-3 alpha_3" "iso_3166-1 3166-1 alpha_2" "iso_3166-2 3166-2 code")
JOURNEY="sqlite sled redb"
# A binary contains sled only with the feature kv-sled.
probe=$("$TRELLIS" set probe 1 --data "$WORK/probe" --kv sled:probe.sled 2>&1 || true)
if [[ $probe == *kv-sled* ]]; then
    echo "tour: this binary does not contain sled, which is left out"
    JOURNEY="sqlite redb"
    STORES=${TOUR_STORES:-redb sqlite memory}
else
    STORES=${TOUR_STORES:-redb sqlite sled memory}
fi
KILL_AFTER=${TOUR_KILL_AFTER:-10000}

kv_url() {
    case $1 in
    redb) echo redb:tree.redb ;;
    sqlite) echo sqlite:trellis.sqlite ;;
    sled) echo sled:tree.sled ;;
    memory) echo memory: ;;
    *) fail "unknown store: $1" ;;
    esac
}

# Starts a server of this store on a free port.
serve() { # store
    start "$1" 0 --data "$WORK/$1" --kv "$(kv_url "$1")" --log segment:log
}

# Asks the running server.
ask() { # verb, arguments
    local verb=$1
    shift
    cli "$verb" --url "$URL" "$@"
}

# Writes, and takes a full backup meanwhile; the server is killed after that.
write_beside_backup() { # store
    "$LOAD" write "$URL" "$PROCESS" "$KILL_AFTER" "$WORK/$1.acknowledged" "$WORK/backed-up" \
        >"$WORK/written" &
    local load=$!
    for _ in $(seq 600); do
        [[ $(ask get tour/count) == null ]] || break
        sleep 0.05
    done
    ask backup --to "$WORK/backups" >/dev/null
    touch "$WORK/backed-up"
    wait "$load" || fail "$1: writing beside a backup"
    cat "$WORK/written"
}

# The backup that was taken under load, with what was committed since, is what the server held.
restored() { # store
    cli backup --verify --to "$WORK/backups" >/dev/null
    cli restore --from "$WORK/backups" --to "$WORK/restored" >/dev/null
    cli export --data "$WORK/restored" --format ndjson -o "$WORK/restored.ndjson"
    cmp -s "$WORK/$1.ndjson" "$WORK/restored.ndjson" ||
        fail "$1: what was restored is not what the server held"
    echo "tour: $1: backed up under load and restored elsewhere: ok"
}

# From store to store and back; the content's digest stays the same.
journey() {
    local from=redb:$WORK/redb store place line digest=
    for store in $JOURNEY; do
        place=$store:$WORK/moved-$store
        line=$(cli migrate --from "$from" --to "$place")
        line=${line##* }
        expect "the digest after the move to $store" "${digest:=$line}" "$line"
        from=$place
    done
    cli verify "redb:$WORK/redb" --against "$from" >/dev/null
    cli check --data "$WORK/moved-redb" >/dev/null
    echo "tour: redb -> ${JOURNEY// / -> }: the same digest, $digest"
}

tour() { # store
    local store=$1 name table key written line sources=() began=$SECONDS
    serve "$store"
    for line in "${TABLES[@]}"; do
        read -r name table key <<<"$line"
        ask import "$ISO/$name.json" --path "iso/$name" --format json
        ask import "$WORK/$name.ndjson" --path "codes/$name" --format ndjson
        sources+=("iso/$name=$ISO/$name.json" "codes/$name=$WORK/$name.ndjson")
    done
    expect "$store: a language, read over the wire" \
        "$("$LOAD" pointer "$ISO/iso_639-3.json" /639-3/7/name)" \
        "$(ask get iso/iso_639-3/639-3/7/name)"
    expect "$store: a country, read over the wire" '"Uruguay"' "$(ask get codes/iso_3166-1/UY/name)"

    # Ends when the server does: tour-load kills it with every connection in the middle of a write.
    if [[ $store == redb ]]; then
        written=$(write_beside_backup "$store")
    else
        written=$("$LOAD" write "$URL" "$PROCESS" "$KILL_AFTER" "$WORK/$store.acknowledged")
    fi
    wait "$PROCESS" 2>/dev/null || true

    serve "$store"
    if [[ $store == redb ]]; then ask backup --to "$WORK/backups" --incremental >/dev/null; fi
    ask export --path "" --format ndjson -o "$WORK/$store.ndjson"
    line=$("$LOAD" verify "$WORK/$store.ndjson" "$WORK/$store.acknowledged" "${sources[@]}") ||
        fail "$store: the export is not what was acknowledged"
    stop "$PROCESS" "$store"

    # Once more after an orderly stop: the same, byte for byte.
    serve "$store"
    ask export --path "" --format ndjson -o "$WORK/$store.again.ndjson"
    cmp -s "$WORK/$store.ndjson" "$WORK/$store.again.ndjson" ||
        fail "$store: an orderly restart changed the data"
    stop "$PROCESS" "$store"
    if [[ $store == redb ]]; then restored "$store"; fi
    read -r leaves acknowledged unacknowledged <<<"$line"
    expect "$store: acknowledged records" "$written" "$acknowledged"
    printf '%-8s %10s %14s %9s %16s %8s\n' "$store" "$leaves" "$acknowledged" 0 \
        "$unacknowledged" "$((SECONDS - began)) s" >>"$WORK/table"
    echo "tour: $store: ok"
}

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
