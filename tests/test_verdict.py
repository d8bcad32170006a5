"""One verdict: what `check` calls fitting is deployed, and what it does not is refused by `deploy` as well.

    python tests/test_verdict.py 0 20000 [METHOD]     more seeds, with the disagreements by cause

Exit status 0 from `check` means 0 from `deploy`, 1 means 1 from both, and input that one of them can not use (2) the
other can not use either. "Decided by deploy" is the verdict where only the weights after compression can tell.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from verdict_networks import CHIPS, ENDS, Said, agree, checked, data_for, deployed, readable, said, written

from neurocompress.chip.profile.load import load_profile
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output
from neurocompress.verbs import check as verbs
from neurocompress.verbs import deploy as deployment

#: Networks that are held against every chip: 500 and more.
SEEDS = range(504)
PARTS = 9
#: Networks that are held against a chip that they must be pruned for.
FEW_SYNAPSES = range(16)


@pytest.fixture(autouse=True)
def _profiles_are_read_once(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    once = lru_cache(load_profile)
    for module in (verbs, deployment):
        monkeypatch.setattr(module, "load_profile", once)


@pytest.mark.parametrize("part", range(PARTS))
def test_check_and_deploy_say_the_same_of_drawn_networks_of_every_kind_on_every_chip(part: int, tmp_path: Path) -> None:
    seeds = [seed for seed in SEEDS if seed % PARTS == part]
    pairs, decided, fits = 0, 0, 0
    for seed in seeds:
        network, path, end = written(seed, tmp_path)
        model, data = readable(path), data_for(network, seed)
        for chip in CHIPS:
            found, made = checked(model, chip), deployed(model, chip, data)
            assert agree(found, made), f"seed {seed} ({end}) on {chip}: {found} and {made}"
            pairs, decided, fits = pairs + 1, decided + found.decided, fits + (found.status == 0)
    assert pairs == len(seeds) * len(CHIPS)
    assert decided <= pairs // 50  # rare
    assert fits > pairs // 4  # and what fits is no exception


@pytest.mark.parametrize("seed", range(len(ENDS)))
def test_bundles_of_every_end_are_written(seed: int, tmp_path: Path) -> None:
    """With the bundle itself: what a back end or the NIR writer can not express is known before, too."""
    network, path, _ = written(seed, tmp_path)
    for chip in CHIPS:
        found = checked(path, chip)
        made = deployed(path, chip, data_for(network, seed), out=tmp_path / f"{seed}-{chip}")
        assert agree(found, made), f"{found} and {made}"


@pytest.mark.parametrize("name", [
    "o_hidli", "q_hid_i", "q_taulong", "o_inode", "q_thrhalf_maxpool", "pool-conv-per-neuron", "fits-refused-offgrid",
    "fits-refused-bias", "q_tinythr", "o_zerothr"])
def test_reported_networks_have_one_verdict(name: str, shared: Path, tmp_path: Path) -> None:
    model, data = (shared / f"faults/networks/{name}.{kind}" for kind in ("nir", "npz"))
    for chip in CHIPS:
        found = checked(model, chip)
        made = deployed(model, chip, data if data.is_file() else None, out=tmp_path / f"{chip}")
        assert agree(found, made), f"{chip}: {found} and {made}"
        assert made.status < 3


def test_check_and_deploy_with_a_search_say_the_same_where_neurons_take_few_synapses(tmp_path: Path) -> None:
    """A chip of 8 synapses to a neuron, on which most networks must be pruned. What `check --fit` refuses is refused,
    what it calls fitting is deployed, and what losses on the data decide is left to deploy. 52: pools that overlap
    repeat one weight."""
    chip = tmp_path / "few.yaml"
    chip.write_text("extends: loihi2\nname: few\ntitle: Few\ncore:\n  fan_in: "
                    "{value: 8, unit: synapses, source: made up, confidence: derived, kind: wall}\n")
    choices = 0
    for seed in (*FEW_SYNAPSES, 52):
        network, path, end = written(seed, tmp_path)
        model, data = readable(path), data_for(network, seed)

        def run(model: Network | Path = model) -> Said:
            fit, _ = verbs.check_compressed(model, chip)
            return Said(0 if fit.fits else 1, "", fit.verdict == "decided by deploy")

        found, made = said(run), deployed(model, chip, data, fit=True)
        assert agree(found, made), f"{seed} ({end}): {found} {made}"
        choices += found.status == 0
    assert choices > len(FEW_SYNAPSES) // 4


def test_what_is_no_chain_is_refused_for_lava_dl_by_both_and_the_rest_is_decided_by_deploy(tmp_path: Path) -> None:
    broken = 0
    for seed in FEW_SYNAPSES:
        network, path, end = written(seed, tmp_path)
        model = readable(path)
        found, made = checked(model, "loihi2-lava-dl"), deployed(model, "loihi2-lava-dl", data_for(network, seed))
        assert agree(found, made), f"seed {seed} ({end}): {found} and {made}"
        broken += "NC113" in found.codes
    assert broken > 2


@pytest.mark.parametrize(("other", "lacks"), [({"reset": "subtract"}, False), ({"fire": ">="}, True), ({}, False)])
def test_neurons_that_lava_dl_lacks_are_refused_for_it_by_both(other: dict[str, str], lacks: bool) -> None:
    """Of a reset by subtraction both make one to zero, as the chip has it."""
    one = np.ones(8)
    nodes = {"input": Input((8,)), "fc": Linear(np.random.default_rng(1).normal(0.2, 0.5, (8, 8))),
             "n": Neuron((8,), one, one, 0 * one, 4 * one, 0 * one), "output": Output((8,))}
    network = Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0, **other))  # type: ignore[arg-type]
    found = checked(network, "loihi2-lava-dl")
    made = deployed(network, "loihi2-lava-dl", data_for(network, 0))
    assert ("NC113" in found.codes, found.status) == (lacks, int(lacks))
    assert agree(found, made), f"{found} {made}"


def test_fit_of_a_layer_that_shares_its_neurons_leaves_it_a_weight(shared: Path) -> None:
    folder = shared / "faults/networks"
    model, data, tight = (folder / n for n in ("fit-crash-1069.nir", "fit-crash-1069.npz", "tight.yaml"))
    made = deployment.deploy(model, tight, data=data, method="gptq", fit=True)
    assert verbs.check_compressed(model, tight)[1].fits
    assert made.passed
    assert all(layer.weight.any() for layer in made.compressed.layers.values())


def test_a_threshold_that_is_its_reset_is_refused_with_a_sentence_that_is_true(shared: Path) -> None:
    found = checked(shared / "faults/networks/o_zerothr.nir", "loihi2")
    assert found.status == 2
    assert "forever" not in found.text
    assert "Set v_threshold to the lowest potential above v_reset that shall spike" in found.text


def main(first: int, last: int, method: str) -> None:
    import torch

    torch.set_num_threads(1)
    kinds: Counter[tuple[object, ...]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            network, path, end = written(seed, Path(folder))
            model = readable(path)
            for chip in CHIPS:
                found, made = checked(model, chip), deployed(model, chip, data_for(network, seed), method)
                kinds["decided" if found.decided else found.status, made.status] += 1
                if not agree(found, made):
                    print(f"seed {seed} ({end}) on {chip}:\n  {found}\n  {made}", flush=True)
            path.unlink()
    for (status, other), count in sorted(kinds.items(), key=str):
        print(f"check {status}, deploy {other}: {count:,}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "rtn")
