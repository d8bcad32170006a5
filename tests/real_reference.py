"""A literal interpreter of networks with real states: float32 scalars, one step and one neuron after another.

It follows the text of `neurocompress/chip/on_chip/real_network.py` and shares no code with the product. What synapses
deliver is summed in Python's numbers: exactly where weights are integers, in float64 where they are those of a virtual
analog chip.
"""

from __future__ import annotations

import numpy as np

from neurocompress.chip.on_chip.real_network import RealNetwork, RealPopulation

F = np.float32


def neuron(q: dict, state: list, a: float) -> float:
    """One step of one neuron with coefficients q; changes its state [u, v, resets next] and returns what it sends."""
    u, v, before = state
    still_above = q["two_phase"] and q["threshold"] is not None and v > q["threshold"]
    u = F(a) if q["alpha"] is None else F(F(q["alpha"] * u) + F(a))
    v = F(F(q["beta"] * v) + u)
    v = F(v + q["leak"])
    if before:
        v = q["v_reset"] if q["reset"] == "zero" else F(v - q["threshold"])
    if q["threshold"] is None:
        state[:] = [u, v, False]
        return F(v * q["unit"])
    tested = F(v - q["threshold"]) if still_above else v
    fires = tested >= q["threshold"] if q["fire"] == ">=" else tested > q["threshold"]
    if fires and not q["late"] and q["reset"] == "zero":
        v = q["v_reset"]
    elif fires and not q["late"]:
        v = F(v - q["threshold"])
    if q["floor"]:
        v = max(v, -q["threshold"])
    state[:] = [u, v, fires and q["late"]]
    return F(fires)


def parameters(p: RealPopulation) -> list[dict]:
    def spread(values: object) -> list:
        if values is None:
            return [None] * int(np.prod(p.shape))
        return list(np.broadcast_to(np.asarray(values, dtype=F), p.shape).reshape(-1))

    step, rule = p.step, p.conventions
    columns = {"alpha": spread(step.alpha), "beta": spread(step.beta), "leak": spread(step.leak),
               "threshold": spread(step.v_threshold), "v_reset": spread(step.v_reset), "unit": spread(p.unit),
               "v_init": spread(p.v_init)}
    shared = {"fire": rule.fire, "reset": rule.reset, "floor": rule.v_floor,
              "late": rule.reset_delay,
              "two_phase": rule.two_phase_reset and rule.reset == "subtract" and not rule.reset_delay}
    return [shared | {k: values[i] for k, values in columns.items()} for i in range(len(columns["beta"]))]


def simulate(network: RealNetwork, samples: np.ndarray) -> dict[str, np.ndarray]:
    """What every population sends, (samples, steps, *shape) float32, each on its own clock: a spike of the source's
    step t arrives in step t + latency(source) + 1 + extra_delay - latency(target) of the target's clock."""
    n, steps = samples.shape[:2]
    late = {p.name: p.latency for p in network.populations} | {network.input: 0}
    neurons = {p.name: parameters(p) for p in network.populations}
    matrices = [np.asarray(s.matrix().toarray()) for s in network.synapses]
    out = {p.name: np.zeros((n, steps, *p.shape), F) for p in network.populations}
    sent = out | {network.input: samples}
    for sample in range(n):
        state = {name: [[F(0), q["v_init"], False] for q in found] for name, found in neurons.items()}
        for t in range(steps):
            for p in network.populations:
                total = [0] * len(neurons[p.name])
                for s, matrix in zip(network.synapses, matrices, strict=True):
                    if s.target != p.name:
                        continue
                    delays = np.broadcast_to(s.extra_delay, matrix.shape[1])
                    for j in range(matrix.shape[1]):
                        at = t - (late[s.source] + 1 + int(delays[j]) - late[p.name])
                        if at < 0:
                            continue
                        x = int(sent[s.source][sample, at].reshape(-1)[j])
                        if x:
                            for i in range(len(total)):
                                total[i] += matrix[i, j].item() * (x if s.message_bits else 1)
                done = [neuron(q, uv, a) for q, uv, a in zip(neurons[p.name], state[p.name], total, strict=True)]
                out[p.name][sample, t] = np.reshape(done, p.shape)
    return out
