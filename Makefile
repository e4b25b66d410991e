PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# two workers of one thread each: small tensors gain nothing from more threads. Freed memory stays with the process:
# asking the system for it again takes a third of the time of large convolutions.
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
PYTEST = OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest -n 2 --dist worksteal
OUT ?= demo
# dozens of short processes import torch: without bytecode, each would compile it
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test thorough golden check clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# bytecode comes with the first import, of what is imported: half a minute less
	$(BIN)/pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The main job on a clip: CLIP=path takes your own, otherwise one is made from two photographs that ship with vvae.
demo: $(VENV)/ready
	mkdir -p $(OUT) && rm -rf $(OUT)/result
	$(if $(CLIP),,$(BIN)/vvae demo-clip $(OUT)/clip.mp4)
	$(BIN)/vvae reconstruct $(or $(CLIP),$(OUT)/clip.mp4) --out $(OUT)/result

# checks and tests side by side: each leaves a core idle for a while
test: $(VENV)/ready
	$(MAKE) --no-print-directory -j2 check tests

.PHONY: tests
tests: $(VENV)/ready
	$(PYTEST)

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Long hypothesis profiles and the tests that take minutes.
thorough: $(VENV)/ready check
	HYPOTHESIS_PROFILE=thorough $(PYTEST)

# Defects planted in copies of the package, each of which a law must catch: those of tests/planted/patches, or any others,
# which any law may catch. PATCHES=folder
.PHONY: planted
planted: $(VENV)/ready
	@$(BIN)/python -m tests.planted $(if $(PATCHES),--any $(PATCHES))

# Records the small golden outputs, after the parity files have passed.
golden: $(VENV)/ready
	$(BIN)/python -m tests.golden.record

# The site of docs/, under site/. Nothing in it is fetched from the internet.
.PHONY: docs docs-figures
docs: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pictures and the tables of options on the pages, made again from specs and commands.
docs-figures: $(VENV)/ready
	$(BIN)/python docs/figures.py
	$(BIN)/python docs/options.py

clean:
	rm -rf $(VENV) $(OUT)
