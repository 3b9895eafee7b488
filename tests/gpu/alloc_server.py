#!/usr/bin/env python3
"""A small real inference-like server for tests on a GPU: it allocates GPU memory, does a little GPU work for
every token, and serves the OpenAI chat API (streaming and not). Needs Python 3.10 or newer, and torch unless
--no-gpu is given; everything else is the standard library.

Tokens are counted by a rule that is easy to check: up to four ASCII letters are one token, any other character
that is no white space is one token, and every message costs four more.

Faults for tests: --orphan-mib leaves a child that holds memory when the server ends, --ignore-term makes
SIGTERM do nothing.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = re.compile(r"[A-Za-z]{1,4}|[^\sA-Za-z]")
MESSAGE_TOKENS = 4
WORDS = "the server holds memory and gives it back when it ends so that the next one finds it free ".split()
MIB = 1 << 20
WIDTH = 2048
REMEMBERED_PROMPTS = 64


class Gpu:
    """Memory that is held, and matrices to work on. One piece of work at a time."""

    def __init__(self, mib: int, no_gpu: bool):
        self.lock = threading.Lock()
        self.torch = None
        if no_gpu:
            return
        import torch

        if not torch.cuda.is_available():
            sys.exit("alloc_server: no CUDA device is visible (CUDA_VISIBLE_DEVICES="
                     f"{os.environ.get('CUDA_VISIBLE_DEVICES')!r})")
        self.torch = torch
        self.held = torch.ones(mib * MIB, dtype=torch.uint8, device="cuda")
        self.weights = torch.randn(WIDTH, WIDTH, dtype=torch.bfloat16, device="cuda") / WIDTH**0.5
        self.name = torch.cuda.get_device_name(0)
        torch.cuda.synchronize()

    def work(self, tokens: int, rounds: int = 8) -> None:
        """Matrix products for `tokens` rows, waited for."""
        if self.torch is None or tokens == 0:
            return
        with self.lock:
            rows = self.torch.ones(tokens, WIDTH, dtype=self.torch.bfloat16, device="cuda")
            for _ in range(rounds):
                rows = rows @ self.weights
            self.torch.cuda.synchronize()


class PrefixCache:
    """Remembers the last prompts and tells how many tokens of a new one they begin with."""

    def __init__(self):
        self.lock = threading.Lock()
        self.prompts = []

    def take(self, tokens: list) -> int:
        with self.lock:
            best = 0
            for known in self.prompts:
                common = 0
                for a, b in zip(known, tokens):
                    if a != b:
                        break
                    common += 1
                best = max(best, common)
            self.prompts.append(tokens)
            del self.prompts[:-REMEMBERED_PROMPTS]
        # As real caches do: the last token is always computed.
        return min(best, len(tokens) - 1)


def prompt_tokens(messages: list) -> list:
    tokens = []
    for message in messages:
        tokens += [f"<{message.get('role')}>"] * MESSAGE_TOKENS
        tokens += TOKEN.findall(message.get("content") or "")
    return tokens


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "alloc_server"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        print(f"{self.client_address[0]} {format % args}", file=sys.stderr, flush=True)

    def send_json(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            self.send_json(200, {"status": "ok"})
        elif self.path == "/v1/models":
            model = {"id": self.server.options.model, "object": "model", "owned_by": "tests"}
            self.send_json(200, {"object": "list", "data": [model]})
        else:
            self.send_json(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        try:
            request = json.loads(self.rfile.read(length))
            messages = request["messages"]
        except (ValueError, KeyError, TypeError) as error:
            return self.send_json(400, {"error": {"message": f"bad request: {error!r}"}})
        if self.path != "/v1/chat/completions":
            return self.send_json(404, {"error": {"message": f"no such path: {self.path}"}})
        model = self.server.options.model
        if request.get("model") != model:
            return self.send_json(404, {"error": {"message": f"the model here is {model}"}})
        limit = request.get("max_completion_tokens") or request.get("max_tokens") or 16
        prompt = prompt_tokens(messages)
        cached = self.server.cache.take(prompt)
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": limit,
            "total_tokens": len(prompt) + limit,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        head = {"id": f"chatcmpl-{time.monotonic_ns():x}", "created": int(time.time()), "model": model}
        words = (WORDS[index % len(WORDS)] + " " for index in range(limit))
        self.server.gpu.work(len(prompt) - cached)
        if not request.get("stream"):
            text = ""
            for word in words:
                self.server.gpu.work(1)
                text += word
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
            return self.send_json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head["object"] = "chat.completion.chunk"
        try:
            self.event({**head, "choices": [self.delta({"role": "assistant", "content": ""})]})
            for word in words:
                self.server.gpu.work(1)
                time.sleep(self.server.options.token_ms / 1000)
                self.event({**head, "choices": [self.delta({"content": word})]})
            self.event({**head, "choices": [self.delta({}, "length")]})
            if (request.get("stream_options") or {}).get("include_usage"):
                self.event({**head, "choices": [], "usage": usage})
            self.chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    @staticmethod
    def delta(delta: dict, finish_reason=None) -> dict:
        return {"index": 0, "delta": delta, "finish_reason": finish_reason}

    def event(self, body: dict) -> None:
        self.chunk(b"data: " + json.dumps(body).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def hold(options) -> None:
    """The orphan: holds memory for a while, says so, and ends by itself."""
    gpu = Gpu(options.hold_mib, options.no_gpu)
    gpu.work(1)
    print(f"holding {options.hold_mib} MiB in pid {os.getpid()}", flush=True)
    time.sleep(options.hold_s)


def start_orphan(options) -> None:
    command = [sys.executable, os.path.abspath(__file__), "--model", options.model,
               "--hold-mib", str(options.orphan_mib), "--hold-s", str(options.orphan_s)]
    if options.no_gpu:
        command.append("--no-gpu")
    # A pipe instead of the server's own output: an orphan that kept that open would be noticed by it.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             start_new_session=options.orphan_session)
    line = child.stdout.readline().decode().strip()
    if not line:
        sys.exit("alloc_server: the orphan could not allocate its memory")
    print(f"orphan: {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any; the one taken is printed")
    parser.add_argument("--model", required=True)
    parser.add_argument("--mib", type=int, default=1024, help="GPU memory to hold")
    parser.add_argument("--token-ms", type=float, default=2.0, help="wait before each token")
    parser.add_argument("--no-gpu", action="store_true", help="no GPU and no torch: the API only")
    parser.add_argument("--ignore-term", action="store_true", help="SIGTERM does nothing")
    parser.add_argument("--orphan-mib", type=int, default=0, help="leave a child that holds this much")
    parser.add_argument("--orphan-s", type=float, default=300, help="the child ends by itself after this time")
    parser.add_argument("--orphan-session", action="store_true", help="the child has a session of its own")
    parser.add_argument("--hold-mib", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--hold-s", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold_mib:
        return hold(options)

    def terminate(_signal, _frame):
        print("terminated", file=sys.stderr, flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.ignore_term else terminate)
    gpu = Gpu(options.mib, options.no_gpu)
    gpu.work(1)
    if options.orphan_mib:
        start_orphan(options)
    server = Server((options.host, options.port), Handler)
    server.options = options
    server.gpu = gpu
    server.cache = PrefixCache()
    device = "no GPU" if gpu.torch is None else f"{options.mib} MiB on {gpu.name}"
    print(f"listening on {options.host}:{server.server_address[1]}, pid {os.getpid()}, {device}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
