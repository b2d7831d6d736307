"""Any bytes get an error of the client's or nothing; good requests beside them their answers."""

import asyncio
import time

import psutil
import pytest

from pvt_onnx.serve.options import ServeOptions
from tests.support.serving.attack import attack
from tests.support.serving.hostile import what_is_wrong
from tests.support.serving.models import picture, save
from tests.support.serving.running import running


@pytest.mark.parametrize(
    "count", [300, pytest.param(3000, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_any_bytes_get_an_error_and_good_requests_their_answers(count, tmp_path):
    options = ServeOptions(port=0, log="none", max_body=1 << 20)
    with running([save(tmp_path / "m.onnx")], options) as server:
        host, _, port = server.place.rpartition(":")
        before = psutil.Process().memory_info().rss
        found = asyncio.run(attack(host, int(port), picture(), count, count // 10))
        assert found.problems == []
        assert found.good == count // 10 and found.statuses.get(400, 0) > count // 10
        assert psutil.Process().memory_info().rss - before < 300e6
        assert server.get("/v2/health/ready").status == 200
        end = time.monotonic() + 10
        while server.server.server_state.connections and time.monotonic() < end:
            time.sleep(0.01)
        assert server.server.server_state.connections == set()
        assert server.told[2:] == []  # of faults of ours


def test_what_is_wrong_is_found():
    assert what_is_wrong(b"HTTP/1.1 400 \r\n") is what_is_wrong(b"") is None
    for answer in (b"HTTP/1.1 500 \r\n", b"HTTP/1.1 400 \r\n\r\nHTTP/1.1 502 ", b"hello"):
        assert what_is_wrong(answer)
