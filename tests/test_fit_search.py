"""The search for a compression that fits: what it gives fits, nothing much milder does, and walls are named."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tight_chips import chip, networks, neurons, profile

from neurocompress.backends import backend
from neurocompress.chip.profile.load import Profile
from neurocompress.compression.recipe import recipe_of
from neurocompress.data.spikes import load_spikes
from neurocompress.deployment import compress_for_chip as pipeline
from neurocompress.deployment import fit_search as fitting
from neurocompress.deployment.fit_search import Board, compress_to_fit, compress_to_policy
from neurocompress.errors import Unfit
from neurocompress.fit.check import check_fit, plan_of
from neurocompress.fit.compression_search import (
    BOUND,
    SHARES,
    Losses,
    chips_for,
    mildest,
    mildest_of_weights,
    violations,
)
from neurocompress.fit.rules.rule import Violation
from neurocompress.frontends.nir import read
from neurocompress.network.connections import connections
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Node, Output
from neurocompress.verbs import deploy as deployment
from neurocompress.verbs.deploy import deploy

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/digits"
MODEL, DATA = EXAMPLE / "digits.nir", EXAMPLE / "digits_test.npz"

pytestmark = pytest.mark.usefixtures("one_thread")


def small(folder: Path, name: str = "small", words: int = 140, cores: int = 1, **core: object) -> Profile:
    """Loihi 1 with few cores of little memory."""
    return profile(folder, name, {
        "topology": {"cores_per_chip": cores},
        "core": {"synapse_memory": f'{words}, unit: "64-bit words"', **core}})


def dense(seed: int, *sizes: int) -> Network:
    rng = np.random.default_rng(seed)
    nodes: dict[str, Node] = {"input": Input((sizes[0],))}
    for k, (a, b) in enumerate(pairwise(sizes)):
        nodes |= {f"w{k}": Linear(rng.normal(size=(b, a))), f"n{k}": neurons((b,))}
    nodes["output"] = Output()
    return Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1.0))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), name=st.sampled_from(["refuse", "prune", "split", "join"]))
def test_what_the_search_gives_fits(network: Network, name: str) -> None:
    plan = plan_of(network, chip(name))
    found = mildest_of_weights(plan, None, fan_in_pruned=name in ("refuse", "prune"))
    again = check_fit(network, chip(name), found.bits, found.sparsity, fan_in=found.plan.fan_in)
    assert again.fits == (not found.walls)
    assert found.beyond == (found.worst[1] > BOUND and not found.walls)
    if not any(isinstance(f, Violation) for f in plan.findings):
        assert not any(found.sparsity.values())
    if found.walls:
        assert {v.code for v in found.walls} <= {v.code for v in again.violations}


def test_a_search_comes_close_to_the_best_of_all_choices(tmp_path: Path) -> None:
    network, widths = dense(1, 40, 24, 10), [8, 4]
    there = small(tmp_path, words=60)
    plan = plan_of(network, there)
    losses = Losses.of_weights(plan.connections, widths)
    found = mildest(plan, losses, widths, bound=np.inf)
    best = np.inf
    for bits, *levels in product(widths, range(0, len(SHARES), 2), range(0, len(SHARES), 2)):
        sparsity = losses.sparsity(np.array(levels))
        if not violations(plan.changed(bits=dict.fromkeys(plan.bits, bits), sparsity=sparsity)):
            best = min(best, losses.loss(bits, np.array(levels)))
    assert found.fits
    assert 0 < found.loss <= 1.5 * best


def test_every_layer_is_as_dense_as_the_others_let_it_be(tmp_path: Path) -> None:
    network = dense(2, 60, 30, 20, 10)
    plan = plan_of(network, small(tmp_path, words=90))
    losses = Losses.of_weights(plan.connections, [8])
    found = mildest(plan, losses, [8], bound=np.inf)
    assert found.fits
    for (name,) in losses.layers:
        level = int(np.argmin(np.abs(1 - SHARES - found.sparsity[name])))
        if level:
            milder = {**found.sparsity, name: float(1 - SHARES[level - 1])}
            assert violations(plan.changed(bits=dict.fromkeys(plan.bits, 8), sparsity=milder))


def test_only_layers_that_use_what_is_short_are_pruned(tmp_path: Path) -> None:
    """The wide layer needs the memory; pruning the narrow ones would free next to nothing."""
    network = dense(3, 8, 64, 256, 8)
    plan = plan_of(network, small(tmp_path, words=600, cores=3))
    found = mildest_of_weights(plan, 8, fan_in_pruned=False)
    assert found.fits
    assert [n for n, s in found.sparsity.items() if s > 0] == ["w1"]


def test_walls_are_named_with_the_chips_that_would_do(tmp_path: Path) -> None:
    plan = plan_of(dense(4, 30, 3000, 10), small(tmp_path, words=16384, cores=2))
    found = mildest_of_weights(plan, None, fan_in_pruned=False)
    assert {v.code for v in found.walls} == {"NC301", "NC303"}
    assert found.chips == (2, 2)
    assert not check_fit(plan.network, plan.profile, chips=1).fits
    assert check_fit(plan.network, plan.profile, chips=2).fits
    many = plan_of(dense(4, 5000, 10), small(tmp_path, "few", words=16384, cores=2, axons_in=100))
    wall = mildest_of_weights(many.changed(sparsity={"w0": 0.0}), None, fan_in_pruned=False)
    assert not wall.fits  # 99.9 % sparsity would leave 5 sources
    assert (wall.walls, wall.beyond) == ((), True)
    assert wall.chips[0] is None
    assert chips_for(many) is None


def test_no_layer_is_pruned_beyond_the_bound_and_what_it_would_take_is_said(tmp_path: Path, run: Run) -> None:
    """40 x 24 weights at 8 bits and an index: room for all, for half of their squares, or for a handful of them."""
    network = dense(6, 40, 24)
    ends = {}
    for words in (120, 40, 12):
        plan = plan_of(network, small(tmp_path, f"w{words}", words=words))
        ends[words] = mildest_of_weights(plan, 8, fan_in_pruned=False)
    assert ends[120].fits
    squares = np.sort(np.square(np.asarray(network.nodes["w0"].weight)).ravel())  # type: ignore[union-attr]
    for words in (40, 12):
        found = ends[words]
        drop = round(found.sparsity["w0"] * squares.size)
        rounding = Losses.of_weights(plan.connections, [8]).rounding[8][0] * (1 - found.sparsity["w0"])
        assert found.worst == ("w0", pytest.approx(squares[:drop].sum() / squares.sum() + rounding, rel=0.02))
        assert found.fits == (found.worst[1] <= BOUND)
    assert ends[12].beyond
    assert f"loses {ends[12].worst[1]:.3g} of the squared weights of 'w0'" in ends[12].said
    backend("nir").write(network, tmp_path / "net.nir")
    seen = run("check", tmp_path / "net.nir", "--profile", tmp_path / "w12.yaml", "--bits", 8, "--fit")
    assert seen.status == 0
    assert "DECIDED BY DEPLOY" in seen.out
    assert "By the weights alone no compression within the bound makes it fit" in " ".join(seen.out.split())
    seen = run("check", tmp_path / "net.nir", "--profile", tmp_path / "w12.yaml", "--bits", 8, "--fit", "--json")
    assert (seen.json["compression"]["beyond"], seen.json["compression"]["loss_bound"]) == (True, BOUND)


def test_every_wall_is_named_beside_too_few_cores(tmp_path: Path, shared: Path, run: Run) -> None:
    """More cores than the chip has at best, and a source that no core takes: 300 axons end in each core."""
    plan = plan_of(dense(7, 300, 3000, 10), small(tmp_path, words=16384, cores=1, axons_in=1))
    assert [v.code for v in violations(plan)] == ["NC301"]
    found = mildest_of_weights(plan, 8, fan_in_pruned=False, bound=np.inf)
    assert {v.code for v in found.walls} == {f.code for f in found.plan.findings if isinstance(f, Violation)}
    assert len({v.code for v in found.walls}) > 1
    model = shared / "models/nir_paper/cnn/cnn_sinabs.nir"
    seen = run("check", model, "--target", "brainscales2", "--preset", "sinabs", "--dt", 1e-3, "--fit", "--json")
    assert seen.status == 1
    assert {"NC101", "NC301"} <= {wall["code"] for wall in seen.json["compression"]["walls"]}


def test_bits_that_are_given_are_kept(tmp_path: Path) -> None:
    plan = plan_of(dense(5, 60, 30, 10), small(tmp_path, words=60), 6)
    assert mildest_of_weights(plan, 6, fan_in_pruned=False).bits == 6


def test_a_deployed_network_fits_with_its_real_weights(tmp_path: Path) -> None:
    there = small(tmp_path)
    made = deploy(MODEL, tmp_path / "small.yaml", data=DATA, out=tmp_path / "out", fit=True)
    assert made.fit.fits
    written = read(tmp_path / "out/model.nir")
    assert check_fit(written, there, made.compressed.fmt.bits).fits
    assert not check_fit(read(MODEL), there).fits
    assert any("the mildest compression that fits" in note for note in made.report.assumptions)
    assert made.report.held_out is not None
    assert made.report.held_out["emulated"] > 80  # of 97.5 before; chance is 10
    measured = made.report.fit.to_dict()["spikes_per_step"]
    assert measured["assumed"] is False


def test_the_search_goes_on_when_real_weights_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(small(tmp_path, words=700), bits=8)
    spikes = load_spikes(DATA, (64,)).spikes[:32]
    kept: list[int] = []
    real = Board.fit

    def stricter(self: Board, made: fitting.Compressed):  # type: ignore[no-untyped-def]
        kept.append(sum(int(np.count_nonzero(x.mask)) for x in made.layers.values()))
        return real(Board(small(tmp_path, "none", words=1)) if len(kept) < 3 else self, made)

    monkeypatch.setattr(Board, "fit", stricter)
    found = compress_to_fit(read(MODEL), board, spikes, recipe_of(method="magnitude"))
    assert found.fit.fits
    assert len(kept) == 3
    assert kept[0] > kept[1] > kept[2]


def test_what_learning_breaks_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path, words=700)
    monkeypatch.setattr(deployment, "learned", lambda made, data, tell: replace(made, network=made.original))
    made = deploy(MODEL, tmp_path / "small.yaml", data=DATA, fit=True, method="magnitude", bits=8)
    assert made.fit.fits
    assert made.compressed.network is not made.compressed.original


@pytest.mark.parametrize(("words", "distill", "judges"), [(140, None, 6), (16384, None, 0), (16384, 3, 6)])
def test_samples_judge_learning_only_where_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int, distill: int | None, judges: int
) -> None:
    """Where something is pruned, or learning is asked for; no compression sees what judges."""
    spikes, used = load_spikes(DATA, (64,)).spikes[:60], []
    monkeypatch.setattr(fitting, "statistics_for", lambda *given, **more: used.append(given[2]) or real(*given, **more))
    real = pipeline.statistics_for
    found = compress_to_fit(read(MODEL), Board(small(tmp_path, words=words)), spikes,
                            recipe_of(method="sbc", distill=distill))
    assert (found.compressed.recipe.distilled > 0) == (judges > 0)
    assert int(found.data.judges.sum()) == judges
    np.testing.assert_array_equal(used[0], np.delete(spikes, np.s_[9::10], axis=0) if judges else spikes)


def test_what_can_not_fit_is_refused_with_wall_and_chips(tmp_path: Path) -> None:
    small(tmp_path, neurons=60)
    with pytest.raises(Unfit, match=r"NC301.*3 chips would do with compression \(--chips 3\)"):
        deploy(MODEL, tmp_path / "small.yaml", data=DATA, fit=True, method="rtn")


def test_fan_in_is_pruned_to_the_limit_of_the_chip(tmp_path: Path) -> None:
    there = small(tmp_path, words=16384, fan_in=24, fan_in_policy="prune")
    made = compress_to_policy(
        read(MODEL), Board(there), load_spikes(DATA, (64,)).spikes[:32], recipe_of(method="sbc")).compressed
    assert not check_fit(read(MODEL), there).fits
    for layer in made.layers.values():
        assert np.count_nonzero(layer.weight, axis=1).max() == 24
    assert Board(there).fit(made).fits
    (violation, _) = check_fit(read(MODEL), there).violations
    assert violation.code == "NC207"
    again = check_fit(read(MODEL), there, **violation.apply)  # type: ignore[arg-type]
    assert (violation.code, violation.layer) not in {(v.code, v.layer) for v in again.violations}
    assert check_fit(read(MODEL), there, policy="prune").fits


def test_the_smallest_network_within_a_loss_of_accuracy(tmp_path: Path) -> None:
    data = load_spikes(DATA, (64,)).first(240)
    made = deploy(MODEL, "loihi1", data=data, max_drop=2.0, method="magnitude", bits=8)
    whole = deploy(MODEL, "loihi1", data=data, method="magnitude", bits=8)
    assert made.fit.totals["memory"] < whole.fit.totals["memory"]
    said = next(note for note in made.report.assumptions if "the smallest within" in note)
    reached, wanted = (float(x.split()[-1]) for x in said.split(" % ")[:2])
    assert reached >= wanted
    indices = made.report.calibration.indices
    assert indices is not None
    assert len(indices) == 120 + 60  # those that calibrated, and half of the others, which chose
    with pytest.raises(Unfit, match="at least"):
        deploy(MODEL, "loihi1", data=data, max_drop=0.0, method="magnitude", bits=2)


def test_the_command_line_searches_and_explains(run: Run, tmp_path: Path) -> None:
    small(tmp_path, words=700)
    chosen = ("--profile", tmp_path / "small.yaml")
    seen = run("check", MODEL, *chosen, "--fit", "--json")
    assert seen.status == 0
    assert seen.json["fits"] is True
    assert seen.json["compression"]["sparsity"]["fc1"] > 0
    assert {"map", "fewest_cores", "spikes_per_step", "fan_in_policy"} <= set(seen.json)
    assert "The mildest compression that fits" in run("check", MODEL, *chosen, "--fit").out
    small(tmp_path, neurons=60)
    seen = run("check", MODEL, *chosen, "--fit")
    assert seen.status == 1
    assert "It would fit 12 chips as it is and 3 chips at that compression" in seen.out
    assert run("check", MODEL, *chosen, "--chips", 12).status == 0
    assert run("check", MODEL, *chosen, "--fit", "--sparsity", 0.5).status == 2
    seen = run("deploy", MODEL, *chosen, "--fit", "--sparsity", 0.5, "--max-drop", -1, "--out", tmp_path / "x")
    assert seen.status == 2
    assert seen.err.count("error: ") == 3
    seen = run("deploy", MODEL, *chosen, "--fit", "--method", "rtn", "--out", tmp_path / "x")
    assert seen.status == 1
    assert "3 chips would do" in seen.err
    assert not (tmp_path / "x").exists()


def test_connections_keep_their_losses_apart() -> None:
    losses = Losses.of_weights(connections(dense(6, 8, 6, 4)), [8, 2])
    assert losses.pruning[:, 0].tolist() == [0, 0]
    assert (np.diff(losses.pruning, axis=1) >= 0).all()
    for k, c in enumerate(connections(dense(6, 8, 6, 4))):
        squares = np.sort(np.square(np.asarray(c.weight)).ravel())
        half = squares[: squares.size // 2].sum() / squares.sum()
        assert losses.pruning[k, int(np.flatnonzero(SHARES == 0.5)[0])] == pytest.approx(half)
