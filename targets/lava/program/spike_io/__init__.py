"""Spikes in, spikes and states out, through .npy files: Lava's own buffers hand out one number at a time."""
