"""The text of program.py: one process for each population and each connection, named after its node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.network.nodes import Shape

from .names import identifiers
from .processes import connection_process, is_native, padding, uniform

#: Names that a program uses for itself.
TAKEN = ("np", "Path", "W", "Conv", "Dense", "DelayDense", "Sparse", "DelaySparse", "LIFReset", "SignMode", "Neurons",
         "Player", "Layer", "main", "network", "file", "steps", "period", "sparse", "csr_matrix", "lava", "stream")

HEADER = '''\
# /// script
# requires-python = "==3.10.*"
# dependencies = ["lava-nc==0.10.0"]
# ///
"""A spiking network in its chip's integer arithmetic: {input} {input_shape} to {output} {output_shape}.

    uv run program.py --data spikes.npz --out result.npz [--record NAME ...] [--states]

spikes.npz holds `spikes`, {values} of shape (samples, steps, {sizes}).
Every connection takes one step, so each layer runs some steps (its latency) behind the input.
"""
'''

SPARSE = '''

def sparse(name, shape):
    """A stored matrix of which most entries are zero."""
    return csr_matrix((W[name + ".data"], W[name + ".indices"], W[name + ".indptr"]), shape=shape)
'''

NETWORK = '''

def network(file, steps, period):
    """The processes. file: samples of `steps` steps; one starts every `period` steps."""
'''


def write(network: IntegerNetwork, convolutions: str = "Conv") -> tuple[str, dict[str, np.ndarray]]:
    """The text of program.py and the arrays of weights.npz, for a network without `refusals`."""
    return _Program(network, convolutions).write()


class _Code(str):
    """Text that goes into the program as it is, where other values go in as their repr."""


def _call(name: str, process: str, arguments: dict[str, Any]) -> list[str]:
    """`name = process(...)` in as many lines as it needs, indented for the body of a function."""
    given = [f"{key}={value if isinstance(value, _Code) else repr(value)}" for key, value in arguments.items()]
    head = f"    {name} = {process}("
    lines, line = [], head
    for i, text in enumerate(given):
        text += ")" if i == len(given) - 1 else ","
        if len(line) + len(text) > 116:
            lines.append(line.rstrip())
            line = " " * len(head) if len(head) < 60 else " " * 8
        line += text + " "
    return [*lines, line.rstrip()]


def _stored(values: np.ndarray) -> np.ndarray:
    """The values in the smallest signed integers that hold them."""
    peak = max(abs(int(values.min(initial=0))), abs(int(values.max(initial=0))) + 1)
    return np.ascontiguousarray(values, dtype=np.min_scalar_type(-peak))


class _Program:
    """The program while it is written: names of processes, and weights gathered on the way."""

    def __init__(self, network: IntegerNetwork, convolutions: str):
        self.network = network
        layers = [network.input, *(p.name for p in network.populations)]
        names = identifiers([*layers, *(s.name for s in network.synapses)], TAKEN)
        self.layer = dict(zip(layers, names, strict=False))
        self.connection = dict(zip(network.synapses, names[len(layers):], strict=True))
        self.shape = {network.input: network.input_shape} | {p.name: p.shape for p in network.populations}
        self.process = {s: connection_process(network, s, convolutions) for s in network.synapses}
        self.weights: dict[str, np.ndarray] = {}

    def write(self) -> tuple[str, dict[str, np.ndarray]]:
        n = self.network
        body = _call(self.layer[n.input], "Player",
                     {"path": _Code("file"), "shape": n.input_shape, "period": _Code("period")})
        for p in n.populations:
            body += ["", f"    # {p.name!r}, {p.latency} step{'s' * (p.latency > 1)} behind the input"]
            for s in n.synapses:
                if s.target == p.name:
                    body += self._synapses(s)
            body += self._population(p)
        body += ["", "    # which spikes go where"]
        for s in n.synapses:
            body += self._wires(s)
        body += ["", "    return {"]
        body += [f"        {p.name!r}: Layer({self.layer[p.name]}, latency={p.latency})," for p in n.populations]
        body += ["    }"]
        arguments = (f"input_shape={n.input_shape}, message_bits={n.input_message_bits}, padding={padding(n)}, "
                     f"output={n.output!r}")
        if (step := n.graded_input) is not None:
            arguments += f",\n         scale={step.scale!r}, low={step.low}, high={step.high}"
        text = (
            HEADER.format(
                input=self.layer[n.input], input_shape=n.input_shape, output=self.layer[n.output],
                output_shape=self.shape[n.output], sizes=", ".join(map(str, n.input_shape)),
                values="whole numbers" if n.graded_input is None else
                "real values (sent as whole numbers: divided by `scale`, rounded, clipped)")
            + self._imports() + NETWORK + "\n".join(body)
            + f'\n\n\nif __name__ == "__main__":\n    main(network, {arguments})\n'
        )
        return text, self.weights

    def _imports(self) -> str:
        used = set(self.process.values())
        native = [is_native(self.network, p) for p in self.network.populations]
        lines = ["from pathlib import Path", "", "import numpy as np"]
        for package, classes in (("conv", ("Conv",)), ("dense", ("DelayDense", "Dense")),
                                 ("lif", ("LIFReset",) if any(native) else ()),
                                 ("sparse", ("DelaySparse", "Sparse"))):
            imported = [c for c in classes if c in used or c == "LIFReset"]
            if imported:
                lines.append(f"from lava.proc.{package}.process import {', '.join(imported)}")
        if used - {"Conv"}:
            lines.append("from lava.utils.weightutils import SignMode")
        sparse = any("Sparse" in process for process in used)
        if sparse:
            lines.append("from scipy.sparse import csr_matrix")
        lines.append("")
        if not all(native):
            lines.append("from neurons.process import Neurons")
        lines += ["from spike_io.process import Player", "from stream import Layer, main", ""]
        lines.append('W = np.load(Path(__file__).parent / "weights.npz")')
        return "\n" + "\n".join(lines) + "\n" + (SPARSE if sparse else "")

    def _keep(self, name: str, values: Any) -> _Code | int:
        """How the program writes these values: a number where all are equal, else an array of weights.npz."""
        if (same := uniform(values)) is not None:
            return same
        self.weights[name] = _stored(np.asarray(values))
        return _Code(f'W["{name}"]')

    def _population(self, p: Population) -> list[str]:
        name = self.layer[p.name]

        def keep(field: str) -> _Code | int:
            values = np.asarray(getattr(p, field))
            if uniform(values) is None:
                values = np.broadcast_to(values, p.shape)
            return self._keep(f"{name}.{field}", values)

        arguments: dict[str, Any] = {"shape": p.shape}
        arguments |= {field: keep(field) for field in ("du", "dv", "vth")}
        if (bias := keep("bias_mant")) != 0:
            arguments |= {"bias_mant": bias, "bias_exp": int(p.bias_exp)}
        if is_native(self.network, p):
            arguments |= {"reset_interval": _Code("period"), "reset_offset": _Code(f"{p.latency + 1} % period")}
            return _call(name, "LIFReset", arguments)
        if p.spiking:
            arguments |= {"reset": p.reset, "fire": p.fire, "spikes_per_step": p.spikes_per_step}
            if p.reset == "subtract" or p.two_phase:
                arguments["reset_by"] = keep("reset_by")
            if p.two_phase:
                arguments["two_phase"] = True
            if p.late_reset:
                arguments["late_reset"] = True
        else:
            arguments["spiking"] = False
        if p.v_floor is not None:
            arguments["v_floor"] = keep("v_floor")
        arguments |= {key: value for key, value in (("u", keep("u_init")), ("v", keep("v_init"))) if value != 0}
        arguments |= {"first": p.latency, "steps": _Code("steps"), "period": _Code("period")}
        return _call(name, "Neurons", arguments)

    def _synapses(self, s: Synapses) -> list[str]:
        name, process = self.connection[s], self.process[s]
        if process == "Conv":
            arguments = self._convolution(s, name)
        else:
            matrix = s.weight if process.endswith("Dense") and isinstance(s.weight, np.ndarray) else s.matrix()
            arguments = {"weights": self._matrix(name, matrix, process.endswith("Dense"))}
            if process.startswith("Delay"):
                arguments["delays"] = self._delays(s, name, matrix)
            arguments |= {"weight_exp": int(s.exponent), "num_weight_bits": int(s.bits),
                          "sign_mode": _Code(f"SignMode.{s.sign.upper()}")}
        arguments["num_message_bits"] = int(s.message_bits)
        return [f"    # {s.name!r} from {s.source!r}", *_call(name, process, arguments)]

    def _matrix(self, name: str, matrix: Any, dense: bool) -> _Code:
        if dense:
            self.weights[name] = _stored(matrix if isinstance(matrix, np.ndarray) else matrix.toarray())
            return _Code(f'W["{name}"]')
        self.weights[f"{name}.data"] = _stored(matrix.data)
        self.weights[f"{name}.indices"] = matrix.indices.astype(np.int32)
        self.weights[f"{name}.indptr"] = matrix.indptr.astype(np.int32)
        return _Code(f'sparse("{name}", {tuple(map(int, matrix.shape))})')

    def _delays(self, s: Synapses, name: str, matrix: Any) -> _Code | int:
        """One delay for each entry of the matrix, as DelayDense and DelaySparse want them."""
        per_source = np.broadcast_to(np.asarray(s.extra_delay), matrix.shape[1:])
        if self.process[s] == "DelayDense":
            if (same := uniform(per_source)) is not None:
                return same
            self.weights[f"{name}.delays"] = per_source.astype(np.uint8)
            return _Code(f'np.broadcast_to(W["{name}.delays"].astype(int), {tuple(map(int, matrix.shape))})')
        delays = matrix.copy()
        delays.data = per_source[matrix.indices]
        return _Code(self._matrix(f"{name}.delays", delays, dense=False) + ".astype(int)")

    def _convolution(self, s: Synapses, name: str) -> dict[str, Any]:
        """Lava convolves (width, height, channels) with a flipped kernel, and knows no weight exponent."""
        assert s.kernel is not None
        weight = np.asarray(s.weight).astype(np.int64) << s.exponent
        weight = weight.reshape(*weight.shape[:2], weight.shape[2], -1)  # one axis: an image of width 1
        self.weights[name] = _stored(weight.transpose(0, 3, 2, 1)[:, ::-1, ::-1])
        arguments: dict[str, Any] = {"weight": _Code(f'W["{name}"]'), "input_shape": _image(s.kernel.input_shape)[::-1]}
        for field, values, extra in (("stride", s.kernel.stride, 1), ("dilation", s.kernel.dilation, 1),
                                     ("padding", tuple(before for before, _ in s.kernel.padding), 0)):
            pair = (*map(int, values), extra)[:2]
            if set(pair) != {extra}:
                arguments[field] = pair[::-1]
        if s.kernel.groups > 1:
            arguments["groups"] = int(s.kernel.groups)
        return arguments

    def _wires(self, s: Synapses) -> list[str]:
        source, target, own = self.layer[s.source], self.layer[s.target], self.connection[s]
        flat_in, flat_out = (math.prod(self.shape[s.source]),), (math.prod(self.shape[s.target]),)
        spikes, activity = f"{source}.s_out", f"{own}.a_out"
        if self.process[s] == "Conv":
            assert s.kernel is not None
            spikes += _reshape(self.shape[s.source], _image(s.kernel.input_shape)) + ".transpose([2, 1, 0])"
            activity += ".transpose([2, 1, 0])" + _reshape(_image(s.kernel.output_shape), self.shape[s.target])
        else:
            spikes += _reshape(self.shape[s.source], flat_in)
            activity += _reshape(flat_out, self.shape[s.target])
        return [f"    {spikes}.connect({own}.s_in)", f"    {activity}.connect({target}.a_in)"]


def _image(shape: Shape) -> Shape:
    """(channels, height, width) of a signal of two or three axes."""
    return (*shape, 1)[:3]


def _reshape(shape: Shape, wanted: Shape) -> str:
    if shape == wanted:
        return ""
    return ".flatten()" if len(wanted) == 1 else f".reshape({wanted})"
