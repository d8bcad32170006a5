"""Networks that snnTorch, sinabs and Norse exported, with what the frameworks' own networks gave: spike for spike."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from neurocompress.errors import Refused
from neurocompress.frontends.nir import read
from neurocompress.network.conventions import preset
from neurocompress.simulation.float import simulate
from neurocompress.targets.nir import write
from neurocompress.verbs.deploy import deploy

SNNTORCH, UNDELAYED = {"preset": "snntorch"}, {"preset": "snntorch", "convention": "reset_delay=false"}
NORSE = {"preset": "norse", "dt": 1e-6}
RECORDED = {
    "s_mlp": SNNTORCH, "s_conv": SNNTORCH, "s_syn": SNNTORCH, "s_beta1": SNNTORCH,
    "z_mlp": {"preset": "snntorch", "reset": "zero"}, "z_rleaky": {"preset": "snntorch", "reset": "zero"},
    "d_mlp": UNDELAYED, "d_rleaky": UNDELAYED,
    "b_iaf": {"preset": "sinabs", "convention": "v_floor=false"},
    "b_iaf_single": {"preset": "sinabs", "convention": "spikes_per_step=one"}, "b_iaf_minv": {"preset": "sinabs"},
    "n_box": NORSE, "n_lif": NORSE,
}


@pytest.mark.shared
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RECORDED)
def test_what_a_framework_recorded_is_reproduced_spike_for_spike(shared, name, dtype):
    folder = shared / "faults/frameworks"
    network = read(folder / f"{name}.nir", **RECORDED[name])
    want = np.load(folder / f"{name}_want.npy")
    found = simulate(network, np.load(folder / f"{name}.npz")["spikes"], dtype=dtype)["output"]
    assert np.count_nonzero(found.reshape(want.shape) != want) == 0


@pytest.mark.shared
@pytest.mark.parametrize("given", [{}, {"preset": "norse"}, {"dt": 1e-3}])
@pytest.mark.parametrize("name", ["n_box", "n_lif"])
def test_the_hint_for_a_file_of_norse_leads_to_the_exact_network(shared, name, given):
    with pytest.raises(Refused) as refused:
        read(shared / f"faults/frameworks/{name}.nir", **given)
    assert "if it wrote this file, give --preset norse --dt 1e-06" in str(refused.value)


def one(path: Path, neuron: nir.NIRNode, n: int) -> Path:
    nir.write(path, nir.NIRGraph({"input": nir.Input(np.array([n])), "n": neuron, "output": nir.Output(np.array([n]))},
                                 [("input", "n"), ("n", "output")]))
    return path


def test_a_neuron_whose_time_constants_are_infinite_never_leaks(tmp_path: Path) -> None:
    """beta = 1 in all neurons is IF; beside others, and in a synapse, the factors 1 hold elementwise."""
    ones, endless = np.ones(2), np.full(2, np.inf)
    path = one(tmp_path / "if.nir", nir.LIF(tau=endless, r=endless, v_leak=0 * ones, v_threshold=ones), 2)
    network = read(path, preset="snntorch")
    assert network.nodes["n"].kind == "IF"
    assert "n: tau and r are infinite: it never leaks, and is read as IF with r = 1." in network.notes
    mixed = nir.CubaLIF(tau_mem=np.array([np.inf, 2e-4]), r=np.array([np.inf, 2]), tau_syn=np.array([2e-4, np.inf]),
                        w_in=np.array([2, np.inf]), v_leak=0 * ones, v_threshold=8 * ones)
    network = read(one(tmp_path / "mixed.nir", mixed, 2), preset="snntorch-nir")
    x = np.ones((1, 7, 2))
    found = simulate(network, x, dtype=torch.float64)["output"][0]
    state, want = np.zeros((2, 2)), []
    for _ in range(7):
        state[0] = np.array([0.5, 1]) * state[0] + 1
        state[1] = np.array([1, 0.5]) * state[1] + state[0]
        want.append(state[1] > 8)
        state[1] = np.where(want[-1], 0, state[1])
    np.testing.assert_array_equal(found, want)
    assert found.sum(axis=0).min() > 0
    write(network, tmp_path / "again.nir")
    np.testing.assert_array_equal(simulate(read(tmp_path / "again.nir"), x, dtype=torch.float64)["output"][0], want)


@pytest.mark.parametrize(("values", "given", "sentence"), [
    ({"tau": [np.inf, 1e-3], "r": [10, 10]}, {}, "'tau_mem' holds 1 infinite of 2 values where 'r' is finite"),
    ({"tau": [1e-3, 1e-3], "r": [np.inf, 10]}, {}, "'r' holds 1 infinite of 2 values where 'tau_mem' is finite"),
    ({"tau": [-np.inf, 1e-3], "r": [10, 10]}, {}, "'tau' holds 1 infinite of 2 values"),
    ({"tau": [np.nan, 1e-3], "r": [10, 10]}, {}, "'tau' holds 1 NaN of 2 values"),
])
def test_infinities_that_mean_nothing_are_refused(tmp_path: Path, values, given, sentence) -> None:
    values = {name: np.array(value, float) for name, value in values.items()}
    path = one(tmp_path / "x.nir", nir.LIF(v_leak=np.zeros(2), v_threshold=np.ones(2), **values), 2)
    with pytest.raises(Refused) as refused:
        read(path, **given)
    assert sentence in str(refused.value)
    if values["tau"][0] == np.inf:  # where r is not read, a neuron without a leak is plain
        assert read(path, preset="rockpool", dt=1e-4).conventions.gain == "unit"


@pytest.mark.parametrize("name", [None, "nir", "snntorch", "snntorch-nir", "spikingjelly", "lava"])
@pytest.mark.parametrize("r", [1e4, 1e3])
def test_one_over_dt_of_spikingjelly_is_known_for_what_it_is_under_any_preset(tmp_path: Path, name, r) -> None:
    path = one(tmp_path / "sj.nir", nir.IF(r=np.full(3, r), v_threshold=np.ones(3)), 3)
    network = read(path, preset=name)
    assert network.conventions.dt == pytest.approx(1 / r)
    assert any(f"dt = {1 / r:g} s, inferred from r = 1/dt in n" in note for note in network.notes)
    x = np.full((1, 10, 3), 0.3)
    spikes = simulate(network, x, dtype=torch.float64)["output"]
    assert spikes.sum() <= 9, "one weight of 0.3 in a step fires every third step at most, never every step"
    told = read(path, preset=name, dt=2 / r).notes
    assert any("one weight moves v by 2 times its value" in note for note in told)


def test_large_factors_that_tell_no_dt_are_refused_with_the_flags(tmp_path: Path) -> None:
    path = one(tmp_path / "x.nir", nir.IF(r=np.array([20.0, 500.0]), v_threshold=np.ones(2)), 2)
    with pytest.raises(Refused) as refused:
        read(path)
    assert "Give --dt (SpikingJelly writes r = 1/dt), or --convention gain=unit" in str(refused.value)
    assert read(path, convention="gain=unit").conventions.dt is None
    assert read(path, dt=1e-3).conventions.gain == "nir"


def test_norse_cells_are_told_by_their_constants_and_other_synapses_stay(tmp_path: Path) -> None:
    ones = np.ones(2)
    taus = {"tau_mem": 5e-6 * ones, "tau_syn": 4e-6 * ones, "v_leak": 0 * ones, "v_threshold": ones}
    cells = read(one(tmp_path / "a.nir", nir.CubaLIF(r=ones, w_in=ones, **taus), 2), preset="norse", dt=1e-6)
    assert cells.conventions.gain == "unit-synapse"
    other = read(one(tmp_path / "b.nir", nir.CubaLIF(r=ones, w_in=2 * ones, **taus), 2), preset="norse", dt=1e-6)
    assert other.conventions.gain == preset("norse").gain == "nir"
    given = read(tmp_path / "a.nir", preset="norse", dt=1e-6, convention={"gain": "nir"})
    assert given.conventions.gain == "nir"


def test_sinabs_counts_its_time_constants_in_steps(tmp_path: Path) -> None:
    ones = np.ones(2)
    steps = one(tmp_path / "steps.nir", nir.LIF(tau=np.array([8.0, 20]), r=ones, v_leak=0 * ones, v_threshold=ones), 2)
    seconds = one(tmp_path / "s.nir", nir.LIF(tau=8e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=ones), 2)
    assert read(steps, preset="sinabs").conventions.dt == 1.0
    assert read(steps, preset="sinabs", dt=2.0).conventions.dt == 2.0
    assert read(seconds, preset="sinabs").conventions.dt == 1e-3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("target", ["loihi1", "loihi2", "spinnaker2", "tianjic", "brainscales2"])
def test_states_that_never_decay_are_numbers_on_every_chip(target: str, biased: bool) -> None:
    """Membranes and synapses without end beside others, with biases behind them: no division by zero anywhere."""
    rng, ones, endless = np.random.default_rng(3), np.ones(4), np.array([True, True, False, False])
    tau, factor = np.where(endless, np.inf, 4e-4), np.where(endless, np.inf, 4.0)
    neuron = nir.CubaLIF(tau_mem=tau, r=factor, tau_syn=tau[[0, 2, 1, 3]], w_in=factor[[0, 2, 1, 3]], v_leak=0 * ones,
                         v_threshold=8 * ones)
    weight = rng.normal(size=(4, 6))
    line = nir.Affine(weight, rng.normal(size=4) / 5) if biased else nir.Linear(weight)
    graph = nir.NIRGraph({"input": nir.Input(np.array([6])), "fc": line, "n": neuron,
                          "output": nir.Output(np.array([4]))}, [("input", "fc"), ("fc", "n"), ("n", "output")])
    spikes = (rng.random((4, 20, 6)) < 0.3).astype(np.uint8)
    made = deploy(graph, target, data=spikes, preset="snntorch-nir", method="rtn")
    for p in made.integer.populations:
        values = [v for v in vars(p).values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
        assert all(np.all(np.isfinite(v)) for v in values)
    assert 0 < made.report.layers[0].rate_before < 1


@pytest.mark.parametrize(("delay", "dt", "said"), [
    ([4e-4, 4e-4], 1e-3, "2 of 2 delays are no whole steps and are rounded: 0.0004 s is 0.4 steps of 0.001 s and "
                         "becomes 0, 0 s"),
    ([2e-3, 2.7e-3], 1e-3, "1 of 2 delays are no whole steps and are rounded: 0.0027 s is 2.7 steps of 0.001 s and "
                           "becomes 3, 0.003 s"),
    ([2e-3, 0.0], 1e-3, None), ([3e-4, 7e-4], 1e-4, None),
])
def test_delays_that_are_no_whole_steps_are_said_with_both_numbers(tmp_path, delay, dt, said) -> None:
    delays = nir.Delay(np.array(delay, np.float32))
    network = read(one(tmp_path / "d.nir", delays, 2), dt=dt)
    notes = [note for note in network.notes if "whole steps" in note]
    assert (said in notes[0] and "Give a --dt that divides them" in notes[0]) if said else not notes
