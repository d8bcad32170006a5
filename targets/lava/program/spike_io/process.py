"""The processes that play samples into a network and record what comes out."""

from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess


class Player(AbstractProcess):
    """Sends the samples of a .npy file (samples, steps, *shape), one every `period` steps and silence between."""

    def __init__(self, *, path, shape, period):
        super().__init__(path=str(path), period=period)
        self.s_out = OutPort(shape=shape)


class Recorder(AbstractProcess):
    """Writes what it receives in step t into row t of an existing .npy file (steps, *shape)."""

    def __init__(self, *, path, shape):
        super().__init__(path=str(path))
        self.a_in = InPort(shape=shape)


class StateRecorder(AbstractProcess):
    """A Recorder that also writes the values which two variables, u and v, have after each step."""

    def __init__(self, *, path, u_path, v_path, u, v):
        super().__init__(path=str(path), u_path=str(u_path), v_path=str(v_path))
        self.a_in = InPort(shape=u.shape)
        self.u, self.v = RefPort(u.shape), RefPort(v.shape)
        self.u.connect_var(u)
        self.v.connect_var(v)
