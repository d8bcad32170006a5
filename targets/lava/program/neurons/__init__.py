"""Neurons that lava.proc does not have: subtractive reset, several spikes per step, per-neuron parameters."""
