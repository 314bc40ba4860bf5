# Everything a newcomer needs: `make serve` and `make test`. `make help` lists the rest.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Recipes find the project's own Deno first (scripts/bootstrap.sh puts it there).
export PATH := $(CURDIR)/.deno/bin:$(PATH)
ifneq ($(CI),)
export NO_COLOR := 1
endif

# Compile in parallel unless make was already told how.
SUBMAKE = $(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
GATE = deno run --no-prompt --allow-run --allow-read --allow-env --allow-write=build scripts/gate.ts

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: serve
serve: ## Serve a model over HTTP; MODEL=folder HOST=127.0.0.1 PORT=8000 ARGS="--flags" pass through
	@scripts/bootstrap.sh deno packages service
	@$(MAKE) -q build/libkvrm_cpu.so 2>/dev/null || $(SUBMAKE) build/libkvrm_cpu.so
	@scripts/serve.sh

.PHONY: native
native: setup ## Build build/libkvrm_cpu.so
	@$(MAKE) -q build/libkvrm_cpu.so 2>/dev/null || $(SUBMAKE) build/libkvrm_cpu.so

.PHONY: cuda-toolkit
cuda-toolkit: ## Get the CUDA 13 compiler into .cuda/ where none is installed
	@scripts/cuda_toolkit.sh

.PHONY: cuda
cuda: cuda-toolkit setup ## Build build/libkvrm_cuda.so; CUDA_ARCHS="90a" builds for one kind of GPU
	@$(SUBMAKE) cuda-library

.PHONY: emulator
emulator: setup ## Build build/libkvrm_emulator.so: the CUDA backend without a GPU
	@$(SUBMAKE) build/libkvrm_emulator.so

.PHONY: setup
setup: ## Get what is missing: Deno, Debian packages, npm packages
	@scripts/bootstrap.sh deno packages deps

.PHONY: test
test: native emulator ## Run every test: TypeScript, end to end, native, emulated CUDA, under sanitizers
	@$(GATE) tests

.PHONY: test-ts
test-ts: native ## Run the TypeScript tests; ARGS="--filter BlockPager runtime/" goes to deno test
	@$(GATE) deno -- $(ARGS)

.PHONY: lint
lint: setup ## Check formatting and lint, of TypeScript, C++ and shell
	@$(GATE) format lint clang-format shellcheck

.PHONY: check
check: setup ## Check types, the lock file and the docs of mod.ts
	@$(GATE) types lock docs

.PHONY: fmt
fmt: setup ## Format TypeScript, Markdown and C++ in place
	@deno fmt --quiet
	@if command -v clang-format >/dev/null; then \
	  find csrc -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format -i; \
	else echo "C++ left as it is: clang-format is not installed"; fi

.PHONY: bench
bench: native ## Run the benchmarks; ARGS goes to them
	@deno task bench $(ARGS)

.PHONY: compile
compile: native ## Make build/kvrm: the program, its libraries and the tiny model in one file
	@deno run --no-prompt --allow-run --allow-read --allow-env scripts/compile.ts

.PHONY: gpu-check
gpu-check: ## Test the CUDA backend on this machine's GPU, sanitizers too; ARGS="native memcheck" picks parts
	@scripts/gpu_check.sh $(ARGS)

.PHONY: gpu-bench
gpu-bench: ## Measure the CUDA backend on this machine's GPU; ARGS picks parts
	@scripts/gpu_bench.sh $(ARGS)

.PHONY: gpu-pack
gpu-pack: ## Pack what an offline machine with a GPU needs for these into .carry/
	@scripts/gpu_pack.sh

.PHONY: clean
clean: ## Remove what was built
	rm -rf build

.PHONY: distclean
distclean: clean ## Remove what was built and what was fetched
	rm -rf .deno .cuda .carry

include csrc/build.mk
include csrc/cuda/build.mk
