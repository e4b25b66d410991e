"""Laws of time: what an output frame may depend on. f is the layer, x a clip; its lead is the group before all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vvae import reach
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.verify.clips import unrelated
from vvae.verify.findings import TOLERANCE, LawError, near
from vvae.verify.measure import Run, along, exchanged, measured, tensor_of


def check_reach(run: Run, declared: Reach, x: Tensor, *, exact: bool = True) -> float:
    """not declared[i, j]  =>  f(x)[i] is exactly the same for any x[j];  exact: declared[i, j] => df(x)[i]/dx[j] != 0.

    Frames are exchanged for unrelated content; no tolerance, since what does not depend does not move at all. Where
    `exact` is False the declaration is an upper bound, and no gradient is asked for.

    Returns: the share of the matrix that is declared not to depend, which is what was tested by exchange.
    """
    with torch.no_grad():
        base = tensor_of(run(x))
        if declared.shape != (base.shape[2], x.shape[2]):
            raise LawError("reach", f"declared {declared.shape}, but {base.shape[2]} frames come out of {x.shape[2]}")
        for column, other in enumerate(exchanged(x)):
            moved = along(tensor_of(run(other)) != base, 2)
            if (wrong := np.flatnonzero(moved & ~declared[:, column])).size:
                told = f"output frames {wrong.tolist()} depend on input frame {column}, not declared"
                raise LawError("reach", told, output_frames=wrong.tolist(), input_frame=column)
    if exact:
        _check_seen(declared, measured(run, x, "time", "gradients"))
    return float(1 - declared.mean()) if declared.size else 0.0


def _check_seen(declared: Reach, seen: Reach) -> None:
    for row in range(len(declared)):
        if (wrong := np.flatnonzero(declared[row] & ~seen[row])).size:
            told = f"output frame {row} is declared to depend on {wrong.tolist()}, but does not"
            raise LawError("reach", told, output_frame=row, input_frames=wrong.tolist())


def check_group_causal(run: Run, signal: Signal, x: Tensor, out: Signal) -> float:
    """f(x)[groups <= k] is exactly the same whatever x[groups > k] is, for every k.

    No tolerance: what does not depend does not move at all. Returns the number of groups that were looked behind.
    """
    groups = (x.shape[2] - signal.lead) // signal.group
    with torch.no_grad():
        base = tensor_of(run(x))
        for kept in range(groups):
            other = x.clone()
            start, end = signal.frames(kept), out.frames(kept)
            other[:, :, start:] = unrelated(other[:, :, start:])
            if not torch.equal(tensor_of(run(other))[:, :, :end], base[:, :, :end]):
                told = f"what comes after group {kept} changes what came before it"
                raise LawError("group_causal", told, first_frame_exchanged=start)
    return float(groups)


def check_prefix(run: Run, signal: Signal, x: Tensor, out: Signal, *, tolerance: float | None = None) -> float:
    """f(x[first k groups]) = f(x)[first k groups], for every k >= 1.

    Tolerance: that of chunks (TOLERANCE), since a kernel may choose its order of sums by the clip's length.
    """
    with torch.no_grad():
        base, worst = tensor_of(run(x)), 0.0
        for kept in range(1, (x.shape[2] - signal.lead) // signal.group):
            short = tensor_of(run(x[:, :, : signal.frames(kept)]))
            limit = TOLERANCE[x.dtype] if tolerance is None else tolerance
            worst = max(worst, near("prefix", f"a clip of {kept} groups", short, base[:, :, : out.frames(kept)], limit))
    return worst


def check_first_frame(run: Run, signal: Signal, x: Tensor, out: Signal, *, tolerance: float | None = None) -> float:
    """f(x[lead]) = f(x)[lead]: the first frame alone, an image, gives what it gives at the head of a clip.

    Tolerance: that of chunks (TOLERANCE).
    """
    with torch.no_grad():
        base, alone = tensor_of(run(x)), tensor_of(run(x[:, :, : signal.lead]))
    limit = TOLERANCE[x.dtype] if tolerance is None else tolerance
    return near("first_frame", "the lead alone", alone, base[:, :, : out.lead], limit)


def free_rows(declared: Reach, signal: Signal, out: Signal, dropped: int) -> list[int]:
    """Outputs of a clip without its first groups that see nothing of its start, by the declared reach.

    `declared` is that of the whole clip; rows are numbered in the clip that lost `dropped` groups behind its lead.
    """
    start = signal.frames(dropped)
    rows = range(out.frames(dropped), len(declared))
    return [row - out.group * dropped for row in rows if not declared[row, :start].any()]


def check_shift(run: Run, signal: Signal, x: Tensor, out: Signal, declared: Reach, *, dropped: int = 1) -> float:
    """f(x without s groups)[i] = f(x)[i + s groups] for every output i whose declared reach excludes the clip's start.

    Not for layers that know a frame's number. Tolerance: that of chunks (TOLERANCE). Returns the largest difference.

    Raises:
        LawError: also where no output excludes the start, since then nothing was tested.
    """
    rows = free_rows(declared, signal, out, dropped)
    if not rows:
        raise LawError("shift", f"every output of {x.shape[2]} frames sees the start; take a longer clip")
    shorter = torch.cat([x[:, :, : signal.lead], x[:, :, signal.frames(dropped) :]], 2)
    with torch.no_grad():
        late, early = tensor_of(run(x)), tensor_of(run(shorter))
    want = late[:, :, [row + out.group * dropped for row in rows]]
    return near("shift", f"outputs {rows}", early[:, :, rows], want, TOLERANCE[x.dtype], dropped_groups=dropped)


def check_padding(run: Run, signal: Signal, x: Tensor, out: Signal) -> float:
    """f(x[0] repeated for a group, x) = f(x) behind that group: the past before a clip is its first frame.

    For layers that fill the past by replication. Tolerance: that of chunks (TOLERANCE).
    """
    repeats = x[:, :, :1].repeat(1, 1, signal.group, 1, 1)
    longer = torch.cat([x[:, :, : signal.lead], repeats, x[:, :, signal.lead :]], 2)
    with torch.no_grad():
        late, base = tensor_of(run(longer)), tensor_of(run(x))
    want, found = base[:, :, out.lead :], late[:, :, out.frames(1) :]
    worst = near("padding", "a group of the first frame before the clip", found, want, TOLERANCE[x.dtype])
    return max(worst, near("padding", "the lead", late[:, :, : out.lead], base[:, :, : out.lead], TOLERANCE[x.dtype]))


def looks_ahead(declared: Reach, signal: Signal, out: Signal) -> int:
    """The most groups after its own that an output depends on."""
    return reach.groups_around(declared, out, signal)[1]
