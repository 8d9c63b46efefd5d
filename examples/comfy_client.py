"""A ComfyUI client in the standard library alone: upload, queue, follow over WebSocket, fetch what was saved."""

import base64
import http.client
import json
import os
import socket
import ssl
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

LONGEST = 400  # of a sentence that a server says


class RunFailed(RuntimeError):
    """The server refused a workflow or a node raised; the message says which node and why."""


class ServerLost(RunFailed):
    """The server cannot be reached, or the connection ended before the run did; another one may do it."""


def address(text: str) -> str:
    """A server's address as URLs begin with it, of what a person types: ``127.0.0.1:8188`` too. Raises RunFailed."""
    url = text.strip()
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urllib.parse.urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.hostname.encode("idna")
        fits = fits and (parts.port or True) and url.isprintable() and " " not in url
    except ValueError:  # a port that is no number, half an IPv6 address
        fits = False
    if not fits:
        raise RunFailed(f"{text!r} is no server's address: use one such as http://127.0.0.1:8188")
    return url.rstrip("/")


class Client:
    """One ComfyUI server, such as ``Client("http://127.0.0.1:8188")``. Raises RunFailed for what is no address."""

    def __init__(self, url: str, timeout_seconds: float = 3600):
        self.url, self.timeout_seconds, self.client_id = address(url), timeout_seconds, uuid.uuid4().hex

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": content_type} if body is not None else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise RunFailed(_refusal(self.url, error.read())) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerLost(f"{self.url}: {why(error)}") from None

    def json(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> dict:
        """The answer to a request as an object."""
        try:
            answer = json.loads(self.request(path, body, content_type))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RunFailed(f"{self.url} does not answer as ComfyUI does: is this its address?")
        return answer

    def answers(self) -> bool:
        """Whether the server is there."""
        try:
            self.request("/queue")
        except ServerLost:
            return False
        except RunFailed:
            pass  # it said something
        return True

    def upload(self, path: str | os.PathLike, name: str | None = None) -> str:
        """Put a file into the server's input folder. Returns the name to use in a workflow."""
        boundary, name = uuid.uuid4().hex, name or Path(path).name
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        middle = "Content-Type: application/octet-stream\r\n\r\n"
        body = (head + middle).encode() + Path(path).read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = self.json("/upload/image", body, f"multipart/form-data; boundary={boundary}")
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else answer["name"]

    def download(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """The bytes of a file the server saved, by what a node reported about it."""
        return self.request(
            "/view?" + urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        )

    def run(self, workflow: dict, on_progress=None, ui_workflow: dict | None = None) -> dict:
        """Queue an API-format workflow and wait until it ends. Returns {node id: what it reported}. Raises
        RunFailed."""
        extra = {"extra_pnginfo": {"workflow": ui_workflow}} if ui_workflow else {}
        try:
            stream = WebSocket(self.url, f"/ws?clientId={self.client_id}", self.timeout_seconds)
        except OSError as error:
            raise ServerLost(f"{self.url}: {why(error)}") from None
        try:
            body = {"prompt": workflow, "client_id": self.client_id, "extra_data": extra}
            answer = self.json("/prompt", json.dumps(body).encode())
            if answer.get("node_errors") or "prompt_id" not in answer:
                raise RunFailed(_refusal(self.url, json.dumps(answer).encode()))
            self._follow(stream, answer["prompt_id"], on_progress)
        except (OSError, struct.error) as error:
            raise ServerLost(f"{self.url}: {why(error)}") from None
        except ValueError:
            raise RunFailed(f"{self.url} sent a message that cannot be read") from None
        finally:
            stream.close()
        return self._outputs(answer["prompt_id"])

    def _outputs(self, prompt_id: str) -> dict:
        """What the nodes reported; the server writes it down a moment after its last message."""
        for _ in range(100):
            history = self.json(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]["outputs"]
            time.sleep(0.1)
        raise RunFailed("the server has no record of the run")

    def _follow(self, stream: "WebSocket", prompt_id: str, on_progress) -> None:
        for message in stream:
            kind, data = message["type"], message.get("data", {})
            if data.get("prompt_id") not in (None, prompt_id):
                continue
            if kind == "progress" and on_progress:
                on_progress(data.get("node"), data["value"], data["max"])
            elif kind == "execution_error":
                raise RunFailed(f"node {data['node_id']} ({data['node_type']}): {data['exception_message'].strip()}")
            elif kind == "execution_interrupted":
                raise RunFailed(f"interrupted at node {data.get('node_id')}")
            elif kind == "execution_success" or (
                kind == "executing" and data.get("node") is None and data.get("prompt_id")
            ):
                return
        raise ServerLost(f"{self.url}: the connection ended before the run did")


def why(error: Exception) -> str:
    """What went wrong in a connection, without its number."""
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or type(error).__name__


def _refusal(url: str, body: bytes) -> str:
    """The sentences inside a refused prompt's answer, each once."""
    try:
        answer = json.loads(body)
        error, nodes = answer.get("error") or {}, answer.get("node_errors") or {}
    except (ValueError, AttributeError):
        return f"{url} refused it: {' '.join(body.decode('utf-8', 'replace').split())[:LONGEST]}"
    if not isinstance(error, dict):
        return f"{url} refused it: {error}"
    if error.get("type") in ("missing_node_type", "invalid_prompt"):
        return f"{url} lacks a node: {error.get('message')}"
    lines = []
    for node, report in nodes.items():
        for one in report.get("errors", []):
            told = f"{one.get('message')}: {one.get('details')}"
            if one.get("type") == "custom_validation_failed":  # the node's own sentence, again for each of its inputs
                told = str(one.get("details")).partition(" - ")[2] or told
            told = told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
            lines.append(f"node {node} ({report.get('class_type')}): {told}")
    return "; ".join(dict.fromkeys(lines)) or f"{url} refused it: {error.get('message')}"


class WebSocket:
    """The client side of RFC 6455, as much as following a run needs: iterate for JSON text messages, pictures are
    skipped."""

    def __init__(self, url: str, path: str, timeout_seconds: float):
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "https"
        self.socket = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), timeout_seconds)
        if secure:
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {parts.path}{path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
        ]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.file = self.socket.makefile("rb")
        status = self.file.readline()
        if b" 101 " not in status:
            raise RunFailed(f"{url} does not offer a WebSocket: {status.decode('latin-1').strip()}")
        while self.file.readline() not in (b"\r\n", b""):
            pass

    def _send(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        size = struct.pack(">B", 0x80 | len(data)) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        self.socket.sendall(bytes([0x80 | kind]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def __iter__(self):
        message, kind = b"", 0
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                return
            final, opcode, length = head[0] & 0x80, head[0] & 0x0F, head[1] & 0x7F
            if length > 125:
                length = struct.unpack(">H" if length == 126 else ">Q", self.file.read(2 if length == 126 else 8))[0]
            data = self.file.read(length)
            if opcode == 8:
                return
            if opcode == 9:
                self._send(10, data)
            elif opcode in (0, 1, 2):
                message, kind = (message + data, kind) if opcode == 0 else (data, opcode)
                if final and kind == 1:
                    yield json.loads(message)

    def close(self) -> None:
        try:
            self._send(8, b"")
        except OSError:
            pass  # the server was first
        self.socket.close()
