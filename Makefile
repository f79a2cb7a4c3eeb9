# Two commands do all the set-up on a machine with Python 3.11 or newer and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
ON_ALL_CORES := -n auto --maxprocesses 8 --dist worksteal

.PHONY: help venv demo graph gallery runs/gallery runs/curvature test proofs faults foreign lint bench clean
.DELETE_ON_ERROR:

help:  ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

venv: $(VENV)/installed  ## install everything into .venv

$(VENV)/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: venv  ## train two minima on the digits, connect them, draw the path
	$(BIN)/landscape train --problem configs/digits_resnet8.yaml --seed 1 --out $(DEMO)/a.safetensors --overwrite
	$(BIN)/landscape train --problem configs/digits_resnet8.yaml --seed 2 --out $(DEMO)/b.safetensors --overwrite
	$(BIN)/connect fit --a $(DEMO)/a.safetensors --b $(DEMO)/b.safetensors --out $(DEMO)/a-b --overwrite

graph: venv  ## train eight minima (four seeds, two batch sizes) and map the passes between them
	for seed in 1 2 3 4; do for size in 32 256; do \
	  $(BIN)/landscape train --problem configs/digits_resnet8.yaml --seed $$seed --batch-size $$size \
	    --out runs/minima/batch$$size-seed$$seed.safetensors --resume || exit; \
	done; done
	$(BIN)/connect graph runs/minima --out runs/graph --resume

gallery: venv  ## train and draw networks of several depths, with and without shortcuts, and map their curvature
	OMP_NUM_THREADS=1 $(MAKE) --jobs 2 runs/gallery runs/curvature
	$(PYTEST) -m gallery $(ON_ALL_CORES)

runs/gallery:
	$(BIN)/landscape study configs/depth_and_shortcuts_digits.yaml --out $@ --resume

runs/curvature:
	$(BIN)/landscape study configs/curvature_digits.yaml --out $@ --resume

test: venv  ## run the tests, on all cores
	$(PYTEST) -m 'not proof and not fault and not gallery' $(ON_ALL_CORES)

proofs: venv  ## run the commands on every kind of network, and the searches on landscapes whose passes are known
	$(PYTEST) -m proof $(ON_ALL_CORES)

faults: venv  ## kill, fill the disk and interrupt, over and over
	$(PYTEST) -m fault $(ON_ALL_CORES)

foreign: venv  ## install the libraries that other people's checkpoints come from, and test with them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[foreign]'
	$(PYTEST) -m foreign $(ON_ALL_CORES)

lint: venv  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv  ## measure speed, as ratios against plain reference loops
	$(BIN)/python benchmarks/curve_step.py
	$(BIN)/python benchmarks/curve_memory.py
	$(BIN)/python benchmarks/surface_point.py
	$(BIN)/python benchmarks/curvature_map.py

clean:  ## remove the environment and all results
	rm -rf $(VENV) runs
