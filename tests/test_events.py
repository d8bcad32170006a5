"""Event recordings: formats byte by byte, frames against plain loops, and every broken recording named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompress.data import Events, events_to_spikes, frames, from_tonic, load_events
from neurocompress.data.events import read_bits40
from neurocompress.errors import Refused


def event(x: int, y: int, p: int, t: int) -> bytes:
    """One event as the N-MNIST page describes it: bit 39-32 x, 31-24 y, 23 polarity, 22-0 microseconds."""
    return struct.pack(">Q", x << 32 | y << 24 | p << 23 | t)[3:]


def listed(events: Events) -> list[tuple[int, ...]]:
    return list(zip(*(a.tolist() for a in (events.x, events.y, events.p, events.t_us)), strict=True))


def test_forty_bits_by_hand() -> None:
    assert listed(read_bits40(bytes([10, 30, 0x80, 0x01, 0x02]))) == [(10, 30, 1, 258)]
    assert listed(read_bits40(bytes([33, 0, 0x7F, 0xFF, 0xFF]))) == [(33, 0, 0, 2**23 - 1)]
    assert listed(read_bits40(b"")) == []


@given(st.lists(st.tuples(
    st.integers(0, 255), st.integers(0, 239), st.integers(0, 1), st.integers(0, 2**23 - 1)), max_size=20))
def test_forty_bits_of_any_event(rows: list[tuple[int, int, int, int]]) -> None:
    data = b"".join(event(*row) for row in rows)
    assert listed(read_bits40(data)) == rows
    assert listed(read_bits40(data, overflow=True)) == rows


def test_the_clock_runs_over_at_row_240_of_a_bin_file_only(tmp_path: Path) -> None:
    rows = [(1, 2, 1, 5), (0, 240, 0, 0), (3, 4, 0, 7), (0, 240, 1, 9), (0, 240, 1, 9), (5, 6, 1, 11)]
    for name in ("a.bin", "a.bs2"):
        (tmp_path / name).write_bytes(b"".join(event(*row) for row in rows))
    (events,) = load_events(tmp_path / "a.bin")
    assert listed(events) == [(1, 2, 1, 5), (3, 4, 0, 7 + 8192), (5, 6, 1, 11 + 3 * 8192)]
    (events,) = load_events(tmp_path / "a.bs2")
    assert listed(events) == rows


def test_frames_put_every_event_into_its_step_pixel_and_channel() -> None:
    events = Events(*(np.array(a) for a in ([3, 3, 0, 3], [1, 1, 2, 1], [1, 1, 0, 1], [0, 999, 1000, 2000])))
    got = frames(events, (2, 4, 5), 1e-3, 2)
    want = np.zeros((2, 2, 4, 5), np.uint8)
    want[0, 1, 1, 3] = 2
    want[1, 0, 2, 0] = 1
    np.testing.assert_array_equal(got, want)  # the event at 2000 us comes after the last step
    assert frames(events, (2, 4, 5), 1e-3, 2, binary=True).max() == 1
    merged = frames(events, (1, 4, 5), 1e-3, 3)
    assert merged.sum() == 4
    assert merged.shape == (3, 1, 4, 5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 1), st.integers(0, 5000)), max_size=40),
    st.sampled_from([1e-3, 1e-4, 0.3e-3, 7e-6, 1.0]), st.integers(1, 20), st.booleans(),
)
def test_frames_equal_a_plain_loop(
    rows: list[tuple[int, int, int, int]], dt: float, steps: int, binary: bool
) -> None:
    want = np.zeros((steps, 2, 4, 6), int)
    for x, y, p, t in rows:
        k = int(t // round(dt * 1e6))
        if k < steps:
            want[k, p, y, x] = 1 if binary else want[k, p, y, x] + 1
    events = Events(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)
    np.testing.assert_array_equal(frames(events, (2, 4, 6), dt, steps, binary), want)


def test_a_dt_of_no_whole_microseconds() -> None:
    events = Events(*(np.array(a) for a in ([0] * 3, [0] * 3, [0] * 3, [2, 3, 5])))
    np.testing.assert_array_equal(frames(events, (1, 1, 1), 2.5e-6, 3).ravel(), [1, 1, 1])


def test_more_than_255_events_are_refused_and_never_wrap() -> None:
    n = 256
    events = Events(np.zeros(n, int), np.zeros(n, int), np.zeros(n, int), np.zeros(n, int))
    with pytest.raises(Refused, match=r"256 events of one pixel.*holds 255.*binary"):
        frames(events, (2, 1, 1), 1e-3, 1)
    assert frames(events, (2, 1, 1), 1e-3, 1, binary=True).tolist() == [[[[1]], [[0]]]]
    fewer = Events(events.x[1:], events.y[1:], events.p[1:], events.t_us[1:])
    assert frames(fewer, (2, 1, 1), 1e-3, 1).max() == 255


def test_events_outside_the_sensor_are_refused_with_every_reason() -> None:
    events = Events(*(np.array([v]) for v in (34, -1, 2, -5)))
    with pytest.raises(Refused) as caught:
        frames(events, (2, 34, 34), 1e-3, 10)
    said = [str(p) for p in caught.value.problems]
    assert [s.split(" ")[0] for s in said] == ["x", "y", "polarity", "time"]
    for bad in ({"dt": 0.0}, {"dt": float("nan")}, {"dt": 1e-300}, {"dt": 1e300}, {"steps": 0}, {"shape": (34, 34)}):
        with pytest.raises(Refused, match="frames of shape"):
            frames(events, **({"shape": (2, 34, 34), "dt": 1e-3, "steps": 1} | bad))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(1, 12), st.sampled_from(["number", "time"]))
def test_a_recording_cut_into_frames_equals_a_plain_loop(times: list[int], steps: int, split: str) -> None:
    times.sort()
    want = [0] * steps
    for i, t in enumerate(times):
        part = len(times) // steps if split == "number" else (times[-1] - times[0]) // steps
        at = i if split == "number" else t - times[0]
        want[next((k for k in range(steps - 1) if k * part <= at < (k + 1) * part), steps - 1)] += 1
    if split == "time" and times and times[-1] - times[0] < steps:
        return  # frames of no length: where the events go is no question of the format
    zeros = np.zeros(len(times), np.int64)
    events = Events(zeros, zeros, zeros, np.array(times, np.int64))
    np.testing.assert_array_equal(frames(events, (1, 1, 1), split, steps).ravel(), want)  # type: ignore[arg-type]


def test_a_long_frame_may_count_more_than_255_events(tmp_path: Path) -> None:
    (tmp_path / "a.bs2").write_bytes(event(1, 2, 1, 100) * 10)
    (tmp_path / "b.bs2").write_bytes(event(1, 2, 1, 100) * 700)
    data = events_to_spikes(tmp_path, "number", 2)
    assert data.spikes.dtype == np.int16
    assert data.spikes[:, :, 1, 2, 1].tolist() == [[5, 5], [350, 350]]
    assert data.name.endswith(": 2 frames per recording, split by number")
    assert events_to_spikes(tmp_path, "time", 2, binary=True).spikes.dtype == np.uint8


def test_recordings_can_be_chosen() -> None:
    dataset = [(np.array([(i, 0, 0, 0)], [("x", int), ("y", int), ("t", int), ("p", int)]), 9 - i) for i in range(4)]
    chosen = from_tonic(dataset).chosen([2, 0])
    assert [listed(e)[0][0] for e in chosen] == [2, 0]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [7, 9]


def test_a_folder_of_classes_gives_labels_in_the_order_of_file_names(tmp_path: Path) -> None:
    for label, names in {"0": ["00007", "00001"], "3": ["00002"], "notes": ["00000"]}.items():
        (tmp_path / label).mkdir()
        for name in names:
            (tmp_path / label / f"{name}.bin").write_bytes(event(int(name), 0, 1, 1500))
    data = events_to_spikes(tmp_path, 1e-3, 2)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 3, 0]
    assert data.spikes.shape == (3, 2, 2, 34, 34)
    assert [tuple(map(int, np.argwhere(s)[0])) for s in data.spikes] == [(1, 1, 0, x) for x in (1, 2, 7)]
    limited = events_to_spikes(tmp_path, 1e-3, 2, limit=2)
    assert limited.labels is not None
    assert limited.labels.tolist() == [0, 3]
    assert limited.spikes.shape[0] == 2
    assert events_to_spikes(tmp_path / "0", 1e-3, 2).labels is None


def test_a_single_file_and_what_comes_too_late_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.bs2").write_bytes(event(1, 2, 1, 100) + event(1, 2, 1, 900_000))
    data = events_to_spikes(tmp_path / "a.bs2", 1e-3, 10, binary=True)
    assert data.spikes.sum() == 1
    assert data.labels is None
    assert data.name == "a.bs2: 10 binary frames of 1 ms, 50 % of the events come later"


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.bin").write_bytes(b"1234")
    (tmp_path / "a.aedat").write_bytes(b"")
    for source, said in (("none", "no such file or folder"), ("empty", "holds no .bin"), ("cut.bin", "4 bytes are no"),
                         ("a.aedat", "'.aedat' is no known event format")):
        with pytest.raises(Refused, match=said):
            events_to_spikes(tmp_path / source, 1e-3, 10)
    with pytest.raises(Refused, match="GiB"):
        events_to_spikes(from_tonic([(None, 0)] * 10**6), 1e-3, 1000)
    with pytest.raises(Refused, match="limit"):
        load_events(tmp_path / "cut.bin", limit=0)


def test_every_broken_recording_is_named_up_to_a_number(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    for i in range(30):
        (tmp_path / "1" / f"{i:02}.bin").write_bytes(event(50, 0, 0, 0) if i % 2 else b"123")
    with pytest.raises(Refused) as caught:
        events_to_spikes(tmp_path, 1e-3, 10)
    said = [str(p) for p in caught.value.problems]
    assert len(said) == 21
    assert "00.bin" in said[0]
    assert "recording 1: x runs from 50 to 50, expected 0 to 33" in said[1]
    assert "10 more recordings" in said[-1]


def flat(**changed: object) -> dict[str, np.ndarray]:
    arrays = {
        "x": np.array([1, 2, 3], np.uint8), "y": np.array([4, 5, 6], np.uint8), "p": np.array([0, 1, 1], np.uint8),
        "dt_us": np.array([10, 65000, 3], np.uint16), "offsets": np.array([0, 2, 3]), "labels": np.array([7, 8]),
    }
    return {name: np.asarray(values) for name, values in (arrays | changed).items() if values is not None}


def test_a_flat_file_holds_time_differences_within_each_recording(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **flat())
    recordings = load_events(tmp_path / "a.npz")
    assert [listed(e) for e in recordings] == [[(1, 4, 0, 10), (2, 5, 1, 65010)], [(3, 6, 1, 3)]]
    assert recordings.labels is not None
    assert recordings.labels.tolist() == [7, 8]


@pytest.mark.parametrize(("changed", "said"), [
    ({"x": None}, "no array 'x'"),
    ({"x": [1.0, 2.0, 3.0]}, "float64 values of shape"),
    ({"y": [1, 2]}, "different lengths: 3, 2, 3, 3"),
    ({"offsets": [0, 2, 4]}, "rise from 0"),
    ({"offsets": [0, 3, 2, 3]}, "rise from 0"),
    ({"labels": [1]}, "1 labels for 2"),
])
def test_a_malformed_flat_file_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    np.savez(tmp_path / "a.npz", **flat(**changed))
    with pytest.raises(Refused, match=said):
        load_events(tmp_path / "a.npz")


class Tonic(list):  # type: ignore[type-arg]
    """What a tonic dataset is to a reader: pairs, and all labels as `targets`."""

    @property
    def targets(self) -> list[int]:
        return [label for _, label in self]


def test_a_tonic_dataset_is_read_by_its_field_names() -> None:
    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", bool)])
    dataset = Tonic([(np.array([(3, 1, 2500, True)], dtype), 4), (np.array([(0, 0, 0, False)], dtype), 9)])
    data = events_to_spikes(from_tonic(dataset, "NMNIST"), 1e-3, 3, shape=(2, 2, 4))
    assert np.argwhere(data.spikes).tolist() == [[0, 2, 1, 1, 3], [1, 0, 0, 0, 0]]
    assert data.labels is not None
    assert data.labels.tolist() == [4, 9]
    assert events_to_spikes(from_tonic(list(dataset), limit=1), 1e-3, 3, shape=(2, 2, 4)).samples == 1


@pytest.mark.shared
def test_frames_of_real_recordings_equal_the_description_that_came_with_them(shared: Path) -> None:
    data = events_to_spikes(shared / "data" / "nmnist_800.npz", 1e-3, 300, limit=5, binary=True)
    with np.load(shared / "data" / "nmnist_800.npz") as z:
        for k in range(5):
            a, b = z["offsets"][k : k + 2]
            x, y, p = (z[name][a:b] for name in "xyp")
            t = np.cumsum(z["dt_us"][a:b].astype(np.int64)) // 1000
            want = np.zeros((300, 2, 34, 34), np.uint8)
            keep = t < 300
            want[t[keep], p[keep], y[keep], x[keep]] = 1
            np.testing.assert_array_equal(data.spikes[k], want)
        assert data.labels is not None
        np.testing.assert_array_equal(data.labels, z["labels"][:5])
