"""The page for people: what it says of models, and what it does in a real browser."""

import re
import shutil

import onnx
import pytest

from pvt_onnx.serve.repository import ModelFile
from pvt_spec.hashes import CERTIFICATE_KEY
from tests.support.messages import tells
from tests.support.serving.models import LABELS, picture, save
from tests.support.serving.running import running

STAMP = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    files = [
        ModelFile("a", "1", save(folder / "a/model.onnx")),
        ModelFile("<b>'\"", "2", save(folder / "b/model.onnx", labels=())),
        ModelFile("maps", "1", save(folder / "m.onnx", labels=(), num_classes=0)),
    ]
    stamped = onnx.load(files[0].path)
    stamped.metadata_props.add(key=CERTIFICATE_KEY, value=STAMP)
    onnx.save(stamped, files[0].path)
    with running(files) as found:
        yield found


def test_it_says_what_each_model_is_and_fetches_nothing(server):
    answer = server.get("/")
    text = answer.body.decode()
    assert answer.status == 200 and answer.headers.get_content_type() == "text/html"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)=.?(?:https?:)?//", text) and "@import" not in text
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert tells(text, "official", "crop_pct 0.9", "bicubic", "single label", "4 classes", STAMP)
    assert str(server.service.entries()[0].file.path.parent) not in text
    nonces = {re.search("nonce-([^']+)", a.headers["content-security-policy"])[1]
              for a in (answer, server.get("/"))}  # fmt: skip
    assert len(nonces) == 2


@pytest.mark.long
def test_a_browser_shows_classes_of_two_models_beside_each_other(server, tmp_path):
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium")
    assert found, "this test needs Debian's chromium"
    (tmp_path / "p.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(b"no image")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 420, "height": 900})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address)
        page.get_by_label("Drop an image here").set_input_files(tmp_path / "p.png")
        section = page.locator("#answers section")
        section.locator("li").first.wait_for()
        assert section.count() == 1 and section.locator("li").count() == 4
        assert {*section.locator("li span:nth-child(2)").all_inner_texts()} == {*LABELS}
        share, label = section.locator("li").first.locator("span").all_inner_texts()[:2]
        page.get_by_role("status").filter(has_text=f"a, version 1: {label}, {share}").wait_for()
        page.get_by_label("Beside it").select_option(index=2)
        section.nth(1).wait_for()
        shares = [
            float(text.split()[0]) for text in section.nth(1).locator(".share").all_inner_texts()
        ]
        assert sum(shares) == pytest.approx(100, abs=0.1) and shares == sorted(shares)[::-1]
        page.get_by_label("Model", exact=True).select_option(index=2)
        page.get_by_text("answers no classes").wait_for()
        page.get_by_label("Model", exact=True).select_option(index=0)
        page.get_by_label("Drop an image here").set_input_files(tmp_path / "bad.png")
        page.locator("#answers .bad").first.wait_for()
        assert tells(page.locator("#answers .bad").first.inner_text(), "image 0")
        assert all(url.startswith((server.address, "blob:", "data:")) for url in asked)
        assert [text for text in said if "400" not in text] == []
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(wide)
        # By keyboard alone: everything that can be done can be reached, and shows that it is.
        page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            on = page.evaluate_handle("document.activeElement")
            reached.append(on.evaluate("on => on.id || on.dataset.copy"))
            outline = on.evaluate("on => getComputedStyle(on).outlineStyle")
            assert outline != "none" or not reached[-1]
        assert {"first", "second", "file", "curl", "python"} <= {*reached}
        for name in ("status", "preview"):
            assert page.locator(f"#{name}").count() == 1
        assert page.locator("#status").get_attribute("role") == "status"
        browser.close()
