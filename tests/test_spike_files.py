"""FILE.npz: what is read, what is refused and with which sentence, and that writing is all or nothing."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from neurocompress.data import arrays, load_spikes, poisson, read_arrays, save_arrays
from neurocompress.data.spikes import SpikeData
from neurocompress.errors import Refused


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_numpys_own_files_are_read_as_stored(tmp_path: Path, dtype: type) -> None:
    spikes = np.random.default_rng(0).integers(0, 3, (4, 5, 2, 3)).astype(dtype)
    data = load_spikes(write(tmp_path / "a.npz", spikes=spikes, labels=np.arange(4, dtype=np.uint8)), (2, 3), True)
    assert data.spikes.dtype == dtype
    np.testing.assert_array_equal(data.spikes, spikes)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert data.name == "a.npz"
    assert (data.samples, data.steps, data.input_shape) == (4, 5, (2, 3))


@pytest.mark.parametrize(
    ("stored", "kept"),
    [(np.bool_, np.uint8), (np.int64, np.uint8), (np.float64, np.uint8), (">i2", np.int16), (np.float16, np.uint8)],
)
def test_other_number_types_become_small_integers_exactly(tmp_path: Path, stored: type, kept: type) -> None:
    spikes = np.array([0, 1, 1, 0, 1, 0]).reshape(1, 2, 3).astype(stored)
    data = load_spikes(write(tmp_path / "a.npz", spikes=spikes))
    assert data.spikes.dtype == kept
    np.testing.assert_array_equal(data.spikes, spikes.astype(int))


def test_values_above_255_become_int16(tmp_path: Path) -> None:
    data = load_spikes(write(tmp_path / "a.npz", spikes=np.full((1, 1, 1), 300, np.int64)))
    assert data.spikes.dtype == np.int16
    assert data.spikes.item() == 300


def test_fortran_order_and_compression_change_nothing(tmp_path: Path) -> None:
    spikes = np.asfortranarray(np.random.default_rng(1).integers(0, 2, (3, 4, 5), dtype=np.uint8))
    np.savez_compressed(tmp_path / "a.npz", spikes=spikes)
    np.testing.assert_array_equal(load_spikes(tmp_path / "a.npz").spikes, spikes)


def sentences(path: Path, *args: object) -> list[str]:
    with pytest.raises(Refused) as caught:
        load_spikes(path, *args)  # type: ignore[arg-type]
    return [str(p) for p in caught.value.problems]


ok = np.zeros((2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "args", "said"),
    [
        ({"spike": ok}, (), ["no array 'spikes'"]),
        ({"spikes": ok[0]}, (), ["shape (3, 4), expected (samples, timesteps, *input shape)"]),
        ({"spikes": ok}, ((5,),), ["shape (2, 3, 4), expected (samples, timesteps, 5)"]),
        ({"spikes": ok}, ((3, 4),), ["time axis is missing"]),
        ({"spikes": np.zeros((1, 1, 8, 9, 2), np.uint8)}, ((2, 8, 9),),
         ["channels come last: transpose the axes: numpy.transpose(spikes, (0, 1, 4, 2, 3))"]),
        ({"spikes": ok[:0]}, (), ["empty"]),
        ({"spikes": ok[:, :0]}, (), ["empty"]),
        ({"spikes": np.full((1, 1, 2), np.nan)}, (), ["2 NaN"]),
        ({"spikes": np.full((1, 1, 2), np.inf)}, (), ["2 NaN or infinite"]),
        ({"spikes": np.full((1, 1, 2), -1)}, (), ["2 negative"]),
        ({"spikes": np.full((1, 1, 2), 0.5)}, (), ["no whole numbers"]),
        ({"spikes": np.full((1, 1, 2), 2**20)}, (), ["above 32767"]),
        ({"spikes": np.full((1, 1, 2), 2**63, np.uint64)}, (), ["above 32767"]),
        ({"spikes": np.ones((1, 1, 2), complex)}, (), ["complex128 values, expected numbers"]),
        ({"spikes": ok}, (None, True), ["no array 'labels'"]),
        ({"spikes": ok, "labels": np.arange(5)}, (), ["5 labels for 2 samples"]),
        ({"spikes": ok, "labels": np.eye(2)}, (), ["shape (2, 2), expected (samples,)"]),
        ({"spikes": ok, "labels": np.array([0.0, 1.0])}, (), ["float64 values, expected integers"]),
        ({"spikes": ok, "labels": np.array([-1, 1])}, (), ["from -1 to 1"]),
        ({"spikes": ok, "labels": np.array(3)}, (), ["shape (), expected (samples,)"]),
        ({"spikes": np.array(1)}, (), ["shape (), expected"]),
        # all at once
        (
            {"spikes": np.array([[[np.nan, -1.5]]]), "labels": np.array([0.5, 1])}, ((7,), True),
            ["expected (samples, timesteps, 7)", "1 NaN", "1 negative", "1 values that are no", "2 labels for 1",
             "expected integers"],
        ),
    ],
)
def test_bad_contents_are_refused_with_every_sentence_and_a_fix(
    tmp_path: Path, arrays: dict[str, np.ndarray], args: tuple[object, ...], said: list[str]
) -> None:
    got = sentences(write(tmp_path / "bad.npz", **arrays), *args)
    assert len(got) == len(said)
    for part, sentence in zip(said, got, strict=True):
        assert part in sentence
        assert "bad.npz" in sentence
        assert sentence.count(". ") >= 1  # the fix


def hostile(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("spikes.npy", member)
    return path


def npy(shape: tuple[int, ...], data: bytes, descr: str = "|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def test_hostile_files_are_refused_before_they_are_loaded(tmp_path: Path) -> None:
    missing = sentences(tmp_path / "none.npz")
    assert "no such file" in missing[0]
    assert "is a folder" in sentences(tmp_path)[0]
    (tmp_path / "text.npz").write_text("spikes")
    assert "not a .npz" in sentences(tmp_path / "text.npz")[0]
    np.save(tmp_path / "bare.npy", ok)
    assert "not a .npz" in sentences(tmp_path / "bare.npy")[0]
    np.savez(tmp_path / "objects.npz", spikes=np.array([{}], dtype=object))
    assert "expected numbers" in sentences(tmp_path / "objects.npz")[0]
    claims = sentences(hostile(tmp_path / "claims.npz", npy((10**6, 10**6, 10), b"x")))
    assert "the file holds" in claims[0]
    assert "at most 0.5 GiB" in claims[1]
    assert "header" in sentences(hostile(tmp_path / "header.npz", b"\x93NUMPY\x01\x00garbage"))[0]
    assert "header" in sentences(hostile(tmp_path / "empty.npz", b""))[0]
    assert "header" in sentences(hostile(tmp_path / "negative.npz", npy((-1, 2, 3), b"x" * 9)))[0]


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = hostile(tmp_path / "bomb.npz", npy((4, 1000, 1000), bytes(4_000_000)))
    assert os.path.getsize(path) < 20_000
    with pytest.raises(Refused, match=r"at most 0\.00097"):
        load_spikes(path, max_bytes=2**20)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a.npz", spikes=np.random.default_rng(0).integers(0, 2, (3, 50, 20), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert sentences(path)


def test_flipped_bytes_give_a_sentence_or_the_right_spikes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    spikes = rng.integers(0, 2, (2, 3, 4), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", spikes=spikes)
    good = (tmp_path / "a.npz").read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= int(rng.integers(1, 256))
        (tmp_path / "b.npz").write_bytes(bad)
        try:
            data = load_spikes(tmp_path / "b.npz")
        except Refused:
            continue
        np.testing.assert_array_equal(data.spikes, spikes)


def test_what_is_saved_is_what_numpy_loads(tmp_path: Path) -> None:
    arrays = {"output": np.arange(6, dtype=np.int16).reshape(2, 3), "fc1.lif/v": np.array([0.5, -1.0])}
    save_arrays(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as loaded:
        assert sorted(loaded) == sorted(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(loaded[name], values)
            assert loaded[name].dtype == values.dtype
    assert read_arrays(tmp_path / "out.npz").keys() == arrays.keys()
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    save_arrays(tmp_path / "out.npz", {"a": np.ones(3)})
    before = (tmp_path / "out.npz").read_bytes()
    with pytest.raises(ValueError, match="pickle"):
        save_arrays(tmp_path / "out.npz", {"a": np.zeros(10), "b": np.array([{}], dtype=object)})
    assert (tmp_path / "out.npz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]
    with pytest.raises(Refused, match=r"can not be written.*Choose a folder"):
        save_arrays(tmp_path / "none" / "out.npz", {"a": np.ones(3)})
    with pytest.raises(Refused, match=r"can not be written.*Choose a folder"):
        save_arrays(tmp_path / "out.npz" / "a.npz", {"a": np.ones(3)})


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_arrays(tmp_path / f"{name}.npz", {"a": np.arange(1000)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_poisson_spikes_have_their_rate_and_repeat_with_their_seed() -> None:
    data = poisson((2, 5), samples=20, steps=500, rate=0.1, seed=7)
    assert data.spikes.shape == (20, 500, 2, 5)
    assert data.spikes.dtype == np.uint8
    assert data.labels is None
    n, p = data.spikes.size, 0.1
    assert abs(data.spikes.mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_array_equal(data.spikes, poisson((2, 5), 20, 500, 0.1, 7).spikes)
    assert (data.spikes != poisson((2, 5), 20, 500, 0.1, 8).spikes).any()
    with pytest.raises(Refused, match="rate"):
        poisson((2,), 1, 1, 1.5, 0)
    with pytest.raises(Refused, match="at least one"):
        poisson((2,), 0, 1, 0.5, 0)


def test_fractions_are_currents_for_a_float_simulation_only(tmp_path):
    np.savez(tmp_path / "x.npz", spikes=np.full((1, 2, 3), 0.04))
    with pytest.raises(Refused, match="no whole numbers"):
        load_spikes(tmp_path / "x.npz")
    found = load_spikes(tmp_path / "x.npz", analog=True)
    assert found.spikes.dtype == np.float32
    np.testing.assert_allclose(found.spikes, 0.04)


def test_what_holds_next_to_nothing_is_written_so_that_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few spikes in many steps pack a thousandfold, further than a file that is read may."""
    monkeypatch.setattr(arrays, "SMALL", 2**15)
    monkeypatch.setattr(arrays, "SMALL_BYTES", 2**20)
    spikes = np.zeros((4, 100, 2, 64, 64), np.uint8)
    spikes[0, 3, 1, 2, 5] = spikes[3, 99, 0, 63, 63] = 1
    SpikeData(spikes, None, "few").save(tmp_path / "few.npz")
    np.testing.assert_array_equal(load_spikes(tmp_path / "few.npz").spikes, spikes)
    np.savez_compressed(tmp_path / "packed.npz", spikes=spikes)
    with pytest.raises(Refused, match="write without compression"):
        load_spikes(tmp_path / "packed.npz")
    dense = np.random.default_rng(0).integers(0, 2, spikes.shape, np.uint8)
    SpikeData(dense, None, "many").save(tmp_path / "many.npz")
    assert (tmp_path / "many.npz").stat().st_size < dense.nbytes / 4, "all else is compressed"
