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
    """Writes the value that a variable has after step t into row t of an existing .npy file (steps, *shape)."""

    def __init__(self, *, path, variable):
        super().__init__(path=str(path))
        self.state = RefPort(variable.shape)
        self.state.connect_var(variable)
