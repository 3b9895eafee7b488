"""A server whose every answer is written down in BEHAVE.

BEHAVE = {"GET /health": [[503, "loading"], [200, "ok"]], ...}: each call of a route takes the next answer, the
last one repeats. Status 0 ends the process with code 3, status -1 never answers. Unknown routes answer 404.
"""
import http.server, json, os, sys, threading, time

answers = json.loads(os.environ["BEHAVE"])
calls = {}
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        route = f"{self.command} {self.path}"
        with lock:
            n = calls[route] = calls.get(route, 0) + 1
        print(f"{route} #{n} {length} {sum(body)}", flush=True)
        of_route = answers.get(route, [[404, "no such route"]])
        status, text = of_route[min(n, len(of_route)) - 1]
        if status == 0:
            print(text, file=sys.stderr, flush=True)
            os._exit(3)
        while status == -1:
            time.sleep(1000)
        data = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *args):
        pass


print("loading", flush=True)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
