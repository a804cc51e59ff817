#!/usr/bin/env bash
# A hub and an edge with five modes, a cut link, and a kill; it checks itself. The hub owns accounts
# and feeds; the edge owns its files and reports telemetry; both write the settings. The hub goes
# away, both sides change, it comes back; the edge is killed (SIGKILL) while it writes, and started
# again. In the end both agree, by digest, on every path that they share.
#
#   examples/edge.sh                              builds a debug binary, then runs
#   TRELLIS_BIN=target/release/trellis examples/edge.sh
#
# Ends with a table of digests, or with the first mismatch and status 1.
set -euo pipefail
cd "$(dirname "$0")/.."

source examples/common.sh

TOKEN=token-of-the-edges-of-this-demonstration
# What hub and edge have in common, and how the edge holds it.
SHARED=("accounts replica" "feeds readonly" "config sync" "files primary" "telemetry writeonly")

configure() { # the hub's port
    cat >"$WORK/hub.toml" <<TOML
[replication]
role = "primary"
name = "hub"

[[replication.peers]]
role = "edge"
token = "$TOKEN"
pull = ["accounts", "feeds", "config"]
push = ["config", "files", "telemetry"]
TOML
    cat >"$WORK/edge.toml" <<TOML
[replication]
role = "primary"
name = "edge"
primaryUrl = "ws://127.0.0.1:$1/db"
token = "$TOKEN"
excludePrefixes = ["files/drafts"]
paths = [
    "config",
    { path = "accounts", mode = "replica" },
    { path = "feeds", mode = "readonly" },
    { path = "files", mode = "primary" },
    { path = "telemetry", mode = "writeonly" },
]
TOML
}

node() { # name, port (0: any)
    start "$1" "$2" --data "$WORK/$1" --config "$WORK/$1.toml"
}

start_hub() { # port
    node hub "$1"
    HUB=$PROCESS
    HUB_PORT=$PORT
    HUB_URL=$URL
}

start_edge() {
    node edge 0
    EDGE=$PROCESS
    EDGE_URL=$URL
}

at() { # URL, verb, arguments
    local url=$1 verb=$2
    shift 2
    cli "$verb" --url "$url" "$@"
}

refused() { # word, URL, verb, arguments
    local word=$1 url=$2 verb=$3
    shift 3
    if "$TRELLIS" "$verb" --url "$url" "$@" >/dev/null 2>"$WORK/cli.err"; then
        fail "$verb $1: it was to be refused as $word"
    fi
    grep -q "$word" "$WORK/cli.err" || fail "$verb $1: not $word: $(cat "$WORK/cli.err")"
}

digest() { # URL, path
    at "$1" export --path "$2" --format ndjson | sha256sum | cut -c 1-16
}

# Whether both hold the same at a path.
agree() {
    [[ $(digest "$HUB_URL" "$1") == $(digest "$EDGE_URL" "$1") ]]
}

until_agreed() { # how long at most, in seconds
    local line path end=$((SECONDS + $1))
    for line in "${SHARED[@]}"; do
        path=${line% *}
        until agree "$path"; do
            ((SECONDS < end)) || fail "hub and edge differ at $path: $(status "$EDGE_URL")"
            sleep 0.2
        done
    done
}

status() { # URL
    cli repl status --url "$1"
}

rows() { # file, table, key, path, URL
    "$LOAD" lines "$ISO/$1.json" "$2" "$3" >"$WORK/$1.ndjson"
    at "$5" import "$WORK/$1.ndjson" --path "$4" --format ndjson
}

configure 0
start_hub 0
configure "$HUB_PORT"
rows iso_3166-1 3166-1 alpha_2 accounts "$HUB_URL"
rows iso_3166-2 3166-2 code feeds "$HUB_URL"
rows iso_15924 15924 alpha_4 config "$HUB_URL"
start_edge
until_agreed 60
expect "an account, read at the edge" '"Uruguay"' "$(at "$EDGE_URL" get accounts/UY/name)"
echo "edge: filled from the hub"

rows iso_4217 4217 alpha_3 files "$EDGE_URL"
at "$EDGE_URL" set telemetry/started true
at "$EDGE_URL" set config/colour '"blue"'
at "$EDGE_URL" set accounts/XX '{"name": "Nowhere"}'
expect "a forwarded write, read at the hub" '"Nowhere"' "$(at "$HUB_URL" get accounts/XX/name)"
refused read_only_path "$EDGE_URL" set feeds/XX-X '{"name": "Nowhere"}'
until_agreed 30
expect "a forwarded write, read at the edge" '"Nowhere"' "$(at "$EDGE_URL" get accounts/XX/name)"
echo "edge: owns, reports, merges, forwards; a write to what it only reads is refused"

stop "$HUB" hub
refused upstream_unavailable "$EDGE_URL" set accounts/XY '{"name": "Elsewhere"}'
at "$EDGE_URL" set config/offline '"at the edge"'
at "$EDGE_URL" set config/colour '"green"'
at "$EDGE_URL" delete config/Latn
at "$EDGE_URL" set files/drafts/one '"stays here"'
at "$EDGE_URL" set telemetry/offline 1
# The hub's data is worked on while it is out of service.
away() {
    local verb=$1
    shift
    cli "$verb" --data "$WORK/hub" --config "$WORK/hub.toml" "$@"
}
away set config/away '"at the hub"'
away set config/colour '"red"'
away set accounts/UY/name '"Eastern Republic of Uruguay"'
away delete feeds/UY-MO
start_hub "$HUB_PORT"
at "$EDGE_URL" delete files/drafts
until_agreed 90
expect "who wrote the colour last" '"red"' "$(at "$EDGE_URL" get config/colour)"
expect "what the edge wrote alone" '"at the edge"' "$(at "$HUB_URL" get config/offline)"
expect "what the edge removed alone" null "$(at "$HUB_URL" get config/Latn)"
expect "what the hub removed alone" null "$(at "$EDGE_URL" get feeds/UY-MO)"
echo "edge: cut off, changed on both sides, healed: both agree"

# Killed while it reports; what was acknowledged is there and arrives.
"$LOAD" lines "$ISO/iso_639-3.json" 639-3 alpha_3 >"$WORK/languages.ndjson"
"$TRELLIS" import "$WORK/languages.ndjson" --path telemetry/languages --format ndjson \
    --url "$EDGE_URL" >/dev/null 2>&1 &
IMPORT=$!
for _ in $(seq 600); do
    [[ $(at "$HUB_URL" get telemetry/languages/aaa/name) == null ]] || break
    sleep 0.02
done
slay "$EDGE"
wait "$IMPORT" 2>/dev/null || true
at "$HUB_URL" set config/meanwhile '"at the hub"'
start_edge
at "$EDGE_URL" import "$WORK/languages.ndjson" --path telemetry/languages --format ndjson
until_agreed 90
expect "what the hub wrote meanwhile" '"at the hub"' "$(at "$EDGE_URL" get config/meanwhile)"
echo "edge: killed while it wrote, started again: both agree"

echo
status "$EDGE_URL"
echo
status "$HUB_URL"
echo
printf '%-10s %-10s %8s  %s\n' path "at the edge" leaves "digest at both"
for line in "${SHARED[@]}"; do
    read -r path mode <<<"$line"
    leaves=$(at "$EDGE_URL" export --path "$path" --format ndjson | wc -l)
    printf '%-10s %-11s %8s  %s\n' "$path" "$mode" "$leaves" "$(digest "$EDGE_URL" "$path")"
done
stop "$EDGE" edge
stop "$HUB" hub
