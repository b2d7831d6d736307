"""``predict``: images from anywhere to tables of any kind, streamed and gone on with."""

import csv
import io
import json
import os
import tracemalloc
from itertools import islice

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from convert import save_model
from pvt_data.answers.accuracy import Opened
from pvt_data.answers.predict import predict
from pvt_data.answers.rows import FORMATS, Head
from pvt_data.sources.imagenet import imagenet_names
from pvt_data.sources.names import read_names
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import ImageError, Preprocessing, make_config
from pvt_spec.files.growing import growing
from pvt_torch.command_line import main as pvt_torch
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import info_of, random_weights
from tests.support.runtimes import import_mindspore

LABELS = ("ant", 'the "bee"', "cat,\ndog\r", "猫")


def save(path, seed=0, labels=LABELS, **changes):
    import dataclasses

    config = make_config("pvt_nano", **{"num_classes": 4, **changes})
    info = dataclasses.replace(
        info_of(config, "official", *labels), preprocessing=Preprocessing((32, 32), 0.9)
    )
    save_model(path, random_weights(config, seed=seed), info)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight images, one of which is none; names that are awkward."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("a", 'b"quoted",', "c\nline", "d\\x41", "e", "f", "g"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "bad.png").write_text("none")
    return folder


def given(text, *arguments):
    """What a command does with bytes on stdin."""
    return CliRunner().invoke(pvt_onnx, [str(each) for each in arguments], input=text)


def rows(done):
    return list(csv.DictReader(io.StringIO(done.stdout_bytes.decode(), newline="")))


class TestFormats:
    def test_all_say_the_same(self, model, pictures):
        asked = ("predict", model, pictures, "--top-k", 3)
        table, whole, lines, values = (
            invoke(pvt_onnx, *asked, *more) for more in ([], ["--json"], ["--jsonl"], ["--csv"])
        )
        assert {done.exit_code for done in (table, whole, lines, values)} == {1}
        found = json.loads(whole.stdout)
        records = found["images"]
        assert [json.loads(line) for line in lines.stdout.splitlines()] == records
        assert len(records) == 8 and len(table.stdout.splitlines()) == 7
        assert found["model"] == str(model) and found["engine"]["device"] == "CPU"
        for record, row in zip(records, rows(values), strict=True):
            assert row["image"] == record["image"]
            if "error" in record:
                assert row["error"] == record["error"] and not row["label_1"]
                continue
            assert row["error"] == ""
            for number, each in enumerate(record["classes"], 1):
                assert int(row[f"index_{number}"]) == each["index"]
                assert row[f"label_{number}"] == each["label"] == LABELS[each["index"]]
                assert float(row[f"probability_{number}"]) == each["probability"]

    def test_no_more_classes_are_named_than_there_are(self, model, pictures):
        done = invoke(pvt_onnx, "predict", model, pictures / "a.png", "--csv", "--top-k", 9)
        assert [*rows(done)[0]][-2:] == ["probability_4", "error"]

    def test_names_that_are_no_text_are_kept(self, model, pictures, tmp_path):
        name = os.fsencode(tmp_path) + b"/caf\xe9.png"
        with open(pictures / "a.png", "rb") as source, open(name, "wb") as copy:
            copy.write(source.read())
        done = given(name + b"\n", "predict", model, "-", "--csv")
        assert done.exit_code == 0 and name in done.stdout_bytes
        (line,) = given(name + b"\n", "predict", model, "-", "--jsonl").stdout.splitlines()
        assert os.fsencode(json.loads(line)["image"]) == name

    @pytest.mark.parametrize("flags", [["--csv", "--json"], ["--jsonl", "--json"]])
    def test_one_format_is_asked_for(self, model, pictures, flags):
        done = invoke(pvt_onnx, "predict", model, pictures, *flags)
        assert done.exit_code == 2 and tells(done.stderr, *flags)

    def test_an_error_in_place_of_the_first_answer_leaves_nothing(self, model, pictures):
        for flag in ("--json", "--jsonl"):
            done = invoke(pvt_onnx, "predict", model, pictures, "--provider", "cuda", flag)
            assert done.exit_code == 1 and done.stdout == ""

    def test_columns_of_a_long_table_only_become_wider(self):
        record = {"image": "a", "classes": [{"label": "x", "probability": 0.5}]}
        longer = {**record, "image": "longer"}
        many = (longer if number == 150 else record for number in range(300))
        lines = [*FORMATS["table"].write(Head("m", {}, 1, "probability"), many)]
        assert len(lines) == 300
        assert {*map(len, lines[:100])} == {len(lines[0])}
        assert {*map(len, lines[100:])} == {len(lines[150])}


class TestLists:
    @pytest.mark.parametrize("end", ["\n", "\0"])
    def test_names_are_taken_as_they_stand(self, model, pictures, end):
        files = [str(pictures / name) for name in ("a.png", "g.png", 'b"quoted",.png')]
        if end == "\0":
            files.append(str(pictures / "c\nline.png"))
        asked = ("predict", model, "-", "--jsonl", *(["--null"] if end == "\0" else []))
        done = given(end.join(files) + end, *asked)
        assert done.exit_code == 0, done.output
        assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == files
        # The last name may have no end.
        assert given(end.join(files), *asked).stdout == done.stdout

    def test_one_that_is_no_image_is_a_row(self, model, pictures):
        names = ["absent.png", str(pictures), str(pictures / "a*.png"), str(pictures / "a.png")]
        done = given("\n".join(names), "predict", model, "-", "--jsonl")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.exit_code == 1 and [each["image"] for each in found] == names
        assert ["error" in each for each in found] == [True, True, True, False]
        assert all(name in done.stderr for name in names[:3]) and tells(done.stderr, 3, 4)

    def test_beside_others(self, model, pictures):
        first, last = pictures / "a.png", pictures / "e.png"
        done = given(f"{pictures / 'f.png'}\n\n", "predict", model, first, "-", last, "--jsonl")
        found = [json.loads(line)["image"] for line in done.stdout.splitlines()]
        assert found == [str(first), str(pictures / "f.png"), str(last)]

    def test_zero_bytes_need_an_option(self, model):
        done = given(b"a.png\0b.png\0", "predict", model, "-")
        assert done.exit_code == 1 and tells(done.stderr, "stdin", "--null")
        done = given(b"x" * 100_000, "predict", model, "-")
        assert done.exit_code == 1 and tells(done.stderr, "stdin")
        assert invoke(pvt_onnx, "predict", model, "a.png", "--null").exit_code == 2

    def test_an_empty_one_is_said(self, model):
        done = given("", "predict", model, "-", "--json")
        assert done.exit_code == 0 and "no image" in done.stderr
        assert json.loads(done.stdout)["images"] == []

    @pytest.mark.parametrize("null", [False, True])
    def test_a_name_is_there_before_the_next_is_written(self, null):
        read, write = os.pipe()
        with open(read, "rb") as stream:
            names = read_names(stream, null)
            for name in (b"a.png", b"b.png"):
                os.write(write, name + (b"\0" if null else b"\n"))
                assert next(names) == name.decode()
            os.close(write)
            assert [*names] == []


class TestOutput:
    @pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json", ".txt"])
    def test_a_file_has_what_stdout_would_have(self, model, pictures, tmp_path, ending):
        path, form = tmp_path / f"o{ending}", ending.removeprefix(".")
        asked = ("predict", model, pictures)
        printed = invoke(pvt_onnx, *asked, *([] if form == "txt" else [f"--{form}"]))
        done = invoke(pvt_onnx, *asked, "--output", path)
        assert done.exit_code == 1 and done.stdout == ""
        assert path.read_bytes() == printed.stdout_bytes
        assert [*tmp_path.iterdir()] == [path]
        before = path.read_bytes()
        assert tells(refusal(pvt_onnx, *asked, "--output", path), path, "--force")
        assert path.read_bytes() == before
        assert invoke(pvt_onnx, "predict", model, pictures / "a.png", "-o", path, "--force")
        assert len(path.read_bytes()) < len(before)

    def test_the_format_must_be_known(self, model, pictures, tmp_path):
        done = invoke(pvt_onnx, "predict", model, pictures, "--output", tmp_path / "o.dat")
        assert done.exit_code == 2 and tells(done.stderr, "o.dat", "--csv", ".jsonl")
        done = invoke(pvt_onnx, "predict", model, pictures, "--csv", "-o", tmp_path / "o.dat")
        assert done.exit_code == 1 and (tmp_path / "o.dat").read_text().startswith('"image"')

    def test_what_is_read_is_not_written(self, model, pictures, tmp_path):
        copy = tmp_path / "m.onnx"
        copy.write_bytes(model.read_bytes())
        image = tmp_path / "a.png"
        image.write_bytes((pictures / "a.png").read_bytes())
        for target in (copy, image):
            done = invoke(pvt_onnx, "predict", copy, image, "--csv", "-o", target, "--force")
            assert done.exit_code == 1 and tells(done.stderr, target, "source")
        assert copy.read_bytes() == model.read_bytes()

    @pytest.mark.parametrize(
        "options",
        [["--resume"], ["--resume", "-o", "o.json"], ["--resume", "--force", "-o", "o.csv"]],
    )
    def test_options_that_do_not_go_together(self, model, pictures, options):
        assert invoke(pvt_onnx, "predict", model, pictures, *options).exit_code == 2


@pytest.mark.parametrize("form", ["jsonl", "csv"])
class TestResume:
    def run(self, model, pictures, path, *more):
        return invoke(
            pvt_onnx, "predict", model, pictures, "-o", path, "--batch-size", 1, "--resume", *more
        )

    @pytest.mark.sampled
    def test_from_wherever_it_was_stopped(self, form, model, pictures, tmp_path):
        whole = tmp_path / f"whole.{form}"
        assert self.run(model, pictures, whole).exit_code == 1
        data = whole.read_bytes()
        inner = data.index(b"c\nline" if form == "csv" else b"c\\nline") + 3
        for length in (9, *range(99, len(data), len(data) // 6), inner, len(data) - 1, len(data)):
            path = tmp_path / f"o{length}.{form}"
            part = path.with_name(path.name + ".part")
            part.write_bytes(data[:length])
            done = self.run(model, pictures, path)
            assert done.exit_code == 1 and tells(done.stderr, 1, 8), done.stderr
            assert path.read_bytes() == data and not part.exists()

    def test_what_is_there_is_not_answered_again(self, form, model, pictures, tmp_path):
        path = tmp_path / f"o.{form}"
        self.run(model, pictures / "a.png", path)
        (pictures / "z.png").unlink(missing_ok=True)
        done = self.run(model, pictures, path)
        assert tells(done.stderr, "1", "earlier") and done.stderr.count("left out") == 1
        before = path.read_bytes()
        done = self.run(model, pictures, path)
        # The image that could not be read is in it, and still told, with where it is named.
        assert path.read_bytes() == before and done.exit_code == 1 and tells(done.stderr, 1, 8)
        assert tells(done.stderr, "not tried again", path)
        assert "left out" not in done.stderr

    def test_without_the_option_what_is_left_is_kept(self, form, model, pictures, tmp_path):
        path = tmp_path / f"o.{form}"
        part = path.with_name(path.name + ".part")
        part.write_text("something\n")
        message = refusal(pvt_onnx, "predict", model, pictures, "-o", path)
        assert tells(message, part, "--resume", "--force") and part.read_text() == "something\n"
        assert invoke(pvt_onnx, "predict", model, pictures / "a.png", "-o", path, "--force")
        assert path.exists() and not part.exists()

    @pytest.mark.parametrize("text", ["text\n", '{"a": 1}\n', "[]\n", "a,b\n", "no line"])
    def test_another_file_is_left_as_it_is(self, form, model, pictures, tmp_path, text):
        path = tmp_path / f"o.{form}"
        path.write_text(text)
        done = self.run(model, pictures, path)
        assert done.exit_code == 1 and tells(done.stderr, path)
        assert path.read_text() == text and [*tmp_path.iterdir()] == [path]

    @pytest.mark.parametrize("change", ["model", "top-k", "labels"])
    def test_another_models_answers_are_not_mixed(self, form, model, pictures, tmp_path, change):
        path = tmp_path / f"o.{form}"
        self.run(model, pictures / "a.png", path)
        before = path.read_bytes()
        other, more = model, ()
        if change == "top-k":
            more = ("--top-k", 2)
        else:
            labels = LABELS if change == "model" else ("w", "x", "y", "z")
            other = save(tmp_path / "other.onnx", change == "model", labels)
        done = self.run(other, pictures, path, *more)
        assert done.exit_code == 1 and tells(done.stderr, path), done.stderr
        assert path.read_bytes() == before

    def test_a_difference_that_not_every_image_shows_is_found(
        self, form, model, pictures, tmp_path
    ):
        """Of one image alone, those of another orientation were gone on with."""
        path, folder = tmp_path / f"o.{form}", tmp_path / "turned"
        folder.mkdir()
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[:, 32:] = 255
        for name, turned in (("a", 1), ("b", 6)):
            exif = Image.Exif()
            exif[0x0112] = turned
            Image.fromarray(pixels).save(folder / f"{name}.png", exif=exif)
        self.run(model, folder, path)
        before = path.read_bytes()
        done = self.run(model, folder, path, "--orientation", "stored")
        assert done.exit_code == 1 and tells(done.stderr, path, "b.png"), done.stderr
        assert path.read_bytes() == before
        done = self.run(model, folder, path)
        assert done.exit_code == 0 and tells(done.stderr, "first 2 of them answered alike")

    def test_answers_that_cannot_be_checked_are_told(self, form, model, pictures, tmp_path):
        path = tmp_path / f"o.{form}"
        moved = (pictures / "a.png").rename(pictures / "moved.png")
        self.run(model, moved, path)
        moved.rename(pictures / "a.png")
        done = self.run(model, pictures / "a.png", path)
        assert tells(done.stderr, path, "none", "earlier") and done.exit_code == 0

    def test_two_at_once(self, form, model, pictures, tmp_path):
        path = tmp_path / f"o.{form}"
        with growing(path, False, False):
            assert tells(refusal(pvt_onnx, "predict", model, pictures, "-o", path), "process")

    @pytest.mark.sampled
    def test_a_million_names_are_few_bytes_each(self, form, tmp_path):
        from pvt_data.answers.outputs import open_output

        path, head = tmp_path / f"o.{form}", Head("m", {}, 1, "probability")
        classes = [{"index": 0, "label": "x", "probability": 1.0}]
        many = ({"image": f"{'folder/' * 20}{n}.png", "classes": classes} for n in range(20_000))
        with open_output(path, FORMATS[form], head, False, False) as output:
            for text in FORMATS[form].write(head, many):
                output.write(text)
        tracemalloc.start()
        with open_output(path, FORMATS[form], head, False, True) as output:
            used, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(output.names) == 20_000
            assert f"{'folder/' * 20}19999.png" in output.names and "absent" not in output.names
        assert most < 2_000_000 and used < 1_000_000


def test_memory_does_not_grow_with_the_number_of_images(pictures):
    """Records are there while more paths than fit into memory are still to come."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield pictures / "a.png"

    def forward(images):
        return {"logits": np.zeros((len(images), 4), np.float32)}

    info = info_of(make_config("pvt_nano", num_classes=4))
    for form in FORMATS.values():
        taken = 0
        records = predict(Opened(forward, info, {}), endless(), 4, 2, workers=2)
        lines = form.write(Head("m", {}, 2, "probability"), records)
        assert len([*islice(lines, 10)]) == 10
        assert taken < 150  # a table looks at a hundred rows at once


class TestImageNet:
    def test_the_names_are_wordnets_in_the_order_of_its_identifiers(self):
        names = imagenet_names()
        assert len(names) == 1000 and all(names)
        known = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 999: "toilet"}
        assert all(names[index].startswith(name) for index, name in known.items())

    def test_a_model_of_1000_classes_without_names_has_them(self, pictures, tmp_path):
        path = save(tmp_path / "m.onnx", labels=(), num_classes=1000)
        done = invoke(pvt_onnx, "predict", path, pictures / "a.png", "--json", "--top-k", 1)
        ((found,),) = [each["classes"] for each in json.loads(done.stdout)["images"]]
        assert found["label"] == imagenet_names()[found["index"]]
        assert tells(done.stderr, "ImageNet", "--labels")
        # Its own are its own.
        own = save(tmp_path / "own.onnx", labels=[f"n{n}" for n in range(1000)], num_classes=1000)
        done = invoke(pvt_onnx, "predict", own, pictures / "a.png", "--json")
        assert "ImageNet" not in done.stderr and '"label": "n' in done.stdout


class TestEngines:
    def test_each_says_what_ran(self, model, pictures):
        image = pictures / "a.png"
        answers = []
        for main, more, expected in (
            (pvt_onnx, (), "onnxruntime"),
            (pvt_onnx, ("--engine", "openvino", "--threads", 1), "openvino"),
            (pvt_torch, ("--threads", 1), "torch"),
        ):
            done = invoke(main, "predict", model, image, "--json", *more)
            found = json.loads(done.stdout)
            assert found["engine"]["framework"].startswith(expected)
            assert f"runs in {expected}" in done.stderr
            # On several cores that is of each call.
            assert not more or found["engine"]["threads"].split()[0] == "1"
            answers.append([each["probability"] for each in found["images"][0]["classes"]])
        assert answers[0] == pytest.approx(answers[1], abs=1e-5)
        assert answers[0] == pytest.approx(answers[2], abs=1e-5)

    @pytest.mark.long
    def test_mindspore_takes_the_same_words(self, model, pictures):
        import_mindspore()
        from pvt_ms.command_line import main as pvt_ms

        asked = ("predict", model, pictures / "a.png", "--json")
        expected = json.loads(invoke(pvt_onnx, *asked).stdout)["images"][0]["classes"]
        for more, mode in (((), "pynative"), (("--engine", "mindspore-graph"), "graph")):
            done = invoke(pvt_ms, *asked, *more, "--provider", "cpu")
            assert done.exit_code == 0, done.output
            found = json.loads(done.stdout)
            assert found["engine"]["mode"] == mode and found["engine"]["precision"] == "fp32"
            for ours, theirs in zip(expected, found["images"][0]["classes"], strict=True):
                assert ours["label"] == theirs["label"]
                assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
        for more in (("--provider", "cann"), ("--precision", "hf32-conv")):
            assert "Ascend" in invoke(pvt_ms, *asked, *more).stderr
        assert invoke(pvt_ms, *asked, "--provider", "tensorrt").exit_code == 2

    @pytest.mark.parametrize(
        "options, words",
        [
            (("--provider", "cuda"), ("cuda", "onnxruntime-gpu")),
            (("--precision", "bf16"), ("bf16", "onnxruntime", "fp32")),
            (("--engine", "openvino", "--provider", "cann"), ("cann", "openvino")),
        ],
        ids=str,
    )
    def test_what_cannot_be_had_is_one_line(self, model, pictures, options, words):
        assert tells(refusal(pvt_onnx, "predict", model, pictures, *options), *words)

    @pytest.mark.parametrize(
        "options", [("--threads", 0), ("--engine", "x"), ("--provider", "x"), ("--precision", "x")]
    )
    def test_what_is_none_is_wrong_usage(self, model, pictures, options):
        done = invoke(pvt_onnx, "predict", model, pictures, *options)
        assert done.exit_code == 2 and tells(done.stderr, options[0])

    def test_sizes_are_chosen_where_the_graph_takes_any(self, model, pictures, tmp_path):
        asked = ("--image-size", "64x48")
        message = refusal(pvt_onnx, "predict", model, pictures, *asked)
        assert tells(message, "32x32", "64x48", "--dynamic-size")
        assert tells(refusal(pvt_onnx, "predict", model, pictures, "--image-size", 8), 8)
        assert tells(refusal(pvt_onnx, "predict", model, pictures, "--image-size", ""), "''")
        done = invoke(pvt_torch, "predict", model, pictures / "a.png", *asked)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_calls_side_by_side_answer_as_one_after_the_other(engine, model, pictures, monkeypatch):
    asked = (pvt_onnx, "predict", model, pictures, "--engine", engine, "--json")
    monkeypatch.setattr("pvt_onnx.engines.options.usable_cores", lambda: 3)
    several = invoke(*asked)
    monkeypatch.setattr("pvt_onnx.engines.options.usable_cores", lambda: 1)
    one = invoke(*asked, "--threads", 1)
    assert several.exit_code == one.exit_code == 1  # of an image that is none
    found, expected = (json.loads(done.stdout) for done in (several, one))
    assert tells(several.stderr, "1 for each of 3 calls", "bad.png", "1 of 8 images")
    assert found["engine"].pop("threads") == "1 for each of 3 calls"
    assert expected["engine"].pop("threads") == "1"
    for record in (*found["images"], *expected["images"]):
        for each in record.get("classes", ()):
            each["probability"] = pytest.approx(each["probability"], abs=1e-6)
    assert found == expected


def test_bad_images_are_named_when_they_are_met(pictures):
    info = info_of(make_config("pvt_nano", num_classes=4))
    with pytest.raises(ImageError, match=naming("stdin")):
        [*read_names(io.BytesIO(b"a\0b\n"))]
    records = [*predict(Opened(lambda images: {}, info, {}), [pictures / "bad.png"], 1, 1)]
    assert records[0]["image"] == str(pictures / "bad.png") and records[0]["error"]
