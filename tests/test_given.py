"""Python verbs take what people have: networks and graphs in memory, arrays, tensors, labels, batches."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from cli_runner import DIGITS, EXAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

import neurocompress as nc
from neurocompress.chip.profile.load import load_profile
from neurocompress.data.axes import misread
from neurocompress.data.given import Stream, held, spikes_of
from neurocompress.data.spikes import SpikeData, load_spikes
from neurocompress.errors import Refused

TEST = EXAMPLE / "digits_test.npz"


@pytest.fixture(scope="module")
def digits() -> SpikeData:
    return load_spikes(TEST).first(60)


class Loader:
    """Batches as a torch DataLoader gives them: lists of tensors, as often as one likes."""

    def __init__(self, data: SpikeData, size: int):
        self.data, self.size = data, size

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        assert self.data.labels is not None
        for k in range(0, self.data.samples, self.size):
            part = slice(k, k + self.size)
            yield [torch.from_numpy(self.data.spikes[part]), torch.from_numpy(self.data.labels[part])]


def forms(data: SpikeData) -> dict[str, Any]:
    assert data.labels is not None
    tensor = torch.from_numpy(data.spikes)
    whole = torch.utils.data.TensorDataset(tensor, torch.from_numpy(data.labels))
    return {
        "SpikeData": data,
        "(array, labels)": (data.spikes, data.labels),
        "(tensor, list of labels)": (tensor.float().requires_grad_(), data.labels.tolist()),
        "[bool array, labels]": [data.spikes.astype(bool), data.labels.astype(np.uint8)],
        "bfloat16": (tensor.to(torch.bfloat16), torch.from_numpy(data.labels)),
        "sparse": (tensor.to_sparse(), torch.from_numpy(data.labels)),
        "list of batches": list(Loader(data, 25)),
        "generator": ((x, y) for x, y in Loader(data, 7)),
        "DataLoader": torch.utils.data.DataLoader(whole, batch_size=16),
        "batches of SpikeData": [data.first(30), data.chosen(np.arange(30, data.samples))],
    }


def test_every_form_of_the_same_spikes_is_the_same_data(digits: SpikeData) -> None:
    for name, form in forms(digits).items():
        found = held(form, (64,))
        np.testing.assert_array_equal(found.spikes, digits.spikes, err_msg=name)
        np.testing.assert_array_equal(found.labels, digits.labels, err_msg=name)
    assert held(digits.spikes, (64,)).labels is None


def test_simulate_and_compare_give_the_same_numbers_for_every_form(digits: SpikeData) -> None:
    want = nc.simulate(DIGITS, digits, record=["lif1"])
    other = nc.load(DIGITS, reset="subtract")
    compared = nc.compare(DIGITS, other, digits)
    for name, form in forms(digits).items():
        found = nc.simulate(DIGITS, form, record=["lif1"])
        assert found.accuracy == want.accuracy, name
        assert found.rates == want.rates
        assert (found.samples, found.steps) == (60, digits.steps)
        np.testing.assert_array_equal(found.classes, want.classes)
        np.testing.assert_array_equal(found.arrays["lif1"], want.arrays["lif1"])
    for name, form in forms(digits).items():
        again = nc.compare(DIGITS, other, form)
        assert (again.accuracy, again.agreement, again.samples) == (compared.accuracy, compared.agreement, 60), name
        assert [c.mismatches for c in again.populations] == [c.mismatches for c in compared.populations]


def test_the_output_of_a_stream_is_kept_where_it_is_recorded(digits: SpikeData) -> None:
    want = nc.simulate(DIGITS, digits).arrays["output"]
    dropped = nc.simulate(DIGITS, Loader(digits, 20))
    assert dropped.arrays == {}
    assert any("is not kept" in note for note in dropped.notes)
    np.testing.assert_array_equal(nc.simulate(DIGITS, Loader(digits, 20), record="output").arrays["output"], want)


def test_a_stream_ten_times_as_long_takes_no_more_memory(one_thread: None) -> None:
    network = nc.load(DIGITS)

    def peak(batches: int) -> int:
        stream = (np.zeros((16, 100, 64), np.uint8) for _ in range(batches))
        tracemalloc.start()
        nc.simulate(network, stream)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(30) < 1.2 * peak(3) + 2**18


def test_compress_and_deploy_calibrate_on_the_head_of_a_stream_and_say_so(digits: SpikeData) -> None:
    data = load_spikes(TEST)
    made = nc.compress(DIGITS, Loader(data, 50), samples=70, method="gptq", bits=4)
    assert any(note.startswith("calibrated on 70 samples, the first of ") for note in made.notes)
    same = nc.compress(DIGITS, data.spikes[:70], method="gptq", bits=4)
    np.testing.assert_array_equal(made.layers["fc1"].m, same.layers["fc1"].m)
    with pytest.raises(Refused, match="samples is 0"):
        nc.compress(DIGITS, data, samples=0)

    whole = nc.deploy(DIGITS, "loihi2", data=Loader(digits, 20), method="gptq")  # ends within the head
    assert whole.report.to_dict()["accuracy"] == nc.deploy(
        DIGITS, "loihi2", data=digits, method="gptq").report.to_dict()["accuracy"]
    streamed = nc.deploy(DIGITS, "loihi2", data=Loader(data, 50), method="gptq").report
    assert streamed.samples == 450
    assert streamed.calibration.source == "the Loader, drawn from its first 256 samples"
    assert streamed.calibration.indices is not None
    assert max(streamed.calibration.indices) < 256
    on_all = nc.simulate(DIGITS, data).accuracy
    assert streamed.accuracy is not None
    assert streamed.accuracy["float"] == pytest.approx(on_all)


def test_deploy_refuses_a_stream_whose_tail_sends_more_than_its_head(digits: SpikeData) -> None:
    tail = digits.spikes.copy()
    tail[3, 4, 5] = 3
    batches = [*[digits.spikes] * 5, tail]
    with pytest.raises(Refused, match="more than any in the samples that calibrate"):
        nc.deploy(DIGITS, "loihi2", data=batches, method="rtn")


def single_samples(data: SpikeData) -> list[tuple[np.ndarray, int]]:
    return [(data.spikes[k], 3) for k in range(4)]


@pytest.mark.parametrize(("make", "said"), [
    (lambda d: 5, "the data is of type int"),
    (lambda d: None, "the data is of type NoneType"),
    (lambda d: {"spikes": d.spikes}, "the data is of type dict"),
    (lambda d: [], "gives no batch"),
    (lambda d: iter(()), "an iterator can be used once only"),
    (lambda d: [d.spikes, "x"], "batch 1 of the list: it is of type str"),
    (lambda d: [{"x": d.spikes}], "batch 0 of the list: it is of type dict"),
    (lambda d: [d.spikes[:2], d.spikes[:2, :9]], "it has 9 time steps, the first batch 32"),
    (lambda d: [(d.spikes, d.labels), d.spikes], "some batches have labels"),
    (lambda d: (d.spikes, d.labels[:7]), "it holds 7 labels for 60 samples"),
    (lambda d: (d.spikes, d.labels.astype(float)), "expected integers"),
    (lambda d: (d.spikes.swapaxes(0, 1), d.labels), "time is its first axis"),
    (lambda d: d.spikes * np.float32(np.nan), "NaN"),
    (lambda d: np.array([["a"]]), "expected numbers"),
    (lambda d: np.array([[{}]]), "object values, expected numbers"),
    (lambda d: (d.spikes, list("abc")), "its labels are of type list"),
    (single_samples, "one sample with its label, not a batch"),
    (lambda d: torch.utils.data.TensorDataset(torch.from_numpy(d.spikes), torch.from_numpy(d.labels)),
     "one sample with its label, not a batch"),
])
def test_anything_else_is_refused_with_what_was_got(make: Any, said: str, digits: SpikeData) -> None:
    for verb in (lambda d: nc.simulate(DIGITS, d), lambda d: nc.compare(DIGITS, DIGITS, d)):
        with pytest.raises(Refused) as caught:
            verb(make(digits))
        assert said in str(caught.value)
        assert ". " in str(caught.value)


def digits_graph(**more: Any) -> nir.NIRGraph:
    """The first layer of the digits. more: values of its neurons, put there behind the back of nir's own check."""
    weight, lif = nir.read(DIGITS).nodes["fc1"].weight, nir.read(DIGITS).nodes["lif1"]
    for name, value in more.items():
        setattr(lif, name, value)
    return nir.NIRGraph({
        "input": nir.Input(np.array([64])), "fc": nir.Linear(weight), "lif": lif,
        "output": nir.Output(np.array([128]))}, [("input", "fc"), ("fc", "lif"), ("lif", "output")], type_check=False)


def test_every_verb_takes_a_graph_and_a_network(digits: SpikeData) -> None:
    graph = nir.read(DIGITS)
    network = nc.load(graph)
    assert nc.load(network) is network
    assert network.notes == nc.load(DIGITS).notes
    want = nc.simulate(DIGITS, digits)
    for model in (graph, network):
        np.testing.assert_array_equal(nc.simulate(model, digits).arrays["output"], want.arrays["output"])
        assert nc.check(model, "loihi1").to_dict() == nc.check(DIGITS, "loihi1").to_dict()
        assert nc.check_compressed(model, "loihi1")[1].bits == nc.check_compressed(DIGITS, "loihi1")[1].bits
        assert nc.compare(model, DIGITS, digits).agreement == 100.0
        assert nc.deploy(model, "loihi2", data=digits, method="rtn").report.model.endswith("in memory")
        assert nc.compress(model, None, method="rtn", bits=4).layers["fc1"].bits == 4


def test_what_nir_can_not_write_is_mended_as_in_a_file(tmp_path: Path, digits: SpikeData) -> None:
    path = tmp_path / "full.nir"
    nir.write(path, digits_graph(v_reset=np.zeros(128)))
    want = nc.simulate(path, digits).arrays["output"]
    lif = digits_graph().nodes["lif"]
    mean = {k: getattr(lif, k).flat[0] for k in ("tau", "r", "v_leak", "v_threshold")}  # np.float32, no array
    for values in ({}, {"v_reset": None}, {k: np.array(v) for k, v in mean.items()},
                   {k: float(v) for k, v in mean.items()}, {"tau": torch.full((128,), float(mean["tau"]))}):
        np.testing.assert_array_equal(nc.simulate(digits_graph(**values), digits).arrays["output"], want)
    graph = digits_graph()
    graph.nodes["input"].input_type = graph.nodes["input"].output_type = {"input": None}
    graph.nodes["output"].output_type = {"output": None}
    found = nc.load(graph)
    assert found.shapes["input"] == (64,)
    assert any("Input) has no shape" in note for note in found.notes)


def test_convolutions_without_an_input_shape_and_nested_graphs_are_read() -> None:
    block = nir.NIRGraph({
        "input": nir.Input(np.array([1, 6, 6])),
        "conv": nir.Conv2d(None, np.ones((2, 1, 3, 3), np.float32), 1, 0, 1, 1, np.zeros(2)),
        "output": nir.Output(np.array([2, 4, 4]))}, [("input", "conv"), ("conv", "output")], type_check=False)
    graph = nir.NIRGraph({
        "input": nir.Input(np.array([1, 6, 6])), "block": block, "if": nir.IF(np.array(1.0), np.array(2.0)),
        "output": nir.Output(np.array([2, 4, 4]))},
        [("input", "block"), ("block", "if"), ("if", "output")], type_check=False)
    assert nc.load(graph).shapes["if"] == (2, 4, 4)


def test_a_graph_that_is_wrong_is_refused_as_a_file_is() -> None:
    for graph, said in ((digits_graph(tau=np.full(128, -1.0)), "'tau' is not positive"),
                        (digits_graph(tau="fast"), "'tau' is not numeric"),
                        (digits_graph(tau=[[1.0], [2.0, 3.0]]), "'tau' is no array"),
                        (nir.Linear(np.ones((2, 2))), "holds a single Linear, not a NIRGraph")):
        with pytest.raises(Refused, match=said) as caught:
            nc.load(graph)
        assert "the NIRGraph" in str(caught.value)
    loop = digits_graph()
    loop.nodes["loop"] = loop
    with pytest.raises(Refused, match="must not hold itself"):
        nc.load(loop)


@pytest.mark.parametrize(("model", "said"), [
    (5, "the model is of type int"), (None, "the model is of type NoneType"), (b"x.nir", "the model is of type bytes"),
    (torch.nn.Linear(2, 2), "Export it to NIR first")])
def test_what_is_no_model_is_refused(model: Any, said: str, digits: SpikeData) -> None:
    for verb in (lambda m: nc.load(m), lambda m: nc.check(m, "loihi2"), lambda m: nc.simulate(m, digits),
                 lambda m: nc.deploy(m, "loihi2"), lambda m: nc.compress(m, None), lambda m: nc.compare(m, m, digits),
                 lambda m: nc.simulate(m, digits, engine="emulator")):
        with pytest.raises(Refused, match=said):
            verb(model)


@pytest.mark.parametrize(("verb", "said"), [
    (lambda d: nc.check(DIGITS, 5), "the target is of type int"),
    (lambda d: nc.check(DIGITS, load_profile("loihi2")), "the target is of type Profile"),
    (lambda d: nc.check(DIGITS, "loihi1", fan_in_policy="cut"), "fan_in_policy is 'cut'. Use one of refuse, prune"),
    (lambda d: nc.simulate(DIGITS, d, record=5), "record is 5"),
    (lambda d: nc.simulate(DIGITS, d, steps="a"), "steps is 'a'"),
    (lambda d: nc.compress(DIGITS, d, samples="a"), "samples is a"),
    (lambda d: nc.deploy(DIGITS, "loihi2", data=d, seed=1.5), "seed is 1.5"),
    (lambda d: nc.deploy(DIGITS, "loihi2", data=d, fan_in_policy="cut"), "fan_in_policy is 'cut'"),
])
def test_arguments_of_another_type_are_refused(verb: Any, said: str, digits: SpikeData) -> None:
    with pytest.raises(Refused, match=said):
        verb(digits)


def test_a_network_has_its_conventions_already() -> None:
    with pytest.raises(Refused, match="a Network has its conventions"):
        nc.check(nc.load(DIGITS), "loihi2", reset="zero")


def test_deploy_names_the_model_of_a_bundle_it_is_given(tmp_path: Path, digits: SpikeData) -> None:
    nc.deploy(DIGITS, "loihi2", data=digits, out=tmp_path / "made", method="rtn")
    with pytest.raises(Refused, match=r"deployed already. .*made/model\.nir"):
        nc.deploy(tmp_path / "made", "loihi2")


def test_a_stream_reads_no_more_than_its_head() -> None:
    read = []

    def batches() -> Iterator[np.ndarray]:
        for k in range(9):
            read.append(k)
            yield np.full((4, 2, 3), k, np.uint8)

    stream = spikes_of(batches(), (3,))
    assert isinstance(stream, Stream)
    assert read == []
    assert stream.head(6).samples == 6
    assert read == [0, 1]
    assert [batch.spikes[0, 0, 0] for batch in stream] == list(range(9))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_line_that_mends_the_axes_gives_the_shape_that_is_wanted(data: st.DataObject) -> None:
    wanted = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    full = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), *wanted)
    order = tuple(data.draw(st.permutations(range(len(full)))))
    spikes = np.zeros(full, np.uint8).transpose(order)
    labels = data.draw(st.sampled_from([None, full[0]]))
    found = misread(spikes.shape, wanted, labels)
    if found is None:
        assert spikes.shape[2:] == wanted
        assert labels is None or spikes.shape[0] == labels or spikes.shape[1] != labels
        return
    line = found.fix.partition("numpy.")[2]
    if found.turned and line:
        mended = eval(f"numpy.{line}", {"numpy": np, "spikes": spikes})  # our own sentence, with our own array
        assert mended.shape[2:] == wanted
        assert labels in (None, mended.shape[0])
        if labels is not None:
            assert mended.shape == full or len(set(full)) < len(full)
