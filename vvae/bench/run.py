"""A run: every part of a plan for every spec, and the report that comes of it."""

from __future__ import annotations

import os

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.bench import memory
from vvae.bench.contest import Contest, contest, peer_contest
from vvae.bench.costs import Costs, costs
from vvae.bench.device import OnDevice, check, on_device
from vvae.bench.figures import Figure, Verdict
from vvae.bench.growth import Growth, growth
from vvae.bench.machine import Machine, look
from vvae.bench.memory import Memory
from vvae.bench.peer_memory import peer_memory
from vvae.bench.peers import Peer, is_peer, peer_of
from vvae.bench.plan import PARTS, Plan
from vvae.bench.rounds import Say
from vvae.bench.units import diffusers_decoder
from vvae.models.names import spec_of


class OfSpec(Figure):
    """All figures of one spec; empty where a part did not run."""

    name: str
    contests: tuple[Contest, ...] = ()
    memory: tuple[Memory, ...] = ()
    growth_in_frames: tuple[Growth, ...] = ()
    growth_in_side: tuple[Growth, ...] = ()
    costs: tuple[Costs, ...] = ()
    on_device: tuple[OnDevice, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        speeds = (v for one in self.contests for v in one.verdicts)
        return (*speeds, *memory.verdicts(self.memory), *memory.beside_published(self.name, self.memory))


class Report(Figure):
    """A whole run."""

    machine: Machine
    plan: Plan
    specs: tuple[OfSpec, ...]
    verdicts: tuple[Verdict, ...]
    missing: tuple[str, ...]


def run(plan: Plan, say: Say = lambda text: None) -> Report:
    """Run a plan, telling `say` what happens; nothing is written.

    Raises:
        VvaeError: an unknown spec, a device that is not there, a memory case that died.
    """
    check(plan.device)
    machine, models = look(), [peer_of(name) if is_peer(name) else spec_of(name) for name in plan.specs]
    measure = _on_cpu if plan.device == "cpu" else _on_gpu
    found = tuple(
        _peer(name, model, plan, machine, say) if isinstance(model, Peer) else measure(model, plan, machine, say)
        for name, model in zip(plan.specs, models, strict=True)
    )
    return Report(
        machine=machine.model_copy(update={"load_after": os.getloadavg()[0]}),
        plan=plan,
        specs=found,
        verdicts=tuple(verdict for one in found for verdict in one.verdicts),
        missing=tuple(_missing(plan, machine)),
    )


def _on_cpu(spec: VideoAutoencoderSpec, plan: Plan, machine: Machine, say: Say) -> OfSpec:
    dtypes = _dtypes(machine)
    unit = diffusers_decoder() if plan.unit and "speed" in plan.parts else None
    speeds = plan.sizes if "speed" in plan.parts else ()
    profiled = plan.sizes[:1] if "costs" in plan.parts else ()
    held = plan.memory_sizes if "memory" in plan.parts else ()
    grows = "growth" in plan.parts
    return OfSpec(
        name=spec.name,
        contests=tuple(
            contest(
                spec,
                size,
                rounds=plan.rounds,
                dtypes=dtypes,
                unit=unit,
                compiled=plan.compiled,
                exact=plan.exact,
                streams=plan.streams,
                say=say,
            )
            for size in speeds
        ),
        memory=tuple(memory.memory(spec, held, plan.longer, machine.threads, say)) if held else (),
        growth_in_frames=tuple(growth(spec, plan.frames_grow, plan.rounds, say)) if grows else (),
        growth_in_side=tuple(growth(spec, plan.sides_grow, plan.rounds, say)) if grows else (),
        costs=tuple(one for size in profiled for one in costs(spec, size, dtypes, say)),
    )


def _peer(name: str, peer: Peer, plan: Plan, machine: Machine, say: Say) -> OfSpec:
    """Its speed and memory on the CPU; nothing else is measured of a peer."""
    parts = plan.parts if plan.device == "cpu" else ()
    unit = diffusers_decoder() if plan.unit and "speed" in parts else None
    speeds = plan.sizes if "speed" in parts else ()
    held = plan.memory_sizes if "memory" in parts else ()
    return OfSpec(
        name=name,
        contests=tuple(
            peer_contest(peer, size, rounds=plan.rounds, dtypes=_dtypes(machine), unit=unit, say=say) for size in speeds
        ),
        memory=tuple(peer_memory(name, held, machine.threads, say)),
    )


def _dtypes(machine: Machine) -> list[str]:
    return ["float32", *["bfloat16"] * machine.bfloat16]


def _on_gpu(spec: VideoAutoencoderSpec, plan: Plan, machine: Machine, say: Say) -> OfSpec:
    figures = (one for size in plan.sizes for one in on_device(spec, size, plan.rounds, plan.device, say))
    return OfSpec(name=spec.name, on_device=tuple(figures))


def _missing(plan: Plan, machine: Machine) -> list[str]:
    """What the run could not show, each in a sentence."""
    found = [f"{part} was not measured in this run" for part in _left_out(plan)]
    if plan.device == "cuda":
        return found
    if plan.unit and machine.diffusers is None:
        found.append("U is missing: diffusers is not installed")
    if not plan.unit:
        found.append("U is missing: this run did without it")
    if not machine.bfloat16:
        found.append("bfloat16 is missing: this CPU does not multiply it")
    here = "no GPU was there" if machine.gpu is None else "a GPU was there, but this run is of the CPU"
    return [*found, f"nothing was measured on a GPU: {here}"]


def _left_out(plan: Plan) -> list[str]:
    return [part for part in PARTS if part not in plan.parts] if plan.device == "cpu" else []
