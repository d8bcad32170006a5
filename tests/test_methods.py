"""The table of methods is open, and its switches are switches of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from layer_problems import drawn_network, drawn_spikes

from neurocompress.compression import methods as table
from neurocompress.compression.maths import supports
from neurocompress.compression.maths.supports import Choosing, Ground, Magnitudes, support
from neurocompress.compression.methods import Method, method, methods
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import recipe_of
from neurocompress.errors import Refused

NETWORK, SPIKES = drawn_network(3), drawn_spikes(3)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(table, "_METHODS", dict(table._METHODS))
    yield
    table._load_installed.cache_clear()


def weights(name: str) -> dict[str, np.ndarray]:
    found = compress_network(NETWORK, SPIKES, recipe_of(method=name, sparsity=0.7, distill=0))
    return {n: layer.weight for n, layer in found.layers.items()}


def test_a_method_that_is_registered_is_one_of_all(own: None) -> None:
    method("mine", replace(methods()["sbc"], support="magnitude"))
    mine, named = weights("mine"), compress_network(
        NETWORK, SPIKES, recipe_of(method="sbc", support="magnitude", sparsity=0.7, distill=0)).layers
    assert all(np.array_equal(mine[n], named[n].weight) for n in mine)
    with pytest.raises(Refused, match=r"unknown method 'other'\. Known: sbc, .*, mine"):
        recipe_of(method="other")
    method("mine", replace(methods()["sbc"], support="magnitude"))  # a file that is read twice says the same
    with pytest.raises(ValueError, match="there is a method 'mine' already"):
        method("mine", Method())


def test_a_way_to_choose_weights_is_a_function(own: None) -> None:
    """The smallest weights stay: nobody else would."""
    before = dict(supports.SUPPORTS)

    @support("smallest")
    def smallest(weight: torch.Tensor, hessian: torch.Tensor, how: Choosing) -> Ground:
        return Magnitudes(1 / (1e-9 + weight.abs()))

    try:
        method("smallest", Method(support="smallest", compensate=False))
        found = compress_network(NETWORK, None, recipe_of(method="smallest", sparsity=0.5, allocation="uniform"))
        for name, layer in found.layers.items():
            whole = np.abs(NETWORK.nodes[name].weight)
            assert whole[layer.mask].max() <= whole[~layer.mask].min()
        with pytest.raises(Refused, match=r"unknown support 'other'\. Known: magnitude, obs, admm, smallest"):
            recipe_of(support="other")
        with pytest.raises(ValueError, match="there is a support 'smallest' already"):
            support("smallest")(supports.by_magnitude)
    finally:
        supports.SUPPORTS.clear()
        supports.SUPPORTS.update(before)


def test_methods_of_installed_packages_are_found(own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    table._load_installed.cache_clear()
    point = EntryPoint("theirs", "method_of_a_package", table.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: method(self.name, Method()))
    monkeypatch.setattr(table, "entry_points", lambda group: [point] if group == table.GROUP else [])
    assert "theirs" in methods()
    assert recipe_of(method="theirs").how == Method()


def test_asymmetric_calibration_row_weights_and_rate_matching_are_three_switches(own: None) -> None:
    none = replace(methods()["sbc"], asymmetric=False, row_weights=False, rate_matching=False)
    found = {}
    for switch in ("asymmetric", "row_weights", "rate_matching"):
        method(switch, replace(none, **{switch: True}))
        found[switch] = weights(switch)
    method("none", none)
    found["none"], found["sbc"] = weights("none"), weights("sbc")
    names = list(found)
    for k, a in enumerate(names):
        for b in names[k + 1 :]:
            assert any(not np.array_equal(found[a][n], found[b][n]) for n in found[a]), (a, b)
    first = next(iter(found["none"]))  # nothing stands before it that it could be fitted to
    np.testing.assert_array_equal(found["asymmetric"][first], found["none"][first])
