"""A structured fuzzer: real files, changed field by field, given to the command line.

`python -m tests.attacks --cases 100000 --seed 0` runs many cases; every one must end with status 0, 1 or 2, within
20 s of processor time and 2 GB, with sentences that hold no character a terminal would obey. A case is (seed, number):
the same pair gives the same files and the same command.
"""
