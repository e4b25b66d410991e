"""Reads clips in a process of its own; says of each its number of frames and the most memory held until then."""

from __future__ import annotations

import resource
import sys

from vvae.video import read_clip

if __name__ == "__main__":
    for path in sys.argv[1:]:
        frames = sum(chunk.shape[2] for chunk in read_clip(path))
        print(frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
