"""The arithmetic of one step, bit by bit that of lava.proc.lif up to the way a neuron fires and resets."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from neurons.process import Neurons

STATE_MAX = 2**23  # u and v have 24 bits


def decayed(x, factor):
    """x * factor / 4096, rounded towards zero."""
    product = x * factor
    return np.sign(product) * (np.abs(product) >> 12)


@implements(proc=Neurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNeuronsModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    # int64 throughout: products with decays and shifted inputs do not fit into 32 bits
    u: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    du: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=12)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=12)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=17)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=13)
    bias_exp: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=3)
    reset_by: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    v_floor: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.first = proc_params["first"]
        self.steps = proc_params["steps"]
        self.period = proc_params["period"]
        self.sent = np.zeros(proc_params["v_init"].shape, dtype=np.int64)  # the spikes of the step before

    def run_spk(self):
        a = self.a_in.recv().astype(np.int64)
        step = (self.time_step - 1 - self.first) % self.period
        if self.time_step <= self.first or step >= self.steps:  # between two samples
            self.u[:] = self.proc_params["u_init"]
            self.v[:] = self.proc_params["v_init"]
            self.sent[:] = 0
            self.s_out.send(np.zeros(self.v.shape, dtype=np.int32))
            return

        threshold = self.vth << 6
        tested_against = threshold
        if self.proc_params["two_phase"]:
            tested_against = threshold + self.reset_by * (self.v > threshold)
        self.integrate(a)
        if not self.proc_params["spiking"]:
            self.s_out.send(self.v)
            return
        spikes = self.count_spikes(tested_against, threshold)
        if self.proc_params["late_reset"]:
            self.sent[:] = spikes
        else:
            self.v[:] = self.reset(self.v, spikes)
        np.maximum(self.v, self.v_floor, out=self.v)
        self.s_out.send(spikes)

    def integrate(self, a):
        u = decayed(self.u, 4096 - (self.du + 1)) + (a << 6)
        u = np.where(u > STATE_MAX, u - 2 * STATE_MAX, np.where(u <= -STATE_MAX, u + 2 * STATE_MAX, u))
        v = decayed(self.v, 4096 - self.dv) + u + (self.bias_mant << self.bias_exp)
        if self.proc_params["late_reset"]:
            v = self.reset(v, self.sent)
        self.u[:] = u
        self.v[:] = np.maximum(np.clip(v, 1 - STATE_MAX, STATE_MAX - 1), self.v_floor)

    def reset(self, v, spikes):
        return v - spikes * self.reset_by if self.proc_params["reset"] == "subtract" else np.where(spikes > 0, 0, v)

    def above(self, v, threshold):
        return v >= threshold if self.proc_params["fire"] == ">=" else v > threshold

    def count_spikes(self, tested_against, threshold):
        fired = self.above(self.v, tested_against)
        if self.proc_params["spikes_per_step"] == "one":
            return fired.astype(np.int64)
        over = self.v - tested_against  # how far beyond the first spike
        if self.proc_params["fire"] == ">":
            over = over - 1  # a v that lies exactly on the n-th threshold has not passed it
        return np.where(fired, 1 + over // threshold, 0)
