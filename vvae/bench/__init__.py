"""How fast a spec runs and what memory it takes: paired rounds beside units of the same machine.

report = bench.run(bench.Plan(specs=("iv_vae:z16_dim64",)), say=print)
bench.write(report, Path("results"))
"""

from vvae.bench.figures import Figure, Spread, Verdict, paired, spread
from vvae.bench.plan import DEFAULT_SPEC, PARTS, QUICK, Plan
from vvae.bench.report import Table, markdown, tables, verdict_table, write
from vvae.bench.run import Report, run

__all__ = [
    "DEFAULT_SPEC",
    "PARTS",
    "QUICK",
    "Figure",
    "Plan",
    "Report",
    "Spread",
    "Table",
    "Verdict",
    "markdown",
    "paired",
    "run",
    "spread",
    "tables",
    "verdict_table",
    "write",
]
