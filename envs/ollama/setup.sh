#!/bin/sh
# Makes bin/ and lib/ beside itself: Ollama's own release for Linux on x86-64, with its libraries for NVIDIA GPUs.
#
# Needs: curl, tar and zstd, about 2 GB of download and 6 GB of disk. A download that breaks or is stopped goes on where
# it stopped. The program is moved into place last: where it is, all of its release is. A second run finds it made and
# does nothing.
set -eu

# What is fetched: the first of `archives` that is there. Where `sha256` is empty, the first download is checked against
# the release's own list of checksums, and its hash is kept in release.lock: from then on only those bytes are taken.
version=0.15.6
release=https://github.com/ollama/ollama/releases/download/v$version
archives="$release/ollama-linux-amd64.tar.zst $release/ollama-linux-amd64.tgz"
checksums=$release/sha256sum.txt
sha256=
needed_mb=8000

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}
room="make room, then run it again: what came is kept"
network="is there a network here (a proxy is taken from HTTPS_PROXY)? run it again: what came is kept"

size_mb() { echo $(($(stat -c %s "$1" 2>/dev/null || echo 0) / 1000000)); }
locked() { sed -n "s/^ *\"$1\": \"\\([^\"]*\\)\".*/\\1/p" release.lock 2>/dev/null || :; }

cd "$(dirname "$0")"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the release is for Linux on x86-64"
case " $archives " in
*" $(locked url) "*)
    if [ -x bin/ollama ] && [ "$(locked version)" = "$version" ] && [ "${sha256:-$(locked sha256)}" = "$(locked sha256)" ]; then
        say "already made: $PWD/bin/ollama"
        exit 0
    fi
    ;;
esac
for program in curl tar zstd; do
    command -v "$program" >/dev/null || fail "$program is missing" "apt-get install $program"
done

watcher=
tidy() {
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || :
    watcher=
    rm -rf .making-*
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# What is left here is of one that was killed.
tidy
mkdir -p cache

watch() {
    while sleep 5 && kill -0 $$ 2>/dev/null; do say "$(size_mb "$1") MB"; done
}

# Fetches $1 into $2, from where $2 ends; fails where nothing is there.
download() {
    case $1 in
    https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | "http://[::1]"[:/]*) ;;
    *) fail "$1: only https is taken from another machine" ;;
    esac
    for try in 1 2 3 4 5; do
        if [ -s "$2" ]; then
            resumed=yes
            say "going on at $(size_mb "$2") MB"
        fi
        watch "$2" &
        watcher=$!
        status=0
        code=$(curl --silent --show-error --fail --location --proto-redir =https --connect-timeout 20 \
            --speed-limit 1 --speed-time 60 --continue-at - --output "$2" --write-out '%{http_code}' "$1") || status=$?
        kill "$watcher" 2>/dev/null || :
        watcher=
        case $status:$code in
        # 416: all of it came before, or it is not of these bytes, which its hash tells.
        0:* | 22:416) return 0 ;;
        22:404) return 1 ;;
        # The connection ended, or the server is out of order.
        16:* | 18:* | 28:* | 52:* | 55:* | 56:* | 92:* | 22:5??) ;;
        22:*) fail "$1 can't be fetched: it answered $code" "$network" ;;
        # The second is killed by the signal SIGXFSZ.
        23:* | 153:*) fail "can't write $PWD/$2" "$room" ;;
        # It can't go on in the middle.
        33:*) rm -f "$2" ;;
        *) fail "$1 can't be fetched" "$network" ;;
        esac
        [ "$try" = 5 ] || say "the connection broke at $(size_mb "$2") MB; going on in a moment"
        sleep 1
    done
    fail "$1 can't be fetched: the connection broke five times; $(size_mb "$2") MB are kept" "$network"
}

fetch() {
    resumed=
    for url in $archives; do
        archive=cache/$version-${url##*/}
        ! download "$url" "$archive" || return 0
    done
    fail "nothing is at: $archives" "is it the right version? correct it in $PWD/setup.sh"
}

# The hash that the archive must have.
expected_hash() {
    if [ -n "$sha256" ]; then
        echo "$sha256"
    elif [ "$(locked version)" = "$version" ] && [ "$(locked url)" = "$url" ]; then
        locked sha256
    else
        list=$(curl --silent --show-error --fail --location --proto-redir =https --connect-timeout 20 --max-time 60 \
            "$checksums") || fail "$checksums can't be fetched" "$network"
        found=$(printf '%s\n' "$list" | awk -v name="${url##*/}" \
            '{ sub(/^[*]/, "", $2); sub(/^[.][/]/, "", $2) } $2 == name && $1 ~ /^[0-9a-fA-F]+$/ && length($1) == 64 { print tolower($1); exit }')
        [ -n "$found" ] || fail "$checksums names no SHA-256 of ${url##*/}" "pin it as \`sha256\` in $PWD/setup.sh"
        echo "$found"
    fi
}

free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
needed_mb=$((needed_mb - $(du -sm cache | cut -f1)))
[ "$free_mb" -ge "$needed_mb" ] ||
    fail "too little disk space: $free_mb MB free at $PWD, about $needed_mb MB are needed" "$room"
say "downloading Ollama $version: about 2 GB"
fetch
expected=$(expected_hash)
say "checking the archive's SHA-256"
found=$(sha256sum "$archive" | cut -d' ' -f1)
if [ "$found" != "$expected" ] && [ -n "$resumed" ]; then
    # The first part may be of another attempt, or damaged: once more, whole.
    say "the hash differs after a resumed download: fetching it again from its start"
    rm "$archive"
    fetch
    found=$(sha256sum "$archive" | cut -d' ' -f1)
fi
if [ "$found" != "$expected" ]; then
    rm "$archive"
    fail "$url is not what it should be: its SHA-256 is $found, expected $expected" \
        "nothing was installed. Run it again; if it stays, somebody changed the release (or the connection): compare the hash with one from another place before you trust it"
fi

say "unpacking"
case $(od -An -tx1 -N4 "$archive" | tr -d ' ') in
# Ollama packs with `zstd --ultra`, whose window is larger than what zstd takes unasked.
28b52ffd) unpack="zstd -d --long=31" ;;
1f8b*) unpack="gzip -d" ;;
*) fail "$PWD/$archive can't be unpacked: it is neither Zstandard nor gzip" ;;
esac
new=$(mktemp -d .making-XXXXXX)
mkdir "$new/new" "$new/old"
tar --use-compress-program="$unpack" --no-same-owner -xf "$archive" -C "$new/new" ||
    fail "$PWD/$archive can't be unpacked" "is there disk space? run it again: what came is kept"
[ -f "$new/new/bin/ollama" ] || fail "$PWD/$archive can't be unpacked: it holds no bin/ollama"

# There is never a program beside another release's libraries.
[ ! -e bin ] || mv bin "$new/old/bin"
printf '{\n  "v": 1,\n  "version": "%s",\n  "url": "%s",\n  "sha256": "%s"\n}\n' "$version" "$url" "$found" >"$new/lock"
mv "$new/lock" release.lock
for entry in "$new"/new/*; do
    name=${entry##*/}
    [ "$name" != bin ] || continue
    [ ! -e "$name" ] || mv "$name" "$new/old/$name"
    mv "$entry" "$name"
done
mv "$new/new/bin" bin
rm -rf cache
say "made: $PWD/bin/ollama"
