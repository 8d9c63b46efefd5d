"""A server that answers as ComfyUI does, as far as the story client asks, and makes films of plain frames."""

import base64
import hashlib
import json
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch

from ltx2 import media
from ltx2.story.script import parse_script
from ltx2.values import Waveform

RATE = 48000


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Connections that were cut on purpose are nothing to tell of."""


class StandIn:
    """Use it in a ``with`` block. dies: called before each run with its number; True cuts the connection and ends the
    server. runs: the workflows that were sent."""

    def __init__(self, folder: Path, dies: Callable[[int], bool] = lambda number: False, short: int = 0):
        self.folder, self.dies, self.short = folder, dies, short
        self.runs: list[dict] = []
        self.history: dict[str, dict] = {}
        self.streams: dict[str, object] = {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                stand_in.get(self)

            def do_POST(self):
                stand_in.post(self)

            def log_message(self, *arguments):
                pass

        (folder / "input").mkdir(parents=True)
        (folder / "output").mkdir()
        self.server = _Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    # --- HTTP and WebSocket

    def answer(self, handler, body: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def get(self, handler) -> None:
        path = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(path.query))
        if path.path == "/ws":
            key = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            done = threading.Event()
            self.streams[query["clientId"]] = (handler, done)
            lines = ["HTTP/1.1 101 Switching", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}", "", ""]
            handler.wfile.write("\r\n".join(lines).encode())
            done.wait(60)
            handler.close_connection = True
        elif path.path == "/queue":
            self.answer(handler, b"{}")
        elif path.path == "/view":
            name = Path(query["type"]) / query.get("subfolder", "") / query["filename"]
            self.answer(handler, (self.folder / name).read_bytes())
        else:
            number = path.path.rpartition("/")[2]
            self.answer(handler, json.dumps({number: {"outputs": self.history[number]}}).encode())

    def post(self, handler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.path == "/upload/image":
            head, _, rest = body.partition(b"\r\n\r\n")
            name = head.split(b'filename="')[1].split(b'"')[0].decode()
            (self.folder / "input" / name).write_bytes(rest.rpartition(b"\r\n--")[0])
            self.answer(handler, json.dumps({"name": name, "subfolder": ""}).encode())
            return
        asked = json.loads(body)
        self.runs.append(asked["prompt"])
        stream, done = self.streams[asked["client_id"]]
        if self.dies(len(self.runs)):
            self.server.socket.close()
            stream.connection.close()
            done.set()
            handler.connection.close()
            handler.close_connection = True
            return
        if "nothing.safetensors" in body.decode():
            error = {"class_type": "Load", "errors": [{"message": "not in list", "details": "nothing.safetensors"}]}
            self.answer(handler, json.dumps({"node_errors": {"load": error}}).encode(), 400)
            done.set()
            return
        number = str(len(self.runs))
        self.history[number] = self.made(asked["prompt"])
        self.answer(handler, json.dumps({"prompt_id": number}).encode())
        message = json.dumps({"type": "execution_success", "data": {"prompt_id": number}}).encode()
        stream.wfile.write(bytes([0x81, len(message)]) + message)
        stream.wfile.flush()
        done.set()

    # --- what runs make

    def made(self, workflow: dict) -> dict:
        if "story" in workflow:
            return {"story": self.story(workflow["story"]["inputs"])}
        names = [node["inputs"]["file"] for node in workflow.values() if node["class_type"] == "LoadVideo"]
        clips = [media.read_video(self.folder / "input" / name) for name in names]
        self.film("joined.mp4", np.concatenate([clip.frames for clip in clips]))
        return {"save": {"images": [{"filename": "joined.mp4", "subfolder": "", "type": "output"}]}}

    def story(self, inputs: dict) -> dict:
        script = parse_script(inputs["script"], "script")
        shade = sum(segment.seed for segment in script.segments) * 7 % 200
        name = f"{len(self.runs)}.mp4"
        self.film(name, np.full((script.total_frames - self.short, 64, 64, 3), shade, np.uint8))
        (self.folder / "output/state.safetensors").write_bytes(b"state of " + script.segments[-1].prompt.encode())
        return {
            "images": [{"filename": name, "subfolder": "", "type": "output"}],
            "states": [{"file": "state.safetensors [output]"}],
            "text": [str(script)],
        }

    def film(self, name: str, frames: np.ndarray) -> None:
        sound = Waveform(torch.zeros(2, round(len(frames) / 24 * RATE)), RATE)
        media.write_video(self.folder / "output" / name, frames, fps=24, sound=sound)
