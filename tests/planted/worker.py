"""What runs in a process of its own, on the package or on a copy of it: laws pointed at the standard set.

`python -m tests.planted.worker JOB`: a folder with `job.json`; leaves `done.json` there, and `outputs.pt`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import vvae
from tests.planted.outputs import LONG_ONES, SEEN, changed, outputs
from tests.planted.subjects import Standard, standard
from vvae.verify import all_laws, verify
from vvae.verify.of_models import LAWS as OF_MODELS
from vvae.verify.of_own_models import LAWS as OF_OWN_MODELS
from vvae.verify.of_own_parts import LAWS as OF_OWN_PARTS
from vvae.verify.of_parts import LAWS as OF_PARTS

WRONG = ("violated", "crashed")
SLOW = ("compiled",)
"""Laws of compilers: they look at one layer of each kind."""
LONG = (*SLOW, "modes")
"""Laws of what shows in outputs that take longer."""
EVERYWHERE = ("vvae.context", "vvae.signal", "vvae.spec", "vvae.reach", "vvae.layers.layer", "vvae.layers.slices")
"""Modules that everything is made of."""
Verdict = dict[str, Any]


def verdicts(law: str, one: Standard) -> Iterator[Verdict]:
    """What comes of a law on a subject, for each of its parts."""
    if (not one.model and law in _of_models_alone()) or (law in SLOW and not one.compiled):
        return
    try:
        subject = one.subject
    except Exception as error:
        yield _verdict(law, one, "", "crashed", f"{type(error).__name__}: {error}")
        return
    for found in verify(subject, only=[law]):
        yield _verdict(law, one, found.part, found.verdict, found.message, found.figure, found.seconds)


def _verdict(
    law: str, one: Standard, part: str, verdict: str, told: str, figure: float | None = None, seconds: float = 0.0
) -> Verdict:
    text = told.splitlines()[0] if told else ""
    found = {"law": law, "subject": one.name, "part": part, "verdict": verdict, "figure": figure, "told": text[:300]}
    return {**found, "seconds": round(seconds, 3)}


def _of_models_alone() -> set[str]:
    of_models, of_parts = (*OF_MODELS, *OF_OWN_MODELS), (*OF_PARTS, *OF_OWN_PARTS)
    return {law.name for law in of_models} - {law.name for law in of_parts}


def key(found: Verdict) -> str:
    return f"{found['law']} {found['subject']} {found['part']}"


class Known:
    """The verdicts on the package as it is: what was claimed there must be claimed still."""

    def __init__(self, verdicts: Iterable[Verdict]) -> None:
        self.verdicts = {key(found): found["verdict"] for found in verdicts}

    def fails(self, found: Verdict) -> bool:
        """Whether a law does not hold here and does there; one that is no longer claimed does not hold either."""
        before = self.verdicts.get(key(found), "")
        gone = found["verdict"] == "not claimed" and before == "holds"
        return before not in WRONG and (found["verdict"] in WRONG or gone)


def relevant(one: Standard, touched: Sequence[str]) -> bool:
    """Whether a subject is made of what a patch changes, as far as can be told."""
    if any(module in EVERYWHERE for module in touched):
        return True
    try:
        made_of = one.modules
    except Exception:
        return True
    layers = [
        module for module in touched if module.startswith(("vvae.layers.", "vvae.arch.", "vvae.published.legacy"))
    ]
    if any(module in made_of for module in layers):
        return True
    return one.model and len(layers) < len(touched)


def first_failure(law: str, subjects: Sequence[Standard], known: Known) -> Verdict | None:
    """The first verdict that fails; None: the law holds everywhere."""
    return next((found for one in subjects for found in verdicts(law, one) if known.fails(found)), None)


def all_failures(laws: Sequence[str], subjects: Sequence[Standard], known: Known, until: float) -> list[Verdict]:
    """The first failure of each law, subject by subject, until the time is over."""
    failures: dict[str, Verdict] = {}
    for one in subjects:
        for law in laws:
            if law not in failures:
                failed = first_failure(law, [one], known)
                failures |= {law: failed} if failed else {}
        if failures and time.monotonic() > until:
            break
    return list(failures.values())


def beside(laws: Sequence[str], failed: Verdict | None, subjects: Sequence[Standard], known: Known) -> list[Verdict]:
    """The verdicts of unrelated laws on the subject on which another one failed, or on the first one they apply to."""
    found = []
    for law in laws:
        same = [one for one in subjects if failed and one.name == failed["subject"]]
        for one in (*same, *subjects):
            own = [verdict for verdict in verdicts(law, one) if verdict["verdict"] != "not claimed"]
            if own:
                found += [{**verdict, "fails": known.fails(verdict)} for verdict in own]
                break
    return found


def patched(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A patched copy: which laws fail, unrelated ones beside them, and what comes out of the subject."""
    known, everything = Known(job["known"]), standard()
    near = [one for one in everything if relevant(one, job["touched"])]
    ordered = [*near, *(one for one in everything if one not in near)]
    failed = [found for law in job["laws"] if (found := first_failure(law, ordered, known))]
    if not failed and job["any"]:
        until = time.monotonic() + job["seconds"]
        for subjects in (near, ordered[len(near) :]):
            failed = failed or all_failures(list(all_laws()), subjects, known, until)
    unrelated = beside(job["unrelated"], failed[0] if failed else None, ordered, known)
    looked_at = [one for one in ordered if failed and one.name == failed[0]["subject"]]
    looked_at += [one for one in near if not one.model and one not in looked_at][:9]
    found = {}
    for one in looked_at or near[:3]:
        try:
            found[one.name] = outputs(one.subject, long=bool(failed) and failed[0]["law"] in LONG)
        except Exception as error:
            found[one.name] = {"made": f"{type(error).__name__}: {error}"}
    torch.save(found, folder / "outputs.pt")
    return {"failed": failed, "unrelated": unrelated}


def unpatched(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The package as it is: the verdicts of laws on a share of the standard set."""
    share, of = job["share"]
    subjects = standard()[share::of]
    return {"verdicts": [found for one in subjects for law in job["laws"] for found in verdicts(law, one)]}


def compared(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What patches change: the outputs of the package as it is beside those that were saved of patched copies."""
    by_name, own, found = {one.name: one for one in standard()}, dict[tuple[str, bool], Any](), dict[str, Any]()
    for name, file in job["files"].items():
        worst = ("nothing", 0.0)
        for subject, given in torch.load(file).items():
            long = any(LONG_ONES[0] in output for output in given)
            if (subject, long) not in own:
                own[subject, long] = outputs(by_name[subject].subject, long=long)
            what, by = changed(given, own[subject, long])
            worst = max(worst, (f"{subject}: {what}", by), key=lambda known: known[1])
        found[name] = {"output": worst[0], "by": worst[1], "seen": worst[1] > SEEN}
    return found


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    home = Path(vvae.__file__).resolve().parent.parent
    if home != Path(job["home"]).resolve():
        raise SystemExit(f"vvae was imported from {home}, not from {job['home']}")
    torch.set_num_threads(1)
    do = {"patched": patched, "unpatched": unpatched, "compared": compared}[job["do"]]
    (folder / "done.json").write_text(json.dumps(do(job, folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
