"""Networks of every kind, drawn from a seed, and what `check` and `deploy` say to them.

Overlapping pools, parameters by neuron, biases, sums, recurrence, delays, all kinds of neurons, nine ends. Sizes are
tiny; magnitudes are mostly usual and at times not: gains that differ by orders, weights far above or below thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompress.backends import backend
from neurocompress.data.spikes import SpikeData
from neurocompress.errors import Refused, Unfit
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import (
    Conv,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Pool,
    Scale,
    Shape,
    Threshold,
)
from neurocompress.network.shapes import output_shape
from neurocompress.verbs.check import check
from neurocompress.verbs.deploy import deploy
from neurocompress.verbs.load import load

CHIPS = ("loihi1", "loihi2", "spinnaker2", "brainscales2", "tianjic")
ENDS = ("spiking", "LI", "I", "Linear", "Conv", "Flatten", "Scale", "pool", "two populations")
KINDS = ("IF", "LIF", "CubaLIF", "LI", "I", "CubaLI", "Threshold")
#: Samples and steps of the data; every network gets some of its own.
SAMPLES, STEPS = 6, 8


class Drawing:
    """A network as it grows: `add` puts a node behind the last one."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: dict[str, Node] = {}
        self.edges: list[tuple[str, str]] = []
        self.last, self.shape = "", ()

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, *choices: object, p: tuple[float, ...] | None = None) -> object:
        return choices[int(self.rng.choice(len(choices), p=p))]

    def add(self, name: str, node: Node) -> str:
        self.nodes[name] = node
        if self.last:
            self.edges.append((self.last, name))
        self.last, self.shape = name, output_shape(node, self.shape)
        return name

    def weights(self, *shape: int) -> np.ndarray:
        """Of both signs, some zero; now and then far larger or smaller than a threshold."""
        scale = 10.0 ** self.one_of(0.0, self.rng.uniform(-6, 7), p=(0.94, 0.06))
        values = self.rng.normal(0.3, 1.0, size=shape) * scale / np.sqrt(np.prod(shape[1:]))
        return np.where(self.rng.random(shape) < 0.1, 0.0, values)

    def bias(self, n: int) -> np.ndarray | None:
        if self.chance(0.5):
            return None
        scale = 10.0 ** self.one_of(0.0, self.rng.uniform(-4, 6), p=(0.9, 0.1))
        return self.rng.normal(0.0, 0.2, size=n) * scale

    def of_neurons(self, low: float, high: float, alike: bool) -> np.ndarray:
        """One number for each neuron of the present shape: alike, of a channel, or each another."""
        if alike or self.chance(0.5):
            return np.full(self.shape, self.rng.uniform(low, high))
        if self.chance(0.4):
            return np.broadcast_to(self.rng.uniform(low, high, (self.shape[0], *(1,) * (len(self.shape) - 1))),
                                   self.shape).copy()
        return self.rng.uniform(low, high, self.shape)

    def neurons(self, name: str, kind: str) -> str:
        alike = self.chance(0.4)
        if kind == "Threshold":
            return self.add(name, Threshold(self.of_neurons(0.2, 1.0, alike)))
        values = {"r": self.of_neurons(0.5, 2.0, alike)}
        if self.chance(0.08):  # gains that differ by orders of magnitude
            values["r"] = values["r"] * 10.0 ** self.rng.uniform(-4, 3, self.shape)
        if "L" in kind:
            slow = 10.0 ** self.one_of(0.0, 1.0, 4.0, p=(0.85, 0.1, 0.05))
            values |= {"tau_mem": self.of_neurons(2e-3, 20e-3, alike) * slow,
                       "v_leak": self.one_of(0.0, self.rng.uniform(-0.3, 0.3)) + np.zeros(self.shape)}
            values["r"] = values["r"] * (1.0 if self.chance(0.3) else 8.0 * slow)
        if "Cuba" in kind:
            slow = 10.0 ** self.one_of(0.0, 4.0, p=(0.95, 0.05))
            values |= {"tau_syn": self.of_neurons(2e-3, 20e-3, alike) * slow, "w_in": self.of_neurons(1, 8, alike)}
        if kind.removeprefix("Cuba") in ("IF",) and "L" not in kind:
            values["r"] = values["r"] * 1e3  # r dt = 1
        if kind == "I":
            values["r"] = values["r"] * 1e3
        if kind.endswith("F"):
            values |= {"v_threshold": self.of_neurons(0.4, 1.5, alike)
                       * 10.0 ** self.one_of(0.0, self.rng.uniform(-7, 4), p=(0.95, 0.05)),
                       "v_reset": self.one_of(0.0, -0.2) + np.zeros(self.shape)}
        return self.add(name, Neuron(self.shape, **values))

    def pool(self, name: str) -> None:
        kernel = (min(int(self.rng.integers(1, 4)), self.shape[1]), min(int(self.rng.integers(1, 4)), self.shape[2]))
        stride = tuple(int(self.rng.integers(1, k + 1)) for k in kernel)
        padding = int(self.chance(0.15) and min(kernel) > 1)
        self.add(name, Pool(str(self.one_of("sum", "average")), kernel, stride, ((padding,) * 2,) * 2))

    def conv(self, name: str) -> None:
        groups = 2 if self.shape[0] % 2 == 0 and self.chance(0.3) else 1
        kernel = tuple(min(int(self.rng.integers(1, 4)), n) for n in self.shape[1:])
        out = groups * int(self.rng.integers(1, 3))
        pad = int(self.chance(0.3))
        self.add(name, Conv(self.weights(out, self.shape[0] // groups, *kernel), self.bias(out),
                            (int(self.rng.integers(1, 3)), 1), ((pad, pad), (pad, pad)), (1, 1), groups))

    def linear(self, name: str) -> None:
        if len(self.shape) > 1:
            self.add(f"{name}_flat", Flatten(0, -1))
        n = int(self.rng.integers(2, 7))
        self.add(name, Linear(self.weights(n, self.shape[0]), self.bias(n)))


def drawn(seed: int, end: str) -> Network:
    """Raises `Refused` for what no network can be."""
    d = Drawing(seed)
    image = d.chance(0.55) or end in ("Conv", "pool")
    d.shape = (int(d.rng.integers(1, 4)), int(d.rng.integers(4, 8)), int(d.rng.integers(4, 8))) if image else (
        int(d.rng.integers(2, 8)),)
    d.add("in", Input(d.shape))
    keep_image = end in ("Conv", "pool")
    before: list[tuple[str, Shape]] = []
    for k in range(int(d.rng.integers(1, 4))):
        if d.chance(0.1):
            d.add(f"wait{k}", Delay(1e-3 * (d.rng.integers(0, 4, d.shape) if d.chance(0.5) else np.full(d.shape, 2.0))))
        big = len(d.shape) == 3 and min(d.shape[1:]) >= 2
        if big and d.chance(0.4):
            d.pool(f"p{k}")
            if min(d.shape[1:]) >= 2 and d.chance(0.25):
                d.pool(f"pp{k}")
        if d.chance(0.15):
            d.add(f"s{k}", Scale(d.of_neurons(0.3, 1.5, d.chance(0.5))))
        if d.last.startswith(("p", "s")) and d.chance(0.3):
            pass  # a pool or a scale alone
        elif len(d.shape) == 3 and (keep_image or d.chance(0.6)):
            d.conv(f"w{k}")
            if min(d.shape[1:]) >= 2 and d.chance(0.15):
                d.pool(f"after{k}")
        else:
            d.linear(f"w{k}")
        behind = d.last
        kind = str(d.one_of(*KINDS, p=(0.27, 0.34, 0.25, 0.04, 0.03, 0.03, 0.04)))
        n = d.neurons(f"n{k}", kind)
        if len(d.shape) == 1 and d.chance(0.25):  # recurrence
            d.nodes[f"rec{k}"] = Linear(d.weights(d.shape[0], d.shape[0]), d.bias(d.shape[0]))
            d.edges += [(n, f"rec{k}"), (f"rec{k}", n)]
        skips = [name for name, shape in before if shape == d.shape]
        if skips and d.chance(0.5):  # a sum
            d.edges.append((skips[0], n))
        elif before and len(d.shape) == 1 and len(before[0][1]) == 1 and d.chance(0.3):
            d.nodes[f"skip{k}"] = Linear(d.weights(d.shape[0], before[0][1][0]))
            d.edges += [(before[0][0], f"skip{k}"), (f"skip{k}", n)]
        elif isinstance(d.nodes[behind], Conv) and d.chance(0.15):  # two convolutions into the same neurons
            (source,) = [a for a, b in d.edges if b == behind]
            old = d.nodes[behind]
            d.nodes[f"two{k}"] = Conv(d.weights(*old.weight.shape), None, old.stride, old.padding, old.dilation,
                                      old.groups)
            d.edges += [(source, f"two{k}"), (f"two{k}", n)]
        before.append((n, d.shape))
    ended(d, end, before)
    rng = d.rng
    many = d.chance(0.15)
    rule = Conventions(
        dt=1e-3, decay=str(d.one_of("euler", "exponential")), reset=str(d.one_of("zero", "subtract")),
        fire=str(d.one_of(">", ">=")), spikes_per_step="many" if many else "one", v_floor=d.chance(0.15),
        two_phase_reset=not many and d.chance(0.15), gain=str(d.one_of("nir", "unit", p=(0.8, 0.2))),
        input_decays=d.chance(0.1), bias=str(d.one_of("current", "membrane")), recurrent_bias_at_start=d.chance(0.5),
        synaptic_delay=int(rng.integers(0, 2)), output_delay=int(d.chance(0.1)))
    return Network(d.nodes, tuple(dict.fromkeys(d.edges)), rule)


def ended(d: Drawing, end: str, before: list[tuple[str, Shape]]) -> None:
    """One of ENDS behind the last population."""
    if end in ("spiking", "LI", "I", "two populations"):
        d.linear("last")
        kind = str(d.one_of("IF", "LIF", "CubaLIF")) if end == "spiking" else end
        if end == "LI" and d.chance(0.4):
            kind = "CubaLI"
        split = d.last
        name = d.neurons("out_n", "LIF" if end == "two populations" else kind)
        d.add("out", Output(d.shape))
        if end == "two populations":
            d.last = split
            d.neurons("out_m", str(d.one_of("LIF", "IF")))
            d.edges.append(("out_m", "out"))
        assert name in d.nodes
        return
    if end == "Linear":
        d.linear("last")
    elif end == "Conv":
        d.conv("last")
    elif end == "pool":
        d.pool("last")
    elif end == "Scale":
        d.add("last", Scale(d.of_neurons(0.3, 1.5, d.chance(0.5))))
    else:
        d.add("last", Flatten(0, -1))
    d.add("out", Output(d.shape))


def data_for(network: Network, seed: int) -> SpikeData:
    rng = np.random.default_rng(seed)
    shape = network.shapes[network.input]
    spikes = (rng.random((SAMPLES, STEPS, *shape)) < rng.uniform(0.1, 0.6)).astype(np.uint8)
    return SpikeData(spikes, None, "drawn")


@dataclass(frozen=True)
class Said:
    """What a verb said: its exit status, "decided by deploy" beside it, and the sentences."""

    status: int
    text: str
    decided: bool = False
    codes: frozenset[str] = frozenset()


def said(run: Callable[[], Said]) -> Said:
    """As the command's `main` would turn it into an exit status."""
    try:
        return run()
    except Unfit as error:
        return Said(1, str(error))
    except Refused as error:
        return Said(2, str(error))
    except Exception as error:  # what the command calls a bug of ours
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return Said(3, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.name})")


def checked(path: Path | Network, chip: str, **options: object) -> Said:
    def run() -> Said:
        fit = check(path, chip, **options)
        return Said(0 if fit.fits else 1, "; ".join(map(str, fit.violations)), fit.verdict == "decided by deploy",
                    frozenset(v.code for v in fit.violations))

    return said(run)


def deployed(
    path: Path | Network, chip: str, data: SpikeData | Path | None, method: str = "rtn", **options: object
) -> Said:
    def run() -> Said:
        made = deploy(path, chip, data=data, method=method, **options)
        text = "; ".join(map(str, made.fit.violations)) or ("" if made.passed else "a register wrapped")
        return Said(0 if made.passed else 1, text, codes=frozenset(v.code for v in made.fit.violations))

    return said(run)


def agree(check: Said, deploy: Said) -> bool:
    if check.decided:
        return deploy.status in (0, 1)
    return check.status == deploy.status and check.status in (0, 1, 2)


def written(seed: int, folder: Path) -> tuple[Network, Path, str]:
    """The network of a seed as a file, and its end; drawn again where a draw is no network."""
    end, path = ENDS[seed % len(ENDS)], folder / f"{seed}.nir"
    for again in range(100):
        try:
            network = drawn(seed + 10**6 * again, end)
            backend("nir").write(network, path)
        except (Refused, ValueError):
            continue
        return network, path, end
    raise AssertionError(f"seed {seed}: no network in a hundred draws")


def readable(path: Path) -> Network | Path:
    """The network of a file as the reader has it, read once for all chips; the file itself where it is refused."""
    try:
        return load(path)
    except Refused:
        return path
