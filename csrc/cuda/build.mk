# The CUDA backend, twice: for GPUs by nvcc, and for the emulator by the host's compiler. Included by the top
# Makefile, after csrc/build.mk.
#
#   make cuda                     build/libkvrm_cuda.so for CUDA_ARCHS; fails when a hot kernel spills registers
#   make emulator                 build/libkvrm_emulator.so: the same sources, no GPU needed
#   make cuda-test                csrc/cuda/**/*_test.cc and the ABI's tests, on the emulator
#   make cuda-test-sanitized      csrc/cuda/**/*_test.cc on the emulator, under ASan and UBSan
#   make cuda-device-tests        the binaries of cuda-test for a real GPU; scripts/gpu_check.sh runs them
#   make cuda-device-benches      csrc/cuda/*_bench.cc for a real GPU; scripts/gpu_bench.sh runs them
#   make emulator-benches         the same for the emulator: they show that they run, not how fast
#
# NVCCFLAGS goes to nvcc too: -lineinfo names source lines to compute-sanitizer and the profilers, and doubles the size.

# Compute capabilities; the last one's PTX goes in too, for the cards that come after it.
CUDA_ARCHS ?= 80 90a 100

# Looked for once, and only when something is to be compiled.
NVCC = $(eval NVCC := $$(shell scripts/cuda_toolkit.sh path))$(or $(NVCC),$(error no CUDA 13 compiler: make cuda-toolkit))

CUDA_NOT_LIBRARY := %_test.cc %_bench.cc %_test.cu %_bench.cu
CUDA_SRC := $(sort $(filter-out $(CUDA_NOT_LIBRARY),$(wildcard csrc/cuda/*.cu csrc/cuda/*.cc)))
CUDA_EMULATOR_SRC := $(sort $(filter-out $(CUDA_NOT_LIBRARY),$(wildcard csrc/cuda/emulator/*.cc)))
CUDA_COMMON_SRC := $(filter csrc/common/%,$(NATIVE_SRC))
CUDA_TEST_SRC := $(sort $(shell find csrc/cuda -name '*_test.cc'))
# allocation_test counts every malloc of the process: CUDA's own, or the emulator's, are not its business.
CUDA_DEVICE_TEST_SRC := $(filter-out csrc/cuda/emulator/%,$(CUDA_TEST_SRC)) \
  $(filter-out %/allocation_test.cc,$(NATIVE_ABI_TESTS))
CUDA_BENCH_SRC := $(sort $(wildcard csrc/cuda/*_bench.cc))

# ---- for GPUs ---------------------------------------------------------------------------------------

cuda_code = $(if $(filter %a %f,$(1))$(filter-out $(lastword $(CUDA_ARCHS)),$(1)),sm_$(1),[sm_$(1)$(comma)compute_$(1)])
CUDA_GENCODE := $(foreach arch,$(CUDA_ARCHS),-gencode 'arch=compute_$(arch),code=$(call cuda_code,$(arch))')
# As -ffp-contract=off on the host: a product and a sum are fused where the source says so and nowhere else.
CUDA_FLAGS := -std=c++20 -Icsrc -O3 --threads 2 -fmad=false $(NVCCFLAGS) $(CUDA_GENCODE) -Xptxas -v -MMD -MP \
  -Xcompiler -Wall,-Wextra,-ffp-contract=off,-fvisibility=hidden,-fPIC,-pthread
# The CUDA runtime is linked in; libcuda and cuBLASLt are opened at run time, where there is a GPU.
CUDA_LINK := -cudart static -Xcompiler -pthread -ldl -lrt

# What ptxas says is kept beside the object; everything else that nvcc says is shown.
define cuda_compile
	@mkdir -p $(@D)
	@echo '$(notdir $(NVCC)) $<'
	@$(NVCC) $(CUDA_FLAGS) -x cu -c $< -o $@ 2>$(@:.o=.log) || { cat $(@:.o=.log) >&2; exit 1; }
	@grep -v -e '^ptxas info' -e 'bytes stack frame' $(@:.o=.log) >&2 || true
endef

# Other architectures and flags are other objects.
build/nvcc/flags: FORCE
	@mkdir -p $(@D)
	@echo "$(CUDA_GENCODE) $(NVCCFLAGS)" | cmp -s - $@ || echo "$(CUDA_GENCODE) $(NVCCFLAGS)" >$@

build/nvcc/%.o: csrc/%.cu csrc/cuda/build.mk build/nvcc/flags
	$(cuda_compile)

build/nvcc/%.o: csrc/%.cc csrc/cuda/build.mk build/nvcc/flags
	$(cuda_compile)

CUDA_OBJ := $(patsubst csrc/%,build/nvcc/%.o,$(basename $(CUDA_SRC)))
CUDA_COMMON_OBJ := $(CUDA_COMMON_SRC:csrc/%.cc=build/obj/%.o)

# Fails, and with it `make cuda`, when a hot kernel spills registers.
build/cuda-ptxas.txt: scripts/ptxas_summary.ts $(CUDA_OBJ)
	@deno run --no-prompt --allow-read=build --allow-write=build --allow-run=c++filt $< $@ $(CUDA_OBJ:.o=.log)

build/libkvrm_cuda.so: $(CUDA_OBJ) $(CUDA_COMMON_OBJ) csrc/exports.map
	$(NVCC) -shared -Xcompiler -static-libstdc++,-static-libgcc -Xlinker --version-script=csrc/exports.map \
	  -Xlinker --gc-sections -Xlinker -z,defs -o $@.tmp $(filter %.o,$^) $(CUDA_LINK)
	@mv $@.tmp $@

build/nvcc/libkvrm_cuda.a: $(CUDA_OBJ) $(CUDA_COMMON_OBJ)
	@rm -f $@
	ar rcs $@ $^

# The CPU backend is what some kernels are tested against.
build/nvcc/%_test: build/nvcc/%_test.o build/nvcc/libkvrm_cuda.a build/obj/libkvrm_cpu.a
	$(NVCC) -o $@ $^ $(CUDA_LINK)

build/nvcc/%_bench: build/nvcc/%_bench.o build/nvcc/libkvrm_cuda.a
	$(NVCC) -o $@ $^ $(CUDA_LINK)

# ---- for the emulator -------------------------------------------------------------------------------

# $(1) the objects' folder, $(2) that of the same variant in csrc/build.mk, $(3) flags
define emulator_variant
$(1)/%.o: csrc/%.cc csrc/cuda/build.mk
	@mkdir -p $$(@D)
	$$(CXX) $$(NATIVE_FLAGS) -DKVRM_EMULATOR $(3) -c $$< -o $$@

$(1)/%.o: csrc/%.cu csrc/cuda/build.mk
	@mkdir -p $$(@D)
	$$(CXX) $$(NATIVE_FLAGS) -DKVRM_EMULATOR $(3) -x c++ -c $$< -o $$@

$(1)/libkvrm_emulator.a: $$(patsubst csrc/%,$(1)/%.o,$$(basename $$(CUDA_SRC) $$(CUDA_EMULATOR_SRC))) \
    $$(CUDA_COMMON_SRC:csrc/%.cc=$(2)/%.o)
	@rm -f $$@
	ar rcs $$@ $$^

$(1)/%_test: $(1)/%_test.o $(1)/libkvrm_emulator.a $(2)/libkvrm_cpu.a
	$$(CXX) $(3) -pthread -o $$@ $$^ $$(EMULATOR_LIBS)

$(1)/%_bench: $(1)/%_bench.o $(1)/libkvrm_emulator.a
	$$(CXX) $(3) -pthread -o $$@ $$^ $$(EMULATOR_LIBS)

.PRECIOUS: $(1)/%.o
-include $$(shell find $(1) -name '*.d' 2>/dev/null)
endef

# Fibers are those of Boost.Context, linked in: the library stays one file.
EMULATOR_LIBS := -l:libboost_context.a

$(eval $(call emulator_variant,build/emu,build/obj,-O2 -g1))
$(eval $(call emulator_variant,build/emu-san,build/san,-O1 -g1 -fno-omit-frame-pointer -fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined))

# The static libstdc++ wants the space for thread-locals that is set aside when the process starts, for itself and for
# all of its library's; the blocks' shared memory, thread-locals here, has no room there.
build/libkvrm_emulator.so: build/emu/libkvrm_emulator.a csrc/exports.map
	$(CXX) -shared -pthread -Wl,--version-script=csrc/exports.map -Wl,--gc-sections \
	  -Wl,-z,defs -o $@.tmp -Wl,--whole-archive $< -Wl,--no-whole-archive $(EMULATOR_LIBS)
	@mv $@.tmp $@

# -----------------------------------------------------------------------------------------------------

.PRECIOUS: build/nvcc/%.o
-include $(shell find build/nvcc -name '*.d' 2>/dev/null)

.PHONY: FORCE cuda-library cuda-test cuda-test-sanitized cuda-device-tests cuda-device-benches emulator-benches
FORCE:

cuda-library: build/libkvrm_cuda.so build/cuda-ptxas.txt

# Of the ABI's tests those that an emulator does in seconds: binary:word:word..., the words as its arguments. A GPU
# runs them all (scripts/gpu_check.sh).
EMULATOR_ABI_TESTS := commit_test model_test \
  engine_test:Refused:CommitIsBusy:BlocksGo:Logits:Moves:Memory:NoProgress:Noop:Counters:Layout:Backend \
  adjust_test:SampledTokens:StatesOfSlots:EditsOfSeveral:AMaskLeaves:SlotsOfAStep:LogprobsAndLogits
EMULATOR_ABI_BINARIES := $(foreach test,$(EMULATOR_ABI_TESTS),build/emu/tests/$(firstword $(subst :, ,$(test))))

cuda-test: $(CUDA_TEST_SRC:csrc/%.cc=build/emu/%) $(EMULATOR_ABI_BINARIES)
	@scripts/run_binaries.sh $(CUDA_TEST_SRC:csrc/%.cc=build/emu/%) $(EMULATOR_ABI_TESTS:%=build/emu/tests/%)

cuda-test-sanitized: $(CUDA_TEST_SRC:csrc/%.cc=build/emu-san/%)
	@scripts/run_binaries.sh $^

# What all tests of this page and of csrc/build.mk run, the sanitized ones last, as they are needed last.
.PHONY: test-binaries
test-binaries: $(NATIVE_TEST_SRC:csrc/%.cc=build/obj/%) $(NATIVE_TEST_SRC:csrc/%.cc=build/san/%) \
  $(CUDA_TEST_SRC:csrc/%.cc=build/emu/%) $(EMULATOR_ABI_BINARIES) $(CUDA_TEST_SRC:csrc/%.cc=build/emu-san/%)

cuda-device-tests: $(CUDA_DEVICE_TEST_SRC:csrc/%.cc=build/nvcc/%)

cuda-device-benches: $(CUDA_BENCH_SRC:csrc/%.cc=build/nvcc/%)

emulator-benches: $(CUDA_BENCH_SRC:csrc/%.cc=build/emu/%)

# For scripts/gpu_check.sh and gpu_bench.sh: what is to be run, as binary:word:word...
.PHONY: list-device-tests list-emulator-tests list-device-benches list-emulator-benches
list-device-tests:
	@echo $(CUDA_DEVICE_TEST_SRC:csrc/%.cc=build/nvcc/%)

list-emulator-tests:
	@echo $(patsubst csrc/%.cc,build/emu/%,$(filter-out csrc/cuda/emulator/%,$(CUDA_TEST_SRC))) \
	  $(EMULATOR_ABI_TESTS:%=build/emu/tests/%)

list-device-benches:
	@echo $(CUDA_BENCH_SRC:csrc/%.cc=build/nvcc/%)

list-emulator-benches:
	@echo $(CUDA_BENCH_SRC:csrc/%.cc=build/emu/%)
