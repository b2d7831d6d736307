"""The server's limits, its log, its numbers, and how it begins and ends."""

import base64
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pvt_onnx.command_line import main as pvt_onnx
from pvt_onnx.serve.models import open_served
from pvt_onnx.serve.options import ServeOptions
from pvt_onnx.serve.repository import ModelFile
from pvt_onnx.serve.web import bodies, connections
from pvt_onnx.serve.web.log import REQUEST_ID, writer
from pvt_onnx.serve.web.server import listen, serve
from pvt_spec.errors import PvtError, RuntimeUnusable
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.processes import ROOT, free_port
from tests.support.serving.models import picture, save
from tests.support.serving.running import ONE, running

REQUEST_LENGTH = b"inference-header-content-length"
RAW = {"Inference-Header-Content-Length": "0"}
"""What says that a body is nothing but an image."""


def options(**given):
    return ServeOptions(**{"port": 0, "log": "none", **given})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save(tmp_path_factory.mktemp("server") / "m.onnx")


@pytest.fixture(scope="module")
def server(path):
    with running([path]) as found:
        yield found


class Slow:
    """A model that answers when it is let."""

    def __init__(self, path):
        self._path, self.going, self.calls = path, threading.Event(), []

    def open(self, file):
        model = open_served(self._path, file.name, file.version, ONE)
        run = model.run

        def wait(images):
            self.calls.append(len(images))
            assert self.going.wait(30)
            return run(images)

        object.__setattr__(model, "run", wait)
        object.__setattr__(model, "warm_up", lambda most: None)
        return model


def asked(images=1, seed=0, **more):
    files = [base64.b64encode(picture(seed + n)).decode() for n in range(images)]
    row = {"name": "image", "datatype": "BYTES", "shape": [images], "data": files}
    return json.dumps({"inputs": [row], **more}).encode()


@contextlib.contextmanager
def waiting(server, *requests):
    """Requests that are asked while the block lasts; their answers, once it has ended."""
    found = [None] * len(requests)

    def ask(number):
        found[number] = server.infer(requests[number])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(requests))]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(30)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_image_needs_nothing_but_its_bytes(server):
    answer = server.infer(picture(), headers=RAW)
    shares = answer.body["outputs"][1]
    assert answer.status == 200 and shares["name"] == "probabilities"
    assert sum(shares["data"]) == pytest.approx(1)


def test_answers_are_sent_at_once(server):
    """Where Nagle's algorithm is on, the end of an answer waits 40 ms for a client's word."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        server.get("/v2/health/live")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.03
    connection = HTTPConnection(server.place, timeout=30)
    connection.request("GET", "/v2/health/live")
    connection.getresponse().read()
    (inside,) = server.server.server_state.connections
    taken = inside.transport.get_extra_info("socket")
    assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_addresses_that_are_none_and_methods_that_are_none(server):
    for method, path, status, facts in (
        ("GET", "/v3", 404, ["/v3"]),
        ("GET", "/v2/", 404, []),
        ("GET", "/v2/models/m/infer", 405, ["GET", "POST"]),
        ("POST", "/v2/models/m", 405, ["POST", "GET"]),
        ("GET", "/v2/models/%6e%0a", 404, ["n\\n", "m"]),
        ("GET", "/v2/models/m/versions/9/ready", 404, [9, 1]),
        ("GET", "/v2/models/m/versions/../../../m", 404, []),
        ("POST", "/v2/repository/models/m/load", 404, []),
        ("GET", "/v2/models/stats", 404, ["/metrics"]),
        ("GET", "/v2/models/m/stats", 404, ["/metrics"]),
    ):
        answer = server.ask(method, path)
        assert answer.status == status and [*answer.body] == ["error"]
        if facts:
            assert tells(answer.body["error"], *facts)
        if status == 405:
            assert answer.headers["allow"]


def test_a_connection_goes_on_after_errors(server):
    """An unknown model, say, whose request has a body that nobody read."""
    body = bytes(300_000)
    head = f"POST /v2/models/none/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    last = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    found = server.talk(head.encode(), body, last)
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"404", b"200"]


def test_requests_sent_ahead_are_answered_in_their_order_but_not_any_number(server):
    head = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n%s\r\n"
    named = [head % b"x-request-id: %d\r\n" % n for n in range(5)]
    found = server.talk(*named, head % b"connection: close\r\n")
    assert re.findall(rb"x-request-id: (\d)\r", found) == [b"%d" % n for n in range(5)]
    assert found.count(b"HTTP/1.1 200") == 6
    found = server.talk(head % b"" * 500)
    answers = re.findall(rb"HTTP/1.1 (\d+)", found)
    assert answers == [*[b"200"] * (connections.MOST_AHEAD + 1), b"503"], found[-300:]
    assert server.get("/v2/health/live").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTQ/1.1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZ\r\n",
        b"GET /" + b"y" * 20_000,
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\n" + b"y: z\r\n" * 4000 + b"\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        *(
            b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n%s: 0\r\n%s: 1\r\n\r\n" % (name, name)
            for name in (REQUEST_LENGTH, b"content-type", b"content-encoding")
        ),
    ],
)
def test_what_is_no_http_gets_an_error_as_any_other(server, sent):
    found = server.talk(sent)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4"), found
    assert json.loads(body)["error"]
    assert server.get("/v2/health/live").status == 200


@pytest.mark.parametrize("lines", [b"0\r\n" + b"x: y\r\n", b"5;", b"0\r\nx: "])
def test_lines_in_a_body_end(server, lines):
    """Those behind a chunked body, say, which came without end were kept without end."""
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    more = (lines[3:] or b"y") * (1 << 15)
    with contextlib.suppress(ConnectionError):
        assert server.talk(head, lines, *[more] * 50).startswith(b"HTTP/1.1 400")
    host, _, port = server.place.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(head + lines)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                connection.sendall(more)
                time.sleep(0.01)


def test_what_comes_behind_a_body_is_no_part_of_its_head(server):
    image = picture()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%s\r\n"
    sent = head % b"transfer-encoding: chunked\r\ninference-header-content-length: 0\r\n"
    sent += b"%x\r\n%s\r\n0\r\ncontent-encoding: br\r\nx: y\r\n\r\n" % (len(image), image)
    assert server.talk(sent).startswith(b"HTTP/1.1 200")


GOOD = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n%s\r\n%s"
"""A request with an image, more headers than these and its bytes."""


def whole(*headers):
    image = picture()
    lines = [b"inference-header-content-length: 0", b"content-length: %d" % len(image), *headers]
    return GOOD % (b"".join(b"%s\r\n" % line for line in lines), image)


@pytest.mark.parametrize("before", [1, 2, 5])
@pytest.mark.parametrize(
    "bad",
    [
        b"hello\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        GOOD % (b"transfer-encoding: chunked\r\n", b"Z\r\n"),
        GOOD % (b"content-length: 1\r\nhost: y\r\n", b"x"),
    ],
)
def test_what_came_whole_is_answered_before_what_is_no_http(server, before, bad):
    found = server.talk(whole() * before + bad)
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [*[b"200"] * before, b"400"]
    assert server.told[2:] == []


@pytest.mark.parametrize("half", [b"", b"GET /v2", GOOD % (b"content-length: 9\r\n", b"x")])
def test_a_client_that_sends_no_more_is_answered(server, half):
    host, _, port = server.place.rpartition(":")
    for count in (1, 3):
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(whole() * count + half)
            connection.shutdown(socket.SHUT_WR)
            found = b"".join(iter(lambda: connection.recv(65536), b""))
        assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200"] * count
    until(lambda: not server.server.server_state.connections)


def test_of_clients_that_are_gone_nothing_is_told(path):
    slow = Slow(path)
    with running([path], options(), slow.open) as server:
        host, _, port = server.place.rpartition(":")
        for _ in range(4):
            with socket.create_connection((host, int(port))) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, *[0] * 7)))
                connection.sendall(whole() * 3)
                until(lambda: slow.calls)
        until(lambda: not server.server.server_state.connections)
        slow.going.set()
        until(lambda: not server.server.server_state.tasks)
        assert server.infer(picture(), headers=RAW).status == 200
        assert server.told[2:] == []


@pytest.mark.parametrize("other", [b"h2c", b"websocket"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(server, other):
    """As Java's clients do, and curl with --http2."""
    asks = whole(b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + other, b"http2-settings: A")
    found = server.talk(asks * 3, whole(b"connection: close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"200"] * 4
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    found = server.talk(head + b"content-length: 2\r\n\r\n", b"[", b"]" + b"hello\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", found) == [b"400"] * 2


def test_an_answer_has_the_name_of_its_request(server):
    assert server.get("/v2", **{REQUEST_ID: "mine-7"}).headers[REQUEST_ID] == "mine-7"
    for other in ("", "a b", "é", "x" * 200):
        found = server.get("/v2", **{REQUEST_ID: other.encode("latin-1")}).headers[REQUEST_ID]
        assert re.fullmatch("[0-9a-f]{32}", found)


def test_bodies_are_no_longer_than_they_may_be(path):
    with running([path], options(max_body=1000)) as server:
        assert server.infer(bytes(1001)).status == 413
        chunked = b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n"
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        assert b" 413 " in server.talk(head + b"transfer-encoding: chunked\r\n\r\n" + chunked)
        assert server.infer(bytes(1000)).status == 400
        assert server.infer(b"{}", headers={"content-encoding": "br"}).status == 415


def test_many_large_bodies_at_a_time_are_refused(path, monkeypatch):
    monkeypatch.setattr(bodies, "BODIES", 1)
    slow = Slow(path)
    with running([path], options(max_body=20_000), slow.open) as server:
        with waiting(server, asked(2)) as found:
            until(lambda: slow.calls)
            refused = server.infer(asked(2))
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
            slow.going.set()
        assert found[0].status == 200 and server.infer(asked(2)).status == 200


def test_images_of_too_many_pixels_and_of_too_few_bytes(path):
    with running([path], options(max_pixels=1000)) as server:
        refused = server.infer(picture(), headers=RAW)
        assert refused.status == 400 and tells(refused.body["error"], "1,000")


def test_beyond_the_queue_requests_are_refused(path):
    slow = Slow(path)
    with running([path], options(queue=4), slow.open) as server:
        assert server.infer(asked(5)).status == 413
        with waiting(server, asked(3)) as found:
            until(lambda: slow.calls)
            refused = server.infer(asked(2))
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
            assert tells(refused.body["error"], 3, 4)
            assert server.get("/v2/health/live").status == 200
            slow.going.set()
        assert found[0].status == 200 and server.infer(asked(2)).status == 200


def test_a_request_is_given_up_when_its_time_is_over(path):
    slow = Slow(path)
    with running([path], options(timeout=0.3), slow.open) as server:
        with waiting(server, asked()) as found:
            until(lambda: slow.calls)
            given_up = server.infer(asked(seed=1, parameters={"timeout": 50_000}))
            assert given_up.status == 503 and tells(given_up.body["error"], "0.05")
            assert given_up.headers["retry-after"]
        assert found[0].status == 503 and tells(found[0].body["error"], "0.3")
        slow.going.set()
        assert server.infer(asked()).status == 200
        assert slow.calls == [1, 1]  # what was given up before its turn was not computed


def test_requests_that_wait_are_answered_together_as_alone(path):
    slow = Slow(path)
    with running([path], open_=slow.open) as server:
        with waiting(server, *(asked(seed=n) for n in range(7))) as found:
            until(lambda: server.service.entries()[0].waiting == 7)
            time.sleep(0.1)  # until all are decoded
            slow.going.set()
        assert len(slow.calls) < 7 and sum(slow.calls) == 7
        for seed, answer in enumerate(found):
            alone = server.infer(asked(seed=seed)).body["outputs"][0]["data"]
            assert np.allclose(answer.body["outputs"][0]["data"], alone, rtol=1e-5, atol=1e-5)


def test_without_batches_answers_are_the_same_bits(path):
    with running([path], options(max_batch=1)) as server:
        with waiting(server, *(asked(seed=n) for n in range(6))) as found:
            pass
        for seed, answer in enumerate(found):
            assert answer.body == server.infer(asked(seed=seed)).body


def test_slow_clients_are_not_waited_for(path, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running([path]) as server:
        began = time.monotonic()
        assert server.talk() == b""  # nothing asked
        for half in (b"GET /v2", b"GET /v2 HTTP/1.1\r\nhost: x\r\n"):
            with contextlib.suppress(ConnectionResetError):
                assert server.talk(half) == b""
        # A head, and a body that nobody waits for, as the model is none.
        head = b"POST /v2/models/n/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n"
        with contextlib.suppress(ConnectionResetError):
            assert server.talk(head).startswith(b"HTTP/1.1 404")
        assert time.monotonic() - began < 4
        assert server.get("/v2/health/live").status == 200


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("ahead", [0, 9])
def test_answers_are_taken_or_their_connection_ends(path, monkeypatch, ahead, steady):
    """Not only where the client goes on asking: also behind the last answer, and before others."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "LEAST_TAKEN", 2000)
    page = b"GET / HTTP/1.1\r\nhost: x\r\n%s\r\n"

    def small(host, port):
        listener = listen(host, port)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    monkeypatch.setattr("tests.support.serving.running.listen", small)
    with running([path]) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = server.place.rpartition(":")
        connection.connect((host, int(port)))
        connection.sendall(page % b"" * ahead + page % b"connection: close\r\n")
        found = 0
        while steady and (part := connection.recv(4000)):
            found += part.count(b"HTTP/1.1 200")
            time.sleep(0.02)
        until(lambda: not server.server.server_state.connections)
        assert found == (ahead + 1) * steady


def test_what_holds_the_server_up_is_not_counted_as_the_clients(path, monkeypatch):
    """Of a process that was stopped, say: connections that asked nothing meanwhile are heard."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with running([path]) as server:
        host, _, port = server.place.rpartition(":")
        with socket.create_connection((host, int(port)), 30) as connection:
            until(lambda: server.server.server_state.connections)
            (inside,) = server.server.server_state.connections
            inside.loop.call_soon_threadsafe(time.sleep, 2)
            inside.loop.call_soon_threadsafe((held := threading.Event()).set)
            assert held.wait(30)
            time.sleep(0.1)  # its timers are looked at
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_body_has_to_come_in_time(path, monkeypatch):
    monkeypatch.setattr(bodies.Bodies.__init__, "__defaults__", (0.2,))
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running([path]) as server:
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n"
        with contextlib.suppress(ConnectionResetError):
            assert server.talk(head, b"{").startswith(b"HTTP/1.1 408")


def test_connections_beyond_the_limit_are_told(path, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    with running([path]) as server:
        host, _, port = server.place.rpartition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection((host, int(port))))
            found = server.talk()
            assert found.startswith(b"HTTP/1.1 503") and b"retry-after" in found
        until(lambda: not server.server.server_state.connections)
        assert server.get("/v2/health/live").status == 200


def test_what_fails_in_a_model_tells_nothing_of_the_machine(path):
    def open_(file):
        model = open_served(path, file.name, file.version, ONE)

        def run(images):
            raise PvtError(f"{path}: it cannot be run")

        object.__setattr__(model, "run", run)
        object.__setattr__(model, "warm_up", lambda most: None)
        return model

    with running([path], open_=open_) as server:
        answer = server.infer(asked(), headers={REQUEST_ID: "seven"})
        assert answer.status == 500 and tells(answer.body["error"], "seven")
        assert str(path.parent) not in json.dumps(answer.body)
        assert tells(server.told[-1], "seven") and str(path) in server.told[-1]
        assert server.get("/v2/health/live").status == 200


def test_it_is_ready_once_every_model_has_run(path):
    opening = threading.Event()

    def open_(file):
        assert opening.wait(30)
        return open_served(path, file.name, file.version, ONE)

    with running([path], open_=open_, wait=False) as server:
        assert server.get("/v2/health/live").status == 200
        for address in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
            answer = server.get(address)
            assert answer.status == 503 and answer.headers["retry-after"]
        assert server.infer(asked()).status == 503
        index = server.ask("POST", "/v2/repository/index").body
        assert [each["state"] for each in index] == ["LOADING"]
        assert server.ask("POST", "/v2/repository/index", b'{"ready": true}').body == []
        opening.set()
        until(lambda: server.get("/v2/health/ready").status == 200)
        assert server.infer(asked()).status == 200


def test_what_was_asked_is_answered_before_it_ends(path):
    slow = Slow(path)
    with running([path], open_=slow.open) as server:
        with waiting(server, asked()) as found:
            until(lambda: slow.calls)
            server.server.handle_exit(signal.SIGTERM, None)
            until(lambda: not server.server.servers[0].is_serving())
            assert not server.service.ready
            with pytest.raises(ConnectionRefusedError):
                server.get("/v2/health/live")
            slow.going.set()
        assert found[0].status == 200


def test_what_is_not_waited_for_at_its_end_is_told(path):
    """At a second signal, say: as the server's own state, not as a fault."""
    slow = Slow(path)
    with running([path], options(max_batch=1), slow.open) as server:
        with waiting(server, asked(), asked(3)) as found:
            until(lambda: slow.calls and server.service.entries()[0].waiting == 4)
            for _ in range(2):
                server.server.handle_exit(signal.SIGTERM, None)
            until(lambda: not server.server.servers[0].is_serving())
            time.sleep(0.2)
            slow.going.set()
        assert {answer.status for answer in found} in ({200, 503}, {503})  # one was computed
        for answer in found:
            assert answer.status == 200 or (answer.body["error"] and answer.headers["retry-after"])
        assert server.told[2:] == []


def test_numbers_for_prometheus(path):
    with running([path, ModelFile("é", "2", path)]) as server:
        for images in (1, 3):
            server.infer(asked(images))
        server.infer(b"{}")
        text = server.get("/metrics").body.decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.labels.get("status") or sample.labels.get("le") or ""
            found[sample.name, sample.labels["model"], key] = sample.value
    assert found["pvt_requests_total", "m", "200"] == 2
    assert found["pvt_requests_total", "m", "400"] == 1
    assert found["pvt_request_seconds_count", "m", ""] == 3
    assert found["pvt_batch_images_sum", "m", ""] == 4
    assert found["pvt_waiting_images", "é", ""] == 0


def test_too_few_files_to_serve_are_said(path, monkeypatch):
    """It was a fault of ours, or an abort of the loop's."""
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (12, 12))
    with pytest.raises(RuntimeUnusable, match=naming("12 files", "64", "ulimit -n")):
        serve([path], open_served, options(), print)


@pytest.mark.parametrize("form", ["json", "lines"])
def test_requests_are_logged_in_one_line_each(path, form, capfd):
    with running([path], options(log=form)) as server:
        server.infer(asked(2), headers={REQUEST_ID: "a"})
        server.get("/nothing%0a%1b[2J", **{REQUEST_ID: "b"})
        said = []
        until(lambda: said.append(capfd.readouterr().err) or "".join(said).count("\n") == 2)
    lines = "".join(said).splitlines()
    if form == "json":
        first, second = map(json.loads, lines)
        assert (first["method"], first["status"], first["id"]) == ("POST", 200, "a")
        assert (first["model"], first["version"], first["images"]) == ("m", "1", 2)
        assert first["ms"] > 0 and second["path"] == "/nothing\n\x1b[2J"
    else:
        assert tells(lines[0], "POST", 200, "id=a", "model=m", "images=2")
        assert tells(lines[1], 404, "id=b") and "\x1b" not in lines[1]


def test_a_log_that_nobody_reads_ends_nothing(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "no space")

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stderr", Full())
    names = ("time", "client", "method", "path", "status", "ms")
    writer("lines")(dict.fromkeys(names, 1))


def start(*words):
    command = [sys.executable, "-m", "pvt_onnx", "serve", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_the_command_serves_until_a_signal(path, number, tmp_path):
    save(tmp_path / "digits/7/model.onnx")
    port = free_port()
    with start("--repository", tmp_path, "--port", port, "--threads", 1) as process:
        said = ""
        while "ready" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert tells(said, "digits", 7, f"http://127.0.0.1:{port}")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number and stdout == "" and "Traceback" not in stderr


def test_what_cannot_be_served_is_one_error(path, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for words, facts in (
        ([tmp_path / "none.onnx"], ["none.onnx"]),
        ([broken], ["broken.onnx"]),
        ([tmp_path], [tmp_path]),
        (["--repository", tmp_path], [tmp_path, "model.onnx"]),
        ([path, "--host", "no.such.host.invalid"], ["no.such.host.invalid"]),
        ([path, path], ["m"]),
    ):
        assert tells(refusal(pvt_onnx, "serve", *words, "--port", 0), *facts)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert tells(refusal(pvt_onnx, "serve", path, "--port", port), port)
    numbers = ([path, name, "nan"] for name in ("--max-delay", "--timeout", "--drain"))
    for words in ([], [path, "--repository", tmp_path], [path, "--max-batch", 0], *numbers):
        assert invoke(pvt_onnx, "serve", *words).exit_code == 2
