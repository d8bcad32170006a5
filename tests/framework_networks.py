"""Networks drawn from seeds in the frameworks themselves: a framework's own run, its own export, and how to read it.

Each function gives a NIR graph as the framework exports it, its input (samples, timesteps, *shape), what the
framework's network gave for it, and what is to be said when the graph is read. Frameworks are imported where they are
needed.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

SAMPLES, STEPS, INPUTS, HIDDEN, OUTPUTS = 5, 40, 7, 9, 4


class Drawn(NamedTuple):
    graph: Any
    spikes: np.ndarray
    want: np.ndarray
    reading: dict[str, Any]


def number(rng: np.random.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return torch.tensor(rng.uniform(low, high, shape), dtype=torch.float32)


def inputs(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.tensor(rng.random((SAMPLES, STEPS, *shape)) < 0.4, dtype=torch.float32)


def two_layers(neurons: list[nn.Module], loud: float, kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    """Linear, neurons, Linear, neurons, with weights `loud` times as large as torch draws them."""
    layers = [nn.Linear(INPUTS, HIDDEN), neurons[0], nn.Linear(HIDDEN, OUTPUTS), neurons[1]]
    for line in (layers[0], layers[2]):
        line.weight.data *= loud
    return kind(*layers)


def step_by_step(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.stack([net(x[:, t]) for t in range(x.shape[1])], 1).numpy()


def quietly(export: Any, *arguments: Any, **more: Any) -> Any:
    """Exporters print, and warn of beta = 1."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(*arguments, **more)


def snntorch(seed: int, kind: str, reset: str, delay: bool, alike: bool = False) -> Drawn:
    """kind: "Leaky", "Synaptic", "RLeaky", "RSynaptic", or "Conv" for Leaky neurons behind a convolution. alike: the
    neurons of a layer have one beta and one threshold."""
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def neurons(*shape: int) -> nn.Module:
        beta = number(rng, 0.5, 1.0, *shape)
        beta[rng.random(shape) < 0.2] = 1.0
        threshold = number(rng, 0.5, 1.5, *shape)
        if alike:
            beta, threshold = torch.full(shape, 0.8), torch.full(shape, float(threshold[0]))
        given = {"beta": beta, "threshold": threshold, "init_hidden": True,
                 "reset_mechanism": reset, "reset_delay": delay}
        if "Synaptic" in kind:
            given["alpha"] = number(rng, 0.3, 0.9, *shape)
        if kind.startswith("R"):
            given |= {"all_to_all": True, "linear_features": shape[0]}
        return getattr(snn, "Leaky" if kind == "Conv" else kind)(**given)

    if kind == "Conv":
        net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), neurons(3, 5, 5), nn.Flatten(), nn.Linear(75, OUTPUTS),
                            neurons(OUTPUTS))
        net[3].weight.data *= 4
        x = inputs(rng, 2, 5, 5)
    else:
        net, x = two_layers([neurons(HIDDEN), neurons(OUTPUTS)], 2.0), inputs(rng, INPUTS)
    for part in net:
        if hasattr(part, "reset_mem"):
            part.reset_mem()
    want = step_by_step(net, x)
    graph = quietly(export_to_nir, net, x[:1, 0], ignore_dims=[0])
    reading: dict[str, Any] = {"preset": "snntorch"}
    if reset == "zero":
        reading["reset"] = "zero"
    if not delay:
        reading["convention"] = "reset_delay=false"
    return Drawn(graph, x.numpy(), want, reading)


def snntorch_imported(seed: int, reset: str) -> Drawn:
    """What snnTorch's importer builds from a graph of LIF neurons, run by snnTorch: it always resets to zero."""
    from snntorch.import_nir import import_from_nir

    made = snntorch(seed, "Leaky", reset, True, alike=True)
    net = quietly(import_from_nir, made.graph)
    x, state, out = torch.from_numpy(made.spikes), None, []
    with torch.no_grad():
        for t in range(x.shape[1]):
            found, state = net(x[:, t], state)
            out.append(found[0] if isinstance(found, tuple) else found)
    return Drawn(made.graph, made.spikes, torch.stack(out, 1).numpy(), {"preset": "snntorch-nir"})


def sinabs(seed: int, kind: str, single: bool) -> Drawn:
    """kind: "IAF", "IAF floor", "LIF", "LIF norm_input". single: one spike per step."""
    import sinabs.activation as activation
    import sinabs.layers as layers
    from sinabs.nir import to_nir

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    fire = activation.SingleSpike if single else activation.MultiSpike

    def neurons(n: int) -> nn.Module:
        if kind == "IAF":
            return layers.IAFSqueeze(batch_size=SAMPLES, spike_fn=fire, spike_threshold=number(rng, 0.5, 1.5))
        if kind == "IAF floor":
            return layers.IAFSqueeze(batch_size=SAMPLES, spike_fn=fire, min_v_mem=-1.0)
        return layers.LIFSqueeze(
            tau_mem=number(rng, 3, 20, n), spike_threshold=number(rng, 0.5, 1.5, n), batch_size=SAMPLES, spike_fn=fire,
            norm_input="norm" in kind)

    net = two_layers([neurons(HIDDEN), neurons(OUTPUTS)], 14.0 if "norm" in kind else 3.0)
    x = inputs(rng, INPUTS)
    with torch.no_grad():
        want = net(x.flatten(0, 1)).reshape(SAMPLES, STEPS, -1).numpy()
    convention: dict[str, Any] = {} if kind == "IAF floor" else {"v_floor": False}
    if single:
        convention["spikes_per_step"] = "one"
    if "norm" in kind:
        convention["gain"] = "nir"
    return Drawn(quietly(to_nir, net, x[:, 0]), x.numpy(), want, {"preset": "sinabs", "convention": convention})


def norse(seed: int, kind: str) -> Drawn:
    """kind: "LIFBoxCell", "LIFCell", "IAFCell", or "LIBoxCell" for a readout that integrates."""
    import norse.torch as cells
    from norse.torch.utils.export_nir import to_nir

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def neurons(n: int, last: bool) -> nn.Module:
        common = {"tau_mem_inv": number(rng, 50, 400, n), "v_leak": number(rng, -0.3, 0.2, n)}
        if kind == "LIFCell":
            return cells.LIFCell(cells.LIFParameters(tau_syn_inv=number(rng, 100, 500, n),
                                                     v_th=number(rng, 0.3, 0.8, n), **common))
        if kind == "IAFCell":
            return cells.IAFCell(cells.IAFParameters(v_th=number(rng, 0.5, 1.5, n)))
        if kind == "LIBoxCell" and last:
            return cells.LIBoxCell(cells.LIBoxParameters(**common))
        return cells.LIFBoxCell(cells.LIFBoxParameters(v_th=number(rng, 0.1, 0.4, n), **common))

    net = two_layers([neurons(HIDDEN, False), neurons(OUTPUTS, True)], 3.0, cells.SequentialState)
    x, state, out = inputs(rng, INPUTS), None, []
    with torch.no_grad():
        for t in range(STEPS):
            found, state = net(x[:, t], state)
            out.append(found)
    reading = {"preset": "norse"} | ({} if kind == "IAFCell" else {"dt": 1e-6})
    return Drawn(quietly(to_nir, net, x[:1, 0]), x.numpy(), torch.stack(out, 1).numpy(), reading)


def spikingjelly(seed: int, kind: str, dt: float) -> Drawn:
    """kind: "IF", "LIF", "LIF decay_input", "PLIF", "CUBALIF", or "Conv" for IF neurons behind a convolution."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def neurons() -> nn.Module:
        threshold, tau = float(rng.uniform(0.5, 1.5)), float(rng.uniform(1.5, 8))
        rest = float(rng.uniform(-0.3, 0.1))
        if kind == "PLIF":
            return neuron.ParametricLIFNode(init_tau=tau, decay_input=False, v_threshold=threshold,
                                            v_reset=rest)
        if kind == "CUBALIF":
            return neuron.CUBALIFNode(c_decay=float(rng.uniform(0.2, 0.8)), v_decay=float(rng.uniform(0.2, 0.8)),
                                      v_threshold=threshold, v_reset=rest)
        if kind.startswith("LIF"):
            decays = "decay_input" in kind
            return neuron.LIFNode(tau=tau, decay_input=decays, v_reset=rest,
                                  v_threshold=threshold * (0.3 if decays else 1.0))
        return neuron.IFNode(v_threshold=threshold, v_reset=rest)

    if kind == "Conv":
        net: nn.Module = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), neurons(), nn.Flatten(), nn.Linear(75, OUTPUTS),
                                       neurons())
        x = inputs(rng, 2, 5, 5)
    else:
        net, x = two_layers([neurons(), neurons()], 3.0), inputs(rng, INPUTS)
    want = step_by_step(net, x)
    functional.reset_net(net)
    reading: dict[str, Any] = {"preset": "spikingjelly"}
    if kind == "LIF decay_input":
        reading["dt"] = dt  # its r = 1 tells none
    return Drawn(quietly(export_to_nir, net, x[:1, 0], dt=dt), x.numpy(), want, reading)
