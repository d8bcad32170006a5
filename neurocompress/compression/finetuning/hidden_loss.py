"""What hidden populations of a network should do: spike as they did before compression.

Few time steps give coarse counts at the outputs, which say little of what is wrong; hidden spikes say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...network.discrete import discretize
from ...network.graph import Network
from ...network.nodes import Neuron
from ...simulation.float import Runner, batches
from ...simulation.stored import as_stored


@dataclass(frozen=True, eq=False)
class Hidden:
    """The original network and, by hidden population, the decay of its membrane and the variance of its spikes once
    that membrane has filtered them."""

    original: Runner
    decays: Mapping[str, float]
    variances: Mapping[str, float]

    @classmethod
    def of(cls, network: Network, original: Network, spikes: np.ndarray, device: str) -> Hidden:
        """Populations that spike, with the same name and shape in both networks, and are no outputs; none where the
        two networks' conventions let spikes arrive at different steps.

        spikes: (samples, timesteps, *input shape).
        """
        outputs, decays = network.inputs_of(network.output), {}
        for name in network.populations if timing(network) == timing(original) else ():
            node = original.nodes.get(name)
            if not isinstance(node, Neuron) or not node.spiking or name in outputs:
                continue
            if original.shapes[name] == network.shapes[name]:
                decays[name] = float(discretize(node, original.conventions).beta.mean())
        sums, squares, n = dict.fromkeys(decays, 0.0), dict.fromkeys(decays, 0.0), dict.fromkeys(decays, 0)
        for signals in batches(original, spikes, tuple(decays), device=device) if decays else ():
            for name, beta in decays.items():
                x = filtered(signals[name], beta)
                sums[name] += float(x.sum(dtype=torch.float64))
                squares[name] += float(x.square().sum(dtype=torch.float64))
                n[name] += x.numel()
        variances = {name: squares[name] / n[name] - (sums[name] / n[name]) ** 2 for name in decays}
        heard = {name: beta for name, beta in decays.items() if variances[name] > 0}
        return cls(Runner(as_stored(original), tuple(heard), torch.float32, torch.device(device)), heard, variances)

    def loss(self, signals: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(samples,): the mean over populations of the squared distance between the filtered spikes in `signals`,
        (timesteps, samples, *shape), and the original's on the same input x, in units of the original's variance
        (van Rossum 2001)."""
        loss = torch.zeros(x.shape[1], device=x.device)
        wanted = self.original.run(x)
        for name, beta in self.decays.items():
            apart = filtered(signals[name] - wanted[name], beta).square()
            loss = loss + apart.transpose(0, 1).flatten(1).mean(1) / (self.variances[name] * len(self.decays))
        return loss


def timing(network: Network) -> tuple[object, ...]:
    """The conventions that say at which step a spike arrives."""
    rule = network.conventions
    return rule.dt, rule.synaptic_delay, rule.output_delay


def filtered(x: Tensor, beta: float) -> Tensor:
    """v[t] = beta v[t-1] + x[t] along axis 0, under autograd."""
    v, found = torch.zeros_like(x[0]), []
    for now in x:
        v = v * beta + now
        found.append(v)
    return torch.stack(found)
