#!/usr/bin/env bash
# What the tests need beside Rust: a Chromium that opens the report, a font with Korean, and the curl and zstd of Ollama's
# recipe. Does nothing where they are there.
set -euo pipefail

have() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
tools() { command -v curl && command -v zstd; } >/dev/null
if have && tools; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "error: no Chromium, curl or zstd on this machine, and no apt-get to install it with" >&2
  echo "  hint: install it by the system's own means, or name a Chromium in BENCHD_CHROMIUM" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 chromium fonts-nanum curl zstd >/dev/null
have && tools
