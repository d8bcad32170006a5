"""What the outputs of a network in training should be: labels, the outputs of the uncompressed network, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...network.graph import Network
from ...network.readout import ends_in_spikes
from ...simulation.float import simulate

#: Spikes per logit against labels; at 1, a few hundred samples are learned by heart.
LABEL_SPIKES = 2.0
#: Spikes per logit against a teacher: softened, its smaller outputs count too (Hinton 2015).
TEMPERATURE = 4.0
#: Most logits per spread of output counts against a teacher: neurons that spike thousands of times would tell nothing
#: but which is first.
COUNT_GAIN = 16.0
#: Logits per spread of output potentials.
POTENTIAL_GAIN = 3.0


@dataclass(frozen=True, eq=False)
class Goal:
    """labels: int64 (samples,) or None. wanted: the teacher's summed outputs, float32 (samples, outputs), or None.

    gain, softness: logits per unit of summed output, against labels and against a teacher's counts; potentials, which
    may be of any size, are taken in units of their spread over samples and outputs, as are counts of very many spikes.
    classes: outputs are spike counts of classes, of which only the comparison counts; others are to be met as they are.
    """

    labels: Tensor | None
    wanted: Tensor | None
    gain: float
    softness: float
    classes: bool

    @classmethod
    def of(cls, network: Network, spikes: np.ndarray, labels: np.ndarray | None, teacher: Network | None,
           device: str) -> Goal:
        """spikes: (samples, timesteps, *input shape); labels: int (samples,) or None."""
        reference = None if teacher is None else summed(teacher, spikes, device)
        spread = float((summed(network, spikes, device) if reference is None else reference).std())
        softness = 1 / max(TEMPERATURE, spread / COUNT_GAIN)
        gain = softness * TEMPERATURE / LABEL_SPIKES
        if not ends_in_spikes(network):
            gain = POTENTIAL_GAIN / spread if spread > 0 else 1.0
        return cls(
            None if labels is None else torch.from_numpy(labels.astype(np.int64)).to(device),
            None if reference is None else torch.from_numpy(reference).to(device), gain, softness,
            tells_classes(network))

    def loss(self, out: Tensor, members: np.ndarray) -> Tensor:
        """(samples,). out: what is read of the outputs of the members, (samples, *output shape).

        Cross-entropy against labels; against a teacher Kullback-Leibler divergence of softened counts, or mean
        squared error where outputs are no classes.
        """
        index = torch.from_numpy(members).to(out.device)
        out = out.reshape(len(out), -1)
        loss = torch.zeros(len(out), dtype=out.dtype, device=out.device)
        if self.labels is not None:
            loss = loss + F.cross_entropy(out * self.gain, self.labels[index], reduction="none")
        if self.wanted is not None:
            wanted = self.wanted[index].to(out.dtype)
            if self.classes:
                soft, like = F.log_softmax(out * self.softness, 1), F.log_softmax(wanted * self.softness, 1)
                loss = loss + F.kl_div(soft, like, reduction="none", log_target=True).sum(1) * TEMPERATURE**2
            else:
                loss = loss + F.mse_loss(out, wanted, reduction="none").mean(1) * self.gain**2
        return loss


def tells_classes(network: Network) -> bool:
    """Whether the outputs are spike counts of classes."""
    shape = network.shapes[network.output]
    return ends_in_spikes(network) and len(shape) == 1 and shape[0] > 1


def changed(network: Network, teacher: Network, spikes: np.ndarray, device: str = "cpu") -> int | None:
    """Samples whose class (the output with the most spikes; of several, the first) is not the teacher's; None where
    outputs are no classes. spikes: (samples, timesteps, *input shape)."""
    if not tells_classes(network):
        return None
    now, before = (summed(n, spikes, device).argmax(axis=1) for n in (network, teacher))
    return int(np.count_nonzero(now != before))


def read_over_time(network: Network, out: Tensor) -> Tensor:
    """What the class is the largest of: outputs (timesteps, samples, *shape) summed over time, or their last or largest
    values, where these are read of a network that does not end in spikes."""
    reading = "mean" if ends_in_spikes(network) else network.conventions.reading
    if reading == "mean":
        return out.sum(0)
    return out[-1] if reading == "last" else out.amax(0)


def summed(network: Network, spikes: np.ndarray, device: str) -> np.ndarray:
    """What is read of the outputs of plain simulation, float32 (samples, outputs)."""
    out = torch.from_numpy(simulate(network, spikes, device=device)["output"])
    return read_over_time(network, out.transpose(0, 1)).reshape(len(out), -1).numpy()
