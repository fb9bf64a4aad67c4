# The commands of the project. `make demo` and `make test` create the virtual environment by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
CORES  ?= 2
# jobs of a run on this machine start as forks, without importing PyTorch each; `snakemake` computes the same
SNAKEMAKE := $(BIN)/python -m local --cores $(CORES) --rerun-incomplete
RESULTS := results/embedded
STUDY  ?= studies/papers.yaml

# no run of the demo or of the tests talks to a hub
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false
export OMP_NUM_THREADS ?= 1
# glibc returns large freed tensors to the system and gets them back page by page: a tenth of a model's job
export MALLOC_MMAP_THRESHOLD_ = 33554432
export MALLOC_TRIM_THRESHOLD_ = 268435456
# a hundred jobs import the same modules
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env demo plan plan-error test test-slurm torture lint bench figures clean

help:
	@echo "make demo      environment, then the embedded study and its report (about ten minutes on two cores)"
	@echo "make test      environment, then all tests"
	@echo "make test-slurm the SLURM profile on a SLURM of its own (about five minutes; installs it where it may)"
	@echo "make torture   kills, torn files, a full disk, and what the results are after it (about fifty minutes)"
	@echo "make figures   figures and tables again from what is computed"
	@echo "make lint      ruff, snakefmt, snakemake --lint"
	@echo "make plan      what STUDY=$(STUDY) will cost, before anything is run; make plan-error: how wrong that was"
	@echo "make bench     speed, agreement and memory of the attribution engine; PEERS=/path/one:/path/two names other code"
	@echo "make env       the virtual environment in $(VENV) only"
	@echo "make clean     remove the embedded study's results"

env: $(VENV)/.installed

# nothing is compiled ahead: a third of the packages' code is ever imported, and what is first imported is compiled and kept
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@# every package is pinned, so that parts of the list can be unpacked side by side; then what the platform needs besides
	grep '==' requirements.txt | xargs -P $(CORES) -n 20 $(PIP) --no-deps
	$(PIP) -r requirements.txt
	touch $@

demo: env
	$(SNAKEMAKE) report
	@$(BIN)/python -m knatlas.summary $(RESULTS)

plan plan-error: env
	$(BIN)/snakemake --configfile $(STUDY) --cores 1 --quiet --forcerun $(subst -,_,$@) -- $(subst -,_,$@)

test: env
	$(BIN)/python -m pytest tests -n $(CORES) --dist loadfile

test-slurm: env
	$(BIN)/python -m pytest tests/slurm -m slurm

torture: env
	$(BIN)/python -m tests.torture

figures: env
	$(SNAKEMAKE) tables figures

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

bench: env
	PEERS="$(PEERS)" $(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.tables

clean:
	rm -rf $(RESULTS)
