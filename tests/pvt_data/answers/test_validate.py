"""Accuracy of one model or several: what is counted, what is shared, and what goes on."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from pvt_data.answers import validate_command
from pvt_data.answers.accuracy import Forward, Opened
from pvt_data.answers.commands import Engines
from pvt_data.answers.results import CSV_COLUMNS, class_table, shares, table, to_csv, to_dict
from pvt_data.answers.standings import Identity, Standing, StandingsFile
from pvt_data.answers.validate import Candidate, Options, Validation, validate
from pvt_spec import make_config
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError, ImageError, PvtError
from pvt_spec.model_info import ModelInfo, Preprocessing
from tests.support.messages import naming, tells
from tests.support.models import info_of

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
COUNT = 20


def channels(images: Array) -> dict[str, Array]:
    """Answers how red, green and blue an image is."""
    return {"logits": images.mean(axis=(2, 3))}


def named(*labels: str, size: int = 32) -> ModelInfo:
    config = make_config("pvt_nano", num_classes=len(labels))
    info = info_of(config, "official", *labels)
    return dataclasses.replace(info, preprocessing=Preprocessing((size, size)))


def candidate(
    forward: Forward = channels, name: str = "m.onnx", calls: int = 1, **changes
) -> Candidate:
    info = named("red", "green", "blue", **changes)
    opened = Opened(forward, info, {"framework": "none"}, calls)
    return Candidate(name, opened, f"hash of {name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty images of each colour; every fifth of the green ones is red."""
    for name, colour in COLOURS.items():
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(COUNT):
            wrong = name == "green" and number % 5 == 0
            image = Image.new("RGB", (8, 8), COLOURS["red"] if wrong else colour)
            image.save(tmp_path / "val" / name / f"{number:02}.png")
    return tmp_path / "val"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is read."""
    counts: Counter[str] = Counter()
    from pvt_data.sources.source import Files

    read = Files._read

    def counting(self: Files, index: int) -> bytes:
        counts[self.name(index)] += 1
        return read(self, index)

    monkeypatch.setattr(Files, "_read", counting)
    return counts


def test_what_is_said_of_a_model(folder: Path) -> None:
    (run,) = validate([candidate()], folder, Options(batch_size=7))
    found = shares(run.standing.tally)
    assert found["top1"] == pytest.approx(100 * 56 / 60) and found["top5"] == 100
    # scipy.stats.binomtest(56, 60).proportion_ci(method="wilson")
    assert found["top1_interval"] == pytest.approx([84.0746, 97.3771], abs=1e-4)
    assert found["loss"] > 0 and run.standing.done == 60
    (line,) = table([run])
    assert tells(line, "Top-1 93.33 %", "84.07", "97.38", "Top-5 100.00 %", "60 images", "loss")
    record = to_dict(run, per_class=True)
    assert json.loads(json.dumps(record)) == record
    assert record["images_per_second"] > 0 and record["engine"] == {"framework": "none"}
    assert record["classes"][0] == {
        "index": 0, "label": "red", "count": 20, "top1": 100.0, "top5": 100.0,
        "precision": pytest.approx(100 * 20 / 24),
    }  # fmt: skip
    assert "classes" not in to_dict(run, per_class=False)
    head, red, green, blue = class_table(run)
    assert tells(head, "class", "Top-1", "precision")
    assert tells(red, "red", 20, "83.33 %") and tells(green, "green", "80.00 %", "100.00 %")
    assert tells(blue, "blue", "100.00 %")


def test_several_models_share_the_images_that_they_take_alike(folder: Path, reads) -> None:
    """Each in its own classes' order."""
    other = Candidate(
        "o", Opened(lambda x: channels(x[:, ::-1]), named("blue", "green", "red"), {})
    )
    seen: list[tuple[int, int]] = []
    runs = validate(
        [candidate(), other, candidate(size=64, name="large")],
        folder,
        Options(16),
        lambda *done: seen.append(done),
    )
    assert [run.standing.tally.first for run in runs] == [56, 56, 56]
    assert {*reads.values()} == {2} and len(reads) == 60
    assert seen[-1] == (120, 120) and seen == sorted(seen)
    lines = table(runs)
    assert len(lines) == 4 and tells(lines[2], "o", "93.33 %", "60")


def test_the_csv_is_timms(folder: Path) -> None:
    runs = validate([candidate(name="a b,c.onnx"), candidate(size=64)], folder)
    head, first, second = to_csv(runs).splitlines()
    assert (
        head
        == ("model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation")
        == ",".join(CSV_COLUMNS)
    )
    assert first == '"a b,c.onnx",93.3333,6.6667,100.0,0.0,0.49,32,0.9,bicubic'
    assert second == "m.onnx,93.3333,6.6667,100.0,0.0,0.49,64,0.9,bicubic"


def test_a_limit_takes_images_evenly_from_all_classes(folder: Path) -> None:
    said: list[str] = []
    (run,) = validate([candidate()], folder, Options(limit=6), tell=said.append)
    assert run.standing.tally.by_class[0].tolist() == [2, 2, 2]
    assert len(said) == 1 and tells(said[0], "6 of 60 images")
    said.clear()
    (run,) = validate([candidate()], folder, Options(limit=60), tell=said.append)
    assert run.standing.done == 60 and said == []


def test_tar_files_and_lists_are_taken_as_folders_are(folder: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "val.tar", "w") as tar:
        tar.add(folder, "val")
    paths = sorted(folder.glob("*/*.png"))
    names, numbers = tmp_path / "names.txt", tmp_path / "numbers.csv"
    names.write_text(
        "".join(f"{path.relative_to(tmp_path)} {path.parent.name}\n" for path in paths)
    )
    order = ["red", "green", "blue"]
    numbers.write_text("".join(f"{path},{order.index(path.parent.name)}\n" for path in paths))
    (expected,) = validate([candidate()], folder)
    for data in (tmp_path / "val.tar", names, numbers):
        (run,) = validate([candidate()], data)
        assert run.standing.tally.by_class.tolist() == expected.standing.tally.by_class.tolist()


class TestUnreadable:
    @pytest.mark.parametrize("calls", [1, 3])
    @pytest.mark.parametrize("batch_size", [1, 4, 100])
    def test_images_are_left_out_and_named(self, batch_size: int, calls: int, folder: Path) -> None:
        for number in (0, 5, 6, 18, 19):
            (folder / "red" / f"{number:02}.png").write_bytes(b"no image")
        each = [candidate(calls=calls), candidate(name="b", calls=calls)]
        for run in validate(each, folder, Options(batch_size)):
            assert run.standing.done == 60 and run.standing.tally.count == 55
            assert [Path(name).name for name in run.standing.unreadable] == [
                "00.png", "05.png", "06.png", "18.png", "19.png",
            ]  # fmt: skip

    def test_none_can_be_read(self, folder: Path) -> None:
        for path in folder.glob("*/*.png"):
            path.write_bytes(b"")
        with pytest.raises(ImageError, match=naming(str(folder), "60", "00.png")):
            validate([candidate()], folder)

    def test_files_that_are_not_there(self, folder: Path) -> None:
        (folder / "val.txt").write_text("red/00.png red\nred/99.png red\n")
        (run,) = validate([candidate()], folder / "val.txt")
        ((name, why),) = run.standing.unreadable.items()
        assert name.endswith("99.png") and "No such file" in why


class TestClasses:
    @pytest.mark.parametrize(
        ("text", "facts"),
        [("red/00.png pink\n", ("pink", "red")), ("red/00.png 3\n", ("3", "0 to 2"))],
    )
    def test_others_are_refused(self, text: str, facts: tuple[str, ...], folder: Path) -> None:
        (folder / "val.txt").write_text(text)
        with pytest.raises(ImageError, match=naming(str(folder / "val.txt"), *facts)):
            validate([candidate()], folder / "val.txt")


class TestNoAnswers:
    def broken(self, images: Array) -> dict[str, Array]:
        logits = channels(images)["logits"]
        logits[logits[:, 2] > 1] = np.nan
        return {"logits": logits}

    @pytest.mark.parametrize("calls", [1, 3])
    def test_the_others_go_on(self, calls: int, folder: Path) -> None:
        each = [candidate(self.broken, "bad", calls), candidate(calls=calls)]
        runs = validate(each, folder, Options(8))
        assert runs[1].standing.tally.first == 56
        assert tells(runs[0].error, "no numbers", str(folder / "blue"))
        assert tells(to_dict(runs[0], False)["error"], "no numbers")
        assert "bad" not in "".join([*table(runs), to_csv(runs)])

    def test_of_all_it_is_an_error(self, folder: Path) -> None:
        with pytest.raises(PvtError, match=naming("no numbers")):
            validate([candidate(self.broken)] * 2, folder)


class Interrupting:
    """A model that is interrupted from its batch of some number on."""

    def __init__(self, batch: int):
        self.left = batch

    def __call__(self, images: Array) -> dict[str, Array]:
        self.left -= 1
        if self.left <= 0:
            raise KeyboardInterrupt
        return channels(images)


class TestGoingOn:
    def go(self, folder: Path, path: Path, *candidates: Candidate, **options) -> list[Validation]:
        self.said: list[str] = []
        kept = StandingsFile(path)
        return validate(candidates, folder, Options(8, **options), tell=self.said.append, kept=kept)

    @pytest.mark.parametrize("calls", [1, 3])
    def test_an_interrupted_one_goes_on_and_ends_in_the_same(
        self, calls: int, folder: Path, tmp_path: Path, reads
    ) -> None:
        path = tmp_path / "kept.json"
        (folder / "blue" / "01.png").write_bytes(b"")
        (folder / "red" / "01.png").write_bytes(b"")
        (whole,) = validate([candidate()], folder, Options(8))
        with pytest.raises(KeyboardInterrupt):
            self.go(folder, path, candidate(Interrupting(4), calls=calls))
        reads.clear()
        (run,) = self.go(folder, path, candidate(calls=calls))
        assert tells(self.said[0], "m.onnx", path)
        assert f"{60 - len(reads)} images" in self.said[0]
        # Of calls side by side the interrupted one is not always the last to begin.
        assert 60 - len(reads) in range(0 if calls > 1 else 24, 25, 8)
        assert run.standing.tally.by_class.tolist() == whole.standing.tally.by_class.tolist()
        assert run.standing.tally.loss == whole.standing.tally.loss
        assert dict(run.standing.unreadable) == dict(whole.standing.unreadable)
        reads.clear()
        (again,) = self.go(folder, path, candidate())
        assert not reads and to_dict(again, True) == to_dict(run, True)

    def test_models_that_have_come_to_other_places_go_on_each_from_its_own(
        self, folder: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "kept.json"
        with pytest.raises(KeyboardInterrupt):
            self.go(folder, path, candidate(Interrupting(4)))
        runs = self.go(folder, path, candidate(), candidate(name="b"))
        assert [run.standing.tally.first for run in runs] == [56, 56]
        assert [run.standing.done for run in runs] == [60, 60]

    def test_others_start_anew_and_that_is_said(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "kept.json"
        self.go(folder, path, candidate())
        assert self.said == []
        changed = dataclasses.replace(candidate(), identity="another")
        self.go(folder, path, changed)
        assert tells(self.said[0], "m.onnx", "file")
        (run,) = self.go(folder, path, candidate(), limit=6)
        assert tells(self.said[-1], "m.onnx", "images") and run.standing.done == 6
        (folder / "red" / "99.png").write_bytes((folder / "red" / "02.png").read_bytes())
        (run,) = self.go(folder, path, candidate())
        assert tells(self.said[0], "m.onnx", "images") and run.standing.done == 61

    def test_a_model_of_another_name_is_the_same(self, folder: Path, tmp_path: Path, reads) -> None:
        path = tmp_path / "kept.json"
        self.go(folder, path, candidate())
        reads.clear()
        (run,) = self.go(folder, path, dataclasses.replace(candidate(), name="copy.onnx"))
        assert not reads and run.standing.tally.first == 56
        assert tells(self.said[0], "copy.onnx", "60 images")

    @pytest.mark.parametrize(
        "text", ["", "{}", "[1]", '{"format": 2}', '{"format": 1, "standings": [{}]}']
    )
    def test_other_files_are_refused_and_left(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "kept.json"
        path.write_text(text)
        with pytest.raises(ConvertError, match=naming(str(path))):
            StandingsFile(path)
        assert path.read_text() == text

    def test_counts_that_do_not_add_up_are_refused(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "kept.json"
        self.go(folder, path, candidate())
        good = path.read_text()
        for old, new in (('"done": 60', '"done": 59'), ('"20 20 20"', '"20 20 x"'),
                         ('"20 20 20"', '"20 20"'), ('"20 20 20"', '"20 50 -10"'),
                         ('"20 20 20"', '"20 20\\t20"'),
                         ('"20 16 20"', '"20 99 20"'), ('"seconds": ', '"seconds": -1e308'),
                         ('"model_seconds": ', '"model_seconds": 9'),
                         ('"loss": ', '"loss": -'), ('"24 16 20"', '"24 16 9999"'),
                         ('"24 16 20"', f'"24 16 {"9" * 30}"')):  # fmt: skip
            assert old in good
            path.write_text(good.replace(old, new))
            with pytest.raises(ConvertError, match=naming(str(path))):
                StandingsFile(path)
        for old, new in (('"20 20 20"', '"20 20 20 0"'), ('"24 16 20"', '"24 16 20 0"')):
            assert old in good
            good = good.replace(old, new).replace('"20 16 20"', '"20 16 20 0"')
        path.write_text(good)
        with pytest.raises(ConvertError, match=naming(str(path), "4 classes")):
            self.go(folder, path, candidate())

    @pytest.mark.parametrize("linked", [False, True])
    def test_two_at_once(self, one: Path, linked: bool, tmp_path: Path) -> None:
        mine, theirs = ((Identity(n, n, "images"), Standing()) for n in ("mine", "theirs"))
        early, late = StandingsFile(one), StandingsFile(one)
        if linked:
            (tmp_path / "link.json").symlink_to(one)
            early = StandingsFile(tmp_path / "link.json")
        with (
            early.keeping(lambda: [mine]),
            pytest.raises(ConvertError, match=naming(str(late.path), "process")),
            late.keeping(lambda: [theirs]),
        ):
            pass
        with late.keeping(lambda: [theirs]):
            pass
        kept = json.loads(one.read_text())["standings"]
        assert [each["identity"]["name"] for each in kept][-2:] == ["mine", "theirs"]
        assert [*one.parent.glob(".*.lock")] == []

    @given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_files_are_refused_or_taken(
        self, one: Path, tmp_path: Path, place: int, damage: bytes
    ) -> None:
        path = tmp_path / "damaged.json"
        whole = one.read_bytes()
        place %= len(whole)
        path.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
        try:
            StandingsFile(path)
        except ConvertError as error:
            assert str(path) in str(error)

    @pytest.fixture
    def one(self, folder: Path, tmp_path: Path) -> Path:
        """A file that was kept."""
        self.go(folder, tmp_path / "kept.json", candidate(), limit=6)
        return tmp_path / "kept.json"

    def test_a_file_that_cannot_be_written_is_named_at_once(
        self, folder: Path, tmp_path: Path, reads
    ) -> None:
        with pytest.raises(ConvertError, match=naming("nowhere")):
            self.go(folder, tmp_path / "nowhere" / "kept.json", candidate())
        assert not reads


def test_a_model_that_is_replaced_while_it_is_opened_has_no_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the one that was opened would be kept under the hash of the other."""
    model = tmp_path / "m.onnx"
    model.write_bytes(b"first")

    def open_and_replace(*_: object) -> Opened:
        model.write_bytes(b"another")
        return candidate().opened

    monkeypatch.setattr(validate_command, "open_model", open_and_replace)
    engines = Engines({}, open_and_replace, find=lambda path: (path, ""))
    with pytest.raises(ConvertError, match=naming(str(model), "was written to")):
        validate_command._open(engines, model, None, {}, True)
