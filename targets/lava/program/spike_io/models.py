"""How they do it."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from spike_io.process import Player, Recorder, StateRecorder


@implements(proc=Player, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPlayerModel(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.data = np.load(proc_params["path"], mmap_mode="r")
        self.silence = np.zeros(self.data.shape[2:], dtype=np.int32)

    def run_spk(self):
        sample, step = divmod(self.time_step - 1, self.proc_params["period"])
        self.s_out.send(self.data[sample, step] if step < self.data.shape[1] else self.silence)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorderModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.data = np.load(proc_params["path"], mmap_mode="r+")

    def run_spk(self):
        self.data[self.time_step - 1] = self.a_in.recv()


@implements(proc=StateRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateRecorderModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    u: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int64)
    v: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.data = np.load(proc_params["path"], mmap_mode="r+")
        self.u_data = np.load(proc_params["u_path"], mmap_mode="r+")
        self.v_data = np.load(proc_params["v_path"], mmap_mode="r+")

    def run_spk(self):
        self.data[self.time_step - 1] = self.a_in.recv()

    def post_guard(self):
        return True

    def run_post_mgmt(self):
        self.u_data[self.time_step - 1] = self.u.read()
        self.v_data[self.time_step - 1] = self.v.read()
