"""Real networks, deployed and run by Lava: the emulator agrees on every spike, u and v."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompress
from neurocompress.chip.on_chip import integer_file
from neurocompress.data.frames import events_to_spikes
from neurocompress.data.spikes import SpikeData, load_spikes
from neurocompress.emulation.emulator import emulate
from neurocompress.targets.lava import emit, run

DIGITS = Path(__file__).parents[1] / "examples/digits"

pytestmark = pytest.mark.lava


def assert_lava_equals_emulator(folder: Path, spikes: np.ndarray, lava: str) -> int:
    """Aligned spikes, u and v of every population, and the stream as it leaves the chip. Returns the spikes seen."""
    network = integer_file.load(folder / "integer.npz")
    names = [p.name for p in network.populations]
    found = run(folder / "lava", spikes, names, states=True, python=lava, timeout_s=900.0)
    expected = emulate(network, spikes, names, states=True)
    for p in network.populations:
        np.testing.assert_array_equal(found.spikes[p.name], expected.spikes[p.name], err_msg=p.name)
        np.testing.assert_array_equal(found.u[p.name], expected.u[p.name], err_msg=p.name)
        np.testing.assert_array_equal(found.v[p.name], expected.v[p.name], err_msg=p.name)
        for k in range(len(spikes)):
            start = k * found.period + p.latency
            np.testing.assert_array_equal(
                found.stream[p.name][start : start + spikes.shape[1]], expected.spikes[p.name][k], err_msg=p.name)
    return int(sum(np.count_nonzero(expected.spikes[name]) for name in names))


@pytest.mark.shared
@pytest.mark.parametrize(("model", "reset", "trace"), [
    ("braille_noDelay_bias_zero", None, "snntorch_activity_noDelay_bias_zero"),
    ("braille_noDelay_noBias_subtract", "subtract", "snntorch_activity_noDelay_noBias_subtract"),
])
def test_braille_networks_keep_class_and_spike_trace_at_8_bit(shared, lava, tmp_path, model, reset, trace):
    folder = shared / "models/nir_paper/braille"
    spikes = np.load(folder / "braille_ds_test_0.npy")[None]
    made = neurocompress.deploy(folder / f"{model}.nir", "loihi2", data=SpikeData(spikes, np.array([1]), "braille"),
                                out=tmp_path / "b", preset="snntorch-nir", reset=reset)
    assert made.passed
    assert assert_lava_equals_emulator(tmp_path / "b", spikes, lava) > 200
    found = run(tmp_path / "b/lava", spikes, ["lif1.lif"], python=lava)
    np.testing.assert_array_equal(found.spikes["lif1.lif"][0], np.load(folder / f"{trace}.npy"))
    assert found.spikes["lif2"].sum(axis=1).argmax() == 1
    assert [layer.mismatches for layer in made.report.layers] == [0, 0]


@pytest.mark.shared
def test_the_nmnist_network(shared, lava, tmp_path):
    """Graded spikes of a custom neuron: sinabs' several spikes per step. Two recordings, convolutions both ways."""
    data = events_to_spikes(shared / "data/nmnist_800.npz", 1e-3, 300, limit=24, binary=True)
    made = neurocompress.deploy(shared / "models/nir_paper/cnn/cnn_sinabs.nir", "loihi2", data=data,
                                out=tmp_path / "n", preset="sinabs")
    assert made.passed
    short = data.spikes[:2, :120]
    emit(made.integer, tmp_path / "n/lava", convolutions="Sparse")
    assert assert_lava_equals_emulator(tmp_path / "n", short, lava) > 10_000
    emit(made.integer, tmp_path / "n/lava", convolutions="Conv")
    assert assert_lava_equals_emulator(tmp_path / "n", short[:1, :40], lava) > 100


def test_the_shipped_example(lava, tmp_path):
    """All in native processes: LIFReset and Dense."""
    data = load_spikes(DIGITS / "digits_test.npz").first(40)
    made = neurocompress.deploy(DIGITS / "digits.nir", "loihi2", data=data, out=tmp_path / "d")
    assert made.passed
    assert "LIFReset" in (tmp_path / "d/lava/program.py").read_text()
    assert not (tmp_path / "d/lava/neurons").exists()
    assert assert_lava_equals_emulator(tmp_path / "d", data.spikes, lava) > 2000


def test_one_spike_per_step_chips_say_what_graded_neurons_lose(lava, tmp_path):
    """The first chip has no graded spikes: several spikes per step become one, and the report says so."""
    data = load_spikes(DIGITS / "digits_test.npz").first(20)
    made = neurocompress.deploy(DIGITS / "digits.nir", "loihi1", data=data, out=tmp_path / "d", preset="sinabs",
                                dt=1e-3)
    assert any("at most one spike per neuron and step" in note for note in made.report.assumptions)
    assert {p.spikes_per_step for p in made.integer.populations} == {"one"}
    assert_lava_equals_emulator(tmp_path / "d", data.spikes[:5], lava)
