"""The process: parameters and state of one population."""

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var


class Neurons(AbstractProcess):
    """Integrate-and-fire neurons in the fixed-point arithmetic of lava.proc.lif.LIF, with more ways to fire.

    Every parameter is a number or an array of `shape`; all are integers.

    du, dv: decay of current and voltage per step, in 1/4096 (du: 4095 forgets everything).
    vth: threshold; v is compared with vth * 64.
    bias_mant, bias_exp: bias_mant << bias_exp is added to v in each step.
    reset: "zero" sets v to 0; "subtract" takes reset_by away for each spike.
    fire: ">" or ">=".
    spikes_per_step: "one", or "many": one graded spike holding as many spikes as thresholds fit into v.
    v_floor: v never stays below it.
    two_phase: a neuron that is still above its threshold from the last step must exceed vth * 64 + reset_by.
    late_reset: the reset follows one step later, after the decay and the input (which a reset to zero takes away too).
    spiking: False sends v itself in each step, and never resets.
    first, steps, period: a sample begins at step `first` of each `period` and lasts `steps` steps.
        Outside the neurons send nothing and rest at u, v, so that no sample leaves a trace in the next.
    """

    def __init__(self, *, shape, vth, first, steps, period, du=0, dv=0, bias_mant=0, bias_exp=0, reset="zero",
                 reset_by=0, fire=">", spikes_per_step="one", v_floor=-(2**23), two_phase=False, late_reset=False,
                 spiking=True, u=0, v=0):
        super().__init__(reset=reset, fire=fire, spikes_per_step=spikes_per_step, two_phase=two_phase,
                         late_reset=late_reset, spiking=spiking, first=first, steps=steps, period=period,
                         u_init=np.broadcast_to(u, shape), v_init=np.broadcast_to(v, shape))
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=u)
        self.v = Var(shape=shape, init=v)
        self.du = Var(shape=shape, init=du)
        self.dv = Var(shape=shape, init=dv)
        self.vth = Var(shape=shape, init=vth)
        self.bias_mant = Var(shape=shape, init=bias_mant)
        self.bias_exp = Var(shape=shape, init=bias_exp)
        self.reset_by = Var(shape=shape, init=reset_by)
        self.v_floor = Var(shape=shape, init=v_floor)
