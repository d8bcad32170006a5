"""The frameworks themselves beside the float simulator: drawn networks, exported by them, spike for spike.

Needs requirements-frameworks.txt and requirements-neurobench.txt (snnTorch), as README's second command installs them.
"""

from __future__ import annotations

from importlib import import_module

import framework_networks as drawn
import numpy as np
import pytest
import torch
from conftest import skip_unless_ci

from neurocompress.frontends.nir import read
from neurocompress.simulation.float import simulate

SEEDS = range(6)


def needs(module: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        skip_unless_ci(f"needs {module} ({error}): pip install --no-deps -r requirements-frameworks.txt")


def compared(made: drawn.Drawn, dtype: torch.dtype = torch.float32) -> tuple[np.ndarray, np.ndarray]:
    """What we give for a framework's network, and what the framework gave."""
    found = simulate(read(made.graph, **made.reading), made.spikes, dtype=dtype)["output"]
    return found.reshape(made.want.shape), made.want


def same_spikes(networks: list[drawn.Drawn]) -> None:
    """Every value of every network is the same, 800 of each, and they do spike."""
    sent = 0
    for made in networks:
        found, want = compared(made)
        assert want.size == drawn.SAMPLES * drawn.STEPS * drawn.OUTPUTS
        assert np.count_nonzero(found != want) == 0, made.reading
        sent += int(want.sum())
    assert sent > 4 * len(networks)


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "RLeaky", "RSynaptic", "Conv"])
def test_snntorch(kind, reset, delay):
    """With neurons of beta = 1 among them."""
    needs("snntorch.export_nir")
    if kind == "RSynaptic" and not delay:
        with pytest.raises(TypeError):  # RSynaptic of snnTorch 1.0.0 can not run without its delay
            drawn.snntorch(0, kind, reset, delay)
        return
    seeds = SEEDS[:2] if kind == "Conv" else SEEDS
    same_spikes([drawn.snntorch(seed, kind, reset, delay) for seed in seeds])


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("kind", ["IAF", "IAF floor", "LIF", "LIF norm_input"])
def test_sinabs(kind, single):
    needs("sinabs.nir")
    same_spikes([drawn.sinabs(seed, kind, single) for seed in SEEDS])


@pytest.mark.parametrize("kind", ["LIFBoxCell", "LIFCell", "IAFCell"])
def test_norse(kind):
    needs("norse.torch.utils.export_nir")
    same_spikes([drawn.norse(seed, kind) for seed in SEEDS])


def test_the_membrane_of_a_norse_readout_is_the_same():
    needs("norse.torch.utils.export_nir")
    for seed in SEEDS:
        found, want = compared(drawn.norse(seed, "LIBoxCell"))
        np.testing.assert_allclose(found, want, atol=1e-5)
        assert np.ptp(want) > 0.1


@pytest.mark.parametrize("dt", [1e-4, 1e-3])
@pytest.mark.parametrize("kind", ["IF", "LIF", "LIF decay_input", "PLIF", "CUBALIF", "Conv"])
def test_spikingjelly(kind, dt):
    needs("spikingjelly.activation_based.nir_exchange")
    seeds = SEEDS[:2] if kind == "Conv" else SEEDS
    same_spikes([drawn.spikingjelly(seed, kind, dt) for seed in seeds])


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_what_snntorch_imports(reset):
    """Its importer always resets to zero at once, whatever the exported network did."""
    needs("snntorch.import_nir")
    same_spikes([drawn.snntorch_imported(seed, reset) for seed in SEEDS])
