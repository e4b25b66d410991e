"""Which laws other people's models keep: the autoencoders of diffusers that examples/peers.py builds, and two controls.

python -m benchmarks.peers                # all of them; some minutes on two cores
python -m benchmarks.peers wan magvit     # some of them, printed alone
python -m benchmarks.peers --out /tmp/x --effort thorough  # longer clips, and torch.compile with inductor

What is told of a model are its claims alone (examples/peers.py: CLAIMS). Writes results/peers.json, and the tables on
docs/verify.md from it. Needs the extra `diffusers`.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from vvae.verify import Claims, claimed_subject, verify
from vvae.verify.suite import EFFORTS

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "verify.md"
_PLACE = re.compile(r"(<!-- peers -->\n).*?(<!-- end -->)", re.S)
CONTROLS = {
    "sound": Claims((1, 3, 5, 16, 16), lead=1, group=1, causal=True),
    "sound_groups": Claims((1, 3, 5, 16, 16), lead=1, group=2, causal=True),
}
UNABLE = "torch cannot"
"""How a finding begins that says why a law was not run."""
Row = Mapping[str, Any]


def models() -> dict[str, tuple[Callable[[], nn.Module], Claims]]:
    """Who is asked: how it is made, and what is said of it."""
    from examples import peers, sound

    of_others = {name: (getattr(peers, name), claims) for name, claims in peers.CLAIMS.items()}
    return of_others | {name: (getattr(sound, name), claims) for name, claims in CONTROLS.items()}


def asked(name: str, effort: str) -> dict[str, Any]:
    """What is claimed of one model, and what was found."""
    make, claims = models()[name]
    subject = claimed_subject(make(), claims, name)
    return {"claims": asdict(claims), "findings": [asdict(found) for found in verify(subject, effort=effort)]}


# --------------------------------------------------------------------------- the tables


def filled(page: str, results: Mapping[str, Any]) -> str:
    """The page with the tables of these results in their place."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{markdown(results)}\n{found[2]}", page)


def markdown(results: Mapping[str, Any]) -> str:
    """Both tables: a verdict for each law and model, and what was found where one does not hold."""
    of_models: Mapping[str, Any] = results["models"]
    told = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [f"{told}; effort {results['effort']}.", "", *_verdicts(of_models), "", *_found(of_models)]
    return "\n".join(lines) + "\n"


def _verdicts(of_models: Mapping[str, Any]) -> Iterator[str]:
    laws: dict[str, None] = {}
    for model in of_models.values():
        laws |= {row["law"]: None for row in model["findings"] if row["verdict"] != "not claimed"}
    yield f"| | {' | '.join(of_models)} |"
    yield f"|---|{'---|' * len(of_models)}"
    yield f"| input | {' | '.join(_shape(model['claims']) for model in of_models.values())} |"
    yield f"| claims | {' | '.join(_claimed(model['claims']) for model in of_models.values())} |"
    for law in laws:
        yield f"| {law} | {' | '.join(_cell(_rows(model, law)) for model in of_models.values())} |"


def _shape(claims: Row) -> str:
    return "x".join(str(n) for n in claims["shape"][2:])


def _claimed(claims: Row) -> str:
    causal = {True: "causal", False: ""}.get(claims["causal"], f"{claims['causal']} causal")
    return ", ".join(filter(None, (f"lead {claims['lead']}", f"group {claims['group']}", causal)))


def _rows(model: Mapping[str, Any], law: str) -> list[Row]:
    """Of the parts, or of the model as a whole where the law is one of models."""
    rows = [row for row in model["findings"] if row["law"] == law]
    whole = [row for row in rows if row["part"] == "model" and row["verdict"] != "not claimed"]
    return whole or [row for row in rows if row["part"] != "model"] or rows


def _cell(rows: Sequence[Row]) -> str:
    """The verdict on one law: one word where all parts agree."""
    asked = [row for row in rows if row["verdict"] != "not claimed"]
    if not asked:
        return "-"
    if len(asked) == len(rows) and len({_word(row) for row in asked}) == 1:
        return _word(asked[0])
    return ", ".join(f"{row['part'][0].upper()} {_word(row)}" for row in asked)


def _word(row: Row) -> str:
    if row["verdict"] != "violated":
        return str(row["verdict"])
    return f"**violated** ({row['figure']:.2g})" if row["figure"] else "**violated**"


def _found(of_models: Mapping[str, Any]) -> Iterator[str]:
    yield "| model | law | what was found |"
    yield "|---|---|---|"
    for name, model in of_models.items():
        for law in dict.fromkeys(row["law"] for row in model["findings"]):
            rows = _rows(model, law)
            if any(_telling(row) for row in rows):
                yield f"| {name} | {law} | {_sentence(rows)} |"


def _telling(row: Row) -> bool:
    return row["verdict"] not in ("holds", "not claimed") or row["message"].startswith(UNABLE)


def _sentence(rows: Sequence[Row]) -> str:
    """What was found in each part; once where all parts say the same."""
    if len({row["message"] for row in rows}) == 1:
        told = rows[0]["message"]
    else:
        told = "; ".join(f"{row['part']}: {row['message']}" for row in rows if _telling(row))
    return str(told).replace("|", "\\|")


# --------------------------------------------------------------------------- the command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(models())}")
    parser.add_argument("--effort", choices=list(EFFORTS), default="quick")
    parser.add_argument("--out", type=Path, help="a folder for peers.json and peers.md, in place of what is published")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in models()]:
        parser.error(f"{unknown[0]!r} is unknown; it is one of {', '.join(models())}")
    versions = {"Python": platform.python_version()} | {name: version(name) for name in ("torch", "diffusers")}
    results: dict[str, Any] = {"versions": versions, "effort": given.effort, "models": {}}
    for name in given.names or models():
        started = time.monotonic()
        results["models"][name] = asked(name, given.effort)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "peers.md").write_text(markdown(results))
    elif given.names:
        print(f"\n{markdown(results)}")
        return
    else:
        PAGE.write_text(filled(PAGE.read_text(), results))
    ((given.out or RESULTS) / "peers.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
