"""Published datasets: small files written here in their documented formats, and what is broken refused in words."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neurocompress.data import Events, events_to_spikes
from neurocompress.data.aedat import read_aedat2, read_aedat3
from neurocompress.data.datasets import (
    ASL_CLASSES,
    ASL_DVS,
    CIFAR10_CLASSES,
    CIFAR10_DVS,
    asl_dvs,
    cifar10_dvs,
    downsized,
    dvs128_gesture,
    nmnist,
    read_asl,
    tonic_recordings,
)
from neurocompress.data.images import IMAGENET_MEAN, IMAGENET_STD, cifar100, direct_coding, image_folder
from neurocompress.errors import Refused

Row = tuple[int, int, int, int]  # x, y, polarity, microseconds


def listed(events: Events) -> list[Row]:
    return list(zip(*(a.tolist() for a in (events.x, events.y, events.p, events.t_us)), strict=True))


def aedat2(rows: list[Row], header: str = "#!AER-DAT2.0\r\n# A DVS128 recording\r\n") -> bytes:
    """jAER: bit 0 is 1 for OFF, bits 1-7 column, 8-14 row; the sensor's column is the image's row, from the end."""
    words = b"".join(struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | 1 - p, t) for x, y, p, t in rows)
    return header.encode() + words


def packet(rows: list[Row], overflow: int = 0, kind: int = 1, invalid: tuple[int, ...] = ()) -> bytes:
    """AEDAT 3.1: header of 28 bytes, then 32 bits of valid, polarity, y, x and 32 of microseconds, little-endian."""
    head = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(rows), len(rows), len(rows) - len(invalid))
    return head + b"".join(
        struct.pack("<II", x << 17 | y << 2 | p << 1 | (i not in invalid), t) for i, (x, y, p, t) in enumerate(rows))


AEDAT3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"


def mat5(compress: bool = False, **arrays: list[int]) -> bytes:
    """MATLAB 5: a header of 128 bytes, then one matrix element of doubles (n, 1) for each name."""
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    out = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    for name, values in arrays.items():
        body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", len(values), 1))
        body += element(1, name.encode()) + element(9, struct.pack(f"<{len(values)}d", *values))
        packed = zlib.compress(element(14, body))
        out += struct.pack("<II", 15, len(packed)) + packed if compress else element(14, body)
    return out


rows128 = st.lists(st.tuples(
    st.integers(0, 127), st.integers(0, 127), st.integers(0, 1), st.integers(0, 2**31 - 1)), max_size=10)


@given(rows128, rows128, st.integers(0, 3))
def test_any_events_of_aedat(tmp_path_factory: pytest.TempPathFactory, first: list[Row], second: list[Row],
                             overflow: int) -> None:
    path = tmp_path_factory.mktemp("a") / "a.aedat"
    path.write_bytes(aedat2(first))
    assert listed(read_aedat2(path)) == first
    path.write_bytes(AEDAT3 + packet(first) + packet([(1, 1, 1, 1)], kind=0) + packet(second, overflow))
    assert listed(read_aedat3(path)) == first + [(x, y, p, t + overflow * 2**31) for x, y, p, t in second]


def test_aedat2_by_hand_and_external_events(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"#!AER-DAT2.0\r\n" + bytes([0, 0, 0x01, 0x05, 0, 0, 0, 7, 0, 0, 0x80, 0, 0, 0, 0, 8]))
    assert listed(read_aedat2(tmp_path / "a")) == [(126, 125, 0, 7)]  # row 1, column 2, OFF; bit 15 is no pixel


def test_events_marked_invalid_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(AEDAT3 + packet([(1, 2, 1, 3), (4, 5, 0, 6), (7, 8, 1, 9)], invalid=(1,)))
    assert listed(read_aedat3(tmp_path / "a")) == [(1, 2, 1, 3), (7, 8, 1, 9)]


@pytest.mark.parametrize(("data", "read", "said"), [
    (b"", read_aedat2, "does not begin with '#!AER-DAT'"),
    (b"nothing", read_aedat3, "does not begin with"),
    (AEDAT3, read_aedat2, "it is AEDAT 3.1, expected 2.0"),
    (aedat2([]), read_aedat3, "it is AEDAT 2.0, expected 3.1"),
    (aedat2([(1, 1, 1, 1)])[:-1], read_aedat2, "7 bytes of events"),
    (aedat2([]) + struct.pack(">IIII", 5, 0, 1 << 16, 0), read_aedat2, "event 1 has an address beyond 16 bits"),
    (AEDAT3 + packet([(1, 1, 1, 1)])[:20], read_aedat3, "header has 20 bytes of 28"),
    (AEDAT3 + packet([(1, 1, 1, 1)])[:-3], read_aedat3, "last packet has 5 bytes of 8"),
    (AEDAT3 + struct.pack("<hhiiiiii", 1, 1, -8, 4, 0, 1, 1, 1), read_aedat3, "byte 0 makes no sense"),
    (AEDAT3 + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 1, 2, 1), read_aedat3, "byte 0 makes no sense"),
])
def test_broken_aedat_is_refused(tmp_path: Path, data: bytes, read: type, said: str) -> None:
    (tmp_path / "a.aedat").write_bytes(data)
    with pytest.raises(Refused, match=said):
        read(tmp_path / "a.aedat")


def test_nmnist_reads_its_two_folders(tmp_path: Path) -> None:
    for part, digit, x in (("Train", 3, 5), ("Test", 8, 6)):
        (tmp_path / part / str(digit)).mkdir(parents=True)
        (tmp_path / part / str(digit) / "00001.bin").write_bytes(struct.pack(">Q", x << 32 | 7 << 24 | 1 << 23 | 9)[3:])
    for train, digit, x in ((True, 3, 5), (False, 8, 6)):
        found = nmnist(tmp_path, train)
        assert found.labels is not None
        assert found.labels.tolist() == [digit]
        assert listed(found.read(0)) == [(x, 7, 1, 9)]
    with pytest.raises(Refused, match="no folder 'Train'"):
        nmnist(tmp_path / "Train", True)


def test_cifar10_dvs_keeps_the_last_tenth_of_each_class_for_tests(tmp_path: Path) -> None:
    for c, name in enumerate(CIFAR10_CLASSES):
        (tmp_path / name).mkdir()
        for i in range(10):
            rows = [(c, i, 1, 1000 + i), (127, 1, 0, 3000)]
            (tmp_path / name / f"cifar10_{name}_{i}.aedat").write_bytes(aedat2(rows))
    train, test = cifar10_dvs(tmp_path, True), cifar10_dvs(tmp_path, False)
    assert (train.count, test.count) == (90, 10)
    assert train.labels is not None
    assert train.labels.tolist() == list(range(10)) * 9
    assert [listed(e)[0] for e in test] == [(c, 9, 1, 0) for c in range(10)]  # times from the first event
    small = events_to_spikes(downsized(test, 2).chosen([3]), "number", 2, (2, 64, 64))
    assert np.argwhere(small.spikes).tolist() == [[0, 0, 1, 4, 1], [0, 1, 0, 0, 63]]
    assert events_to_spikes(test, "time", 20, CIFAR10_DVS).spikes.shape == (10, 20, 2, 128, 128)
    for file in (tmp_path / "cat").iterdir():
        file.unlink()
    with pytest.raises(Refused, match=r"no .aedat files of cat"):
        cifar10_dvs(tmp_path, True)


def gestures(folder: Path) -> None:
    (folder / "trials_to_train.txt").write_text("user01_led.aedat\nuser02_led.aedat\n\n")
    (folder / "trials_to_test.txt").write_text("user03_lab.aedat\n")
    for k, name in enumerate(("user01_led", "user02_led", "user03_lab")):
        rows = [(k, t // 100, 1, t) for t in range(0, 1000, 100)]
        (folder / f"{name}.aedat").write_bytes(AEDAT3 + packet(rows[:4]) + packet(rows[4:]))
        (folder / f"{name}_labels.csv").write_text("class,startTime_usec,endTime_usec\n2,100,300\n11,850,2000\n")


@pytest.mark.parametrize("inside", ["", "DvsGesture"])
def test_dvs128_gesture_is_cut_at_its_labels(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    gestures(tmp_path / inside)
    train, test = dvs128_gesture(tmp_path, True), dvs128_gesture(tmp_path, False)
    assert train.labels is not None
    assert train.labels.tolist() == [1, 10, 1, 10]
    assert [listed(e) for e in train][:3] == [[(0, 1, 1, 0), (0, 2, 1, 100)], [(0, 9, 1, 50)],
                                              [(1, 1, 1, 0), (1, 2, 1, 100)]]
    assert [len(e.x) for e in test] == [2, 1]


def test_broken_gestures_are_all_named(tmp_path: Path) -> None:
    gestures(tmp_path)
    (tmp_path / "user01_led_labels.csv").write_text("class,start,end\n12,0,1\n\n1,5\n1,0,1\n")
    (tmp_path / "user02_led.aedat").unlink()
    with pytest.raises(Refused) as caught:
        dvs128_gesture(tmp_path, True)
    said = [str(p) for p in caught.value.problems]
    assert len(said) == 3
    assert "line 2: it says '12,0,1'" in said[0]
    assert "line 4: it says '1,5'" in said[1]
    assert "user02_led.aedat: there is no such file" in said[2]
    (tmp_path / "trials_to_test.txt").write_text("../../etc/passwd\n")  # names files of this folder only
    with pytest.raises(Refused, match=f"{tmp_path.name}/passwd: there is no such file"):
        dvs128_gesture(tmp_path, False)
    (tmp_path / "trials_to_train.txt").unlink()
    with pytest.raises(Refused, match=r"no trials_to_train.txt"):
        dvs128_gesture(tmp_path, True)


@pytest.mark.parametrize("compress", [False, True])
def test_asl_recordings_stand_upright(tmp_path: Path, compress: bool) -> None:
    (tmp_path / "a.mat").write_bytes(mat5(compress, ts=[50, 90], x=[239, 0], y=[179, 10], pol=[1, 0]))
    assert listed(read_asl(tmp_path / "a.mat")) == [(0, 0, 1, 0), (239, 169, 0, 40)]


def test_asl_dvs_is_split_at_random_once(tmp_path: Path) -> None:
    for c, name in enumerate(ASL_CLASSES):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{name}_{i:04}.mat").write_bytes(mat5(ts=[0], x=[239 - c], y=[179 - i], pol=[1]))
    parts = [asl_dvs(tmp_path, train) for train in (True, False)]
    assert [p.count for p in parts] == [24 * 8, 24 * 2]
    seen = [{listed(e)[0][:2] for e in part} for part in parts]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {(c, i) for c in range(24) for i in range(10)}
    assert len({i for _, i in seen[1]}) > 2  # not the last files of every class
    assert [[listed(e)[0][:2] for e in asl_dvs(tmp_path, False)]] == [[listed(e)[0][:2] for e in parts[1]]]
    assert events_to_spikes(parts[1].chosen([0]), "number", 30, ASL_DVS).spikes.sum() == 1


@pytest.mark.parametrize(("data", "said"), [
    (b"", "can not be read as a MATLAB 5 file"),
    (b"x" * 500, "can not be read"),
    (mat5(ts=[1], x=[1], y=[1], pol=[1])[:-20], "can not be read"),
    (mat5(True, ts=[1], x=[1], y=[1], pol=[1])[:-9], "can not be read"),
    (mat5(ts=[1], x=[1]), "holds no array y, pol"),
    (mat5(ts=[1, 2], x=[1], y=[1], pol=[1]), "rows of numbers of one length"),
    (mat5(ts=[1], x=[1], y=[1], pol=[1]).replace(struct.pack("<ii", 1, 1), struct.pack("<ii", 2**30, 1), 1),
     "at most 125000000 events|can not be read"),
])
def test_broken_asl_recordings_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(Refused, match=said):
        read_asl(tmp_path / "a.mat")


def test_tonic_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tonic", None)  # not installed
    with pytest.raises(Refused, match=r"pip install 'neurocompress\[tonic\]'"):
        tonic_recordings("NMNIST", tmp_path, True)
    dtype = [("x", int), ("y", int), ("t", int), ("p", int)]

    class NMNIST:
        def __init__(self, save_to: str, train: bool = True):
            self.targets = [4 if train else 5]
            assert save_to == str(tmp_path)

        def __len__(self) -> int:
            return 1

        def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
            return np.array([(1, 2, 3, 0)], dtype), self.targets[i]

    tonic = ModuleType("tonic")
    tonic.datasets = ModuleType("tonic.datasets")  # type: ignore[attr-defined]
    tonic.datasets.NMNIST = NMNIST  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tonic", tonic)
    found = tonic_recordings("NMNIST", tmp_path, False)
    assert found.labels is not None
    assert (found.labels.tolist(), listed(found.read(0))) == ([5], [(1, 2, 0, 3)])
    with pytest.raises(Refused, match="no dataset 'N-MNIST'"):
        tonic_recordings("N-MNIST", tmp_path)


def test_cifar100_binary(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    for name, labels in (("train.bin", [7, 99, 0]), ("test.bin", [5])):
        (tmp_path / name).write_bytes(b"".join(
            struct.pack("BB", 19, label) + image.tobytes() for label, image in zip(labels, pixels, strict=False)))
    train = cifar100(tmp_path, True)
    assert train.labels.tolist() == [7, 99, 0]
    data = direct_coding(train.chosen([2, 0]), 5)
    assert data.spikes.shape == (2, 5, 3, 32, 32)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 7]
    for k, i in enumerate((2, 0)):
        for c, (mean, std) in enumerate(((0.5071, 0.2675), (0.4867, 0.2565), (0.4408, 0.2761))):
            want = (pixels[i, c].astype(float) / 255 - mean) / std
            for t in range(5):
                np.testing.assert_allclose(data.spikes[k, t, c], want, atol=1e-5)
    assert cifar100(tmp_path, False).count == 1
    (tmp_path / "test.bin").write_bytes((tmp_path / "test.bin").read_bytes()[:-1])
    with pytest.raises(Refused, match="3073 bytes are no whole number of images of 3074"):
        cifar100(tmp_path, False)
    (tmp_path / "test.bin").write_bytes(struct.pack("BB", 0, 100) + bytes(3072))
    with pytest.raises(Refused, match="image 0 has class 100"):
        cifar100(tmp_path, False)
    with pytest.raises(Refused, match=r"cifar-100-binary.tar.gz"):
        cifar100(tmp_path / "none", True)


def normalised(pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) from 0 to 255 as (3, height, width), in float64."""
    return np.stack([(pixels[..., c] / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)])


def triangle(values: np.ndarray, size: int) -> np.ndarray:
    """Rows of `values` resized to `size`: each the weighted mean of those under a triangle as wide as two new rows."""
    old = len(values)
    scale = old / size
    result = np.zeros((size, *values.shape[1:]))
    for i in range(size):
        weights = np.clip(1 - np.abs((np.arange(old) + 0.5) - (i + 0.5) * scale) / max(scale, 1), 0, None)
        result[i] = np.tensordot(weights / weights.sum(), values, 1)
    return result


def test_image_folders_are_cut_from_the_centre_and_numbered_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tall = rng.integers(0, 256, (300, 256, 3), dtype=np.uint8)
    wide = rng.integers(0, 256, (96, 130, 3), dtype=np.uint8)
    for name in ("n02", "n01"):
        (tmp_path / name).mkdir()
    Image.fromarray(tall).save(tmp_path / "n02" / "a.PNG")
    Image.fromarray(wide).save(tmp_path / "n01" / "b.webp", lossless=True)
    Image.new("L", (300, 300), 51).save(tmp_path / "n01" / "c.jpg", quality=100)
    (tmp_path / "n01" / "notes.txt").write_text("no image")
    images = image_folder(tmp_path)
    assert images.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(images.read(1), normalised(tall[38:262, 16:240].astype(float)), atol=1e-5)
    np.testing.assert_allclose(images.read(2), np.broadcast_to(normalised(np.full((1, 1, 3), 51.0)), (3, 224, 224)),
                               atol=0.02)
    small = image_folder(tmp_path, size=24, resize=32).read(0)  # 96 x 130 becomes 32 x 43; the middle 24 x 24 is kept
    scaled = triangle(triangle(wide.astype(float), 32).transpose(1, 0, 2), 43).transpose(1, 0, 2)
    want = normalised(scaled[4:28, round((43 - 24) / 2) :][:, :24])
    np.testing.assert_allclose(small, want, atol=1.5 / 255 / min(IMAGENET_STD))  # Pillow rounds each pass to 8 bits


def test_broken_images_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "a" / "1.png")
    with pytest.raises(Refused, match="no images of b"):
        image_folder(tmp_path)
    png = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "b" / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "b" / "no.png").write_bytes(b"no image")
    head = struct.pack(">II5B", 30000, 30000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "b" / "z.png").write_bytes(huge + png[33:])
    images = image_folder(tmp_path)
    for i, said in ((1, "cut.png: it can not be read"), (2, "no.png: it can not be read"), (3, "z.png: it")):
        with pytest.raises(Refused, match=said):
            images.read(i)
    with pytest.raises(Refused, match="0 steps"):
        direct_coding(images, 0)
    with pytest.raises(Refused, match="no such folder"):
        image_folder(tmp_path / "none")
    with pytest.raises(Refused, match="no 300 pixels can be cut out of 256"):
        image_folder(tmp_path, 300)
