"""Readers of trained networks: each turns one kind of file into a `Network`.

nir.read reads NIR files. It works in rooms of its own, in the order of the data's way: nir_file (HDF5 to plain
values), nir_wiring (one flat graph), nir_nodes (primitives to nodes), nir_conventions (time steps and why).
"""
