"""A killed run goes on where it stopped and ends with the same bits; nothing of another run is taken over."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_problems import drawn_network, drawn_spikes
from stage_statistics import model_of

from neurocompress.compression.compressed_layer import CompressedLayer
from neurocompress.compression.layerwise import walk
from neurocompress.compression.layerwise.checkpoint import Checkpoint
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import recipe_of

NETWORK, SPIKES = drawn_network(2), drawn_spikes(2)
RECIPE = recipe_of(None, bits=4, sparsity=0.6)


def same(a: CompressedLayer, b: CompressedLayer) -> bool:
    for field in fields(CompressedLayer):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
            if not (type(one) is type(two) and one.dtype == two.dtype and one.shape == two.shape
                    and one.tobytes() == two.tobytes()):
                return False
        elif one != two or type(one) is not type(two):
            return False
    return True


def assert_same(a: dict[str, CompressedLayer], b: dict[str, CompressedLayer]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert same(a[name], b[name]), name


@pytest.fixture
def compressed(monkeypatch):
    """Names of the populations that were compressed; the run is killed at `kill_at`."""
    real, seen = walk.compress_stage, []

    def spy(stage, *more, **named):
        if stage.population == spy.kill_at:
            raise KeyboardInterrupt
        seen.append(stage.population)
        return real(stage, *more, **named)

    spy.kill_at, spy.seen = None, seen
    monkeypatch.setattr(walk, "compress_stage", spy)
    return spy


def killed(folder: Path, spy, at: str = "lif2", recipe=RECIPE) -> None:
    spy.kill_at = at
    with pytest.raises(KeyboardInterrupt):
        compress_network(NETWORK, SPIKES, recipe, checkpoint=folder)
    spy.kill_at = None
    spy.seen.clear()


@pytest.mark.parametrize("options", [{"bits": 4, "sparsity": 0.6}, {"sparsity": 0.8, "method": "sbc-paper"},
                                     {"bits": 3, "method": "gptq"}])
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path, compressed, options):
    recipe = recipe_of(None, **options)
    whole = compress_network(NETWORK, SPIKES, recipe)
    folder = tmp_path / "run"
    killed(folder, compressed, "lif3", recipe)
    assert len(list(folder.glob("*.npz"))) == 2
    resumed = compress_network(NETWORK, SPIKES, recipe, checkpoint=folder)
    assert compressed.seen == ["lif3"]
    assert_same(resumed.layers, whole.layers)
    assert resumed.notes == whole.notes
    for name in whole.layers:
        assert resumed.network.nodes[name].weight.tobytes() == whole.network.nodes[name].weight.tobytes()
    assert not folder.exists()


def other_data() -> np.ndarray:
    spikes = SPIKES.copy()
    spikes[-1, -1, -1] = 1.0 - spikes[-1, -1, -1]
    return spikes


def other_weight():
    weight = NETWORK.nodes["fc3"].weight.copy()
    weight[0, 0] = np.nextafter(weight[0, 0], 9.0)
    return NETWORK.with_nodes({"fc3": replace(NETWORK.nodes["fc3"], weight=weight)})


@pytest.mark.parametrize(("network", "spikes", "recipe"), [
    (NETWORK, SPIKES, recipe_of(RECIPE, sparsity=0.61)), (NETWORK, other_data(), RECIPE),
    (NETWORK, SPIKES[:-1], RECIPE), (other_weight(), SPIKES, RECIPE),
    (replace(NETWORK, conventions=replace(NETWORK.conventions, reset="subtract")), SPIKES, RECIPE)],
    ids=["recipe", "data", "fewer samples", "weights", "conventions"])
def test_another_run_takes_nothing_over(tmp_path, compressed, network, spikes, recipe):
    folder = tmp_path / "run"
    killed(folder, compressed)
    found = compress_network(network, spikes, recipe, checkpoint=folder)
    assert compressed.seen == ["lif1", "lif2", "lif3"]
    assert_same(found.layers, compress_network(network, spikes, recipe).layers)


def test_another_version_takes_nothing_over(tmp_path, compressed, monkeypatch):
    folder = tmp_path / "run"
    killed(folder, compressed)
    monkeypatch.setattr("neurocompress.compression.oneshot.__version__", "999")
    compress_network(NETWORK, SPIKES, RECIPE, checkpoint=folder)
    assert compressed.seen == ["lif1", "lif2", "lif3"]


@pytest.mark.parametrize("damage", [
    lambda raw: b"", lambda raw: raw[: len(raw) // 2], lambda raw: b"no archive",
    lambda raw: raw[:300] + bytes([raw[300] ^ 255]) + raw[301:],
    lambda raw: raw.replace(b"0.bias.npy", b"0.bios.npy"),  # an array is missing
    lambda raw: raw[: (at := raw.index(b"PK\x01\x02") + 6)] + b"\xff" + raw[at + 1 :],  # a zip version to come
])
def test_a_damaged_file_is_computed_again(tmp_path, compressed, damage):
    folder = tmp_path / "run"
    killed(folder, compressed)
    (file,) = folder.glob("*.npz")
    file.write_bytes(damage(file.read_bytes()))
    found = compress_network(NETWORK, SPIKES, RECIPE, checkpoint=folder)
    assert compressed.seen == ["lif1", "lif2", "lif3"]
    assert_same(found.layers, compress_network(NETWORK, SPIKES, RECIPE).layers)


LAYERS = compress_network(NETWORK, SPIKES, RECIPE).layers


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_whatever_byte_is_wrong_a_file_gives_what_was_put_or_nothing(tmp_path, where, flip):
    kept = Checkpoint(tmp_path / "run", "key")
    kept.put("lif1", {"fc1": LAYERS["fc1"]})
    (file,) = kept.folder.glob("*.npz")
    raw = bytearray(file.read_bytes())
    raw[int(where * len(raw))] ^= flip
    file.write_bytes(bytes(raw))
    found = kept.get("lif1")
    if found is not None:
        assert_same(found, {"fc1": LAYERS["fc1"]})


def test_what_is_put_is_what_is_found(tmp_path):
    kept = Checkpoint(tmp_path / "run", "key")
    kept.put("a/population: with any name", LAYERS)
    assert_same(kept.get("a/population: with any name"), LAYERS)
    assert kept.get("another") is None
    again = Checkpoint(tmp_path / "run", "key")
    assert_same(again.get("a/population: with any name"), LAYERS)
    assert Checkpoint(tmp_path / "run", "other key").get("a/population: with any name") is None


def test_a_pickle_in_place_of_a_file_is_never_loaded(tmp_path):
    kept = Checkpoint(tmp_path / "run", "key")
    kept.put("lif1", LAYERS)
    (file,) = kept.folder.glob("*.npz")
    with file.open("wb") as opened:
        np.savez(opened, facts=np.array([{"fc1": 1}], dtype=object))
    assert kept.get("lif1") is None


def test_the_key_depends_on_everything_and_on_nothing_else():
    def key_of(network, spikes, *more):
        return model_of(network, spikes).key(*more)

    key = key_of(NETWORK, SPIKES, "recipe")
    assert key == key_of(drawn_network(2), drawn_spikes(2), "recipe")
    others = [key_of(other_weight(), SPIKES, "recipe"), key_of(NETWORK, other_data(), "recipe"),
              key_of(NETWORK, None, "recipe"), key_of(NETWORK, SPIKES, "recipes"),
              key_of(NETWORK, SPIKES.reshape(15, 12, 14), "recipe"),
              key_of(NETWORK, SPIKES.astype(np.float64), "recipe")]
    assert len({key, *others}) == 1 + len(others)
