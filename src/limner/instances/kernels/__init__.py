"""Loops over voxels as machine code, each on one core and without the interpreter's lock: callers run them in threads.

Volumes are (Z, Y, X); 2-D ones have a single section. Affinities are float32 from 0 to 1, or uint8 from 0 to 255.
"""
