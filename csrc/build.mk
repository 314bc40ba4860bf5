# The native library and its tests. Included by the top Makefile.
#
#   make build/libkvrm_cpu.so     the CPU backend
#   make native-test              each csrc/**/*_test.cc is a binary; runs them all
#   make native-test-sanitized    the same under AddressSanitizer and UndefinedBehaviorSanitizer
#   make native-test-tsan         the same under ThreadSanitizer
#   make native-test-aarch64      the tests for 64-bit ARM under QEMU: wants Debian's g++-aarch64-linux-gnu and qemu-user,
#                                 which nothing else here needs
#   make native-bench             each csrc/**/*_bench.cc
#
# Each test binary ends with "native: N passed, M failed" (csrc/common/test.h).

CXX ?= g++
comma := ,
# -MD and not -MMD: what Highway's foreach_target.h includes again counts as a system's header, our *-inl.h among it.
NATIVE_FLAGS := -std=c++20 -Icsrc -Wall -Wextra -ffp-contract=off -fvisibility=hidden -fPIC -pthread -MD -MP $(CXXFLAGS)
# Highway gives headers only: needing its library at run time would make the backend two files.
NATIVE_LIBS :=

NATIVE_ALL := $(shell find csrc -name '*.cc' -not -path 'csrc/cuda/*' | sort)
# What every backend is linked with, and the tests that know a backend by its ABI alone.
NATIVE_COMMON_SRC := $(filter-out %_test.cc,$(filter csrc/common/%,$(NATIVE_ALL)))
NATIVE_ABI_TESTS := $(filter csrc/tests/%_test.cc,$(NATIVE_ALL))
NATIVE_TEST_SRC := $(filter %_test.cc,$(NATIVE_ALL))
NATIVE_BENCH_SRC := $(filter %_bench.cc,$(NATIVE_ALL))
NATIVE_SRC := $(filter-out %_test.cc %_bench.cc %_fuzz.cc,$(NATIVE_ALL))

# $(1) name of the variant, $(2) its objects' folder, $(3) its flags
define native_variant
$(2)/%.o: csrc/%.cc csrc/build.mk
	@mkdir -p $$(@D)
	$$(CXX) $$(NATIVE_FLAGS) $(3) $$(NATIVE_EXTRA) -c $$< -o $$@

$(2)/libkvrm_cpu.a: $$(NATIVE_SRC:csrc/%.cc=$(2)/%.o)
	@rm -f $$@
	$$(AR) rcs $$@ $$^

$(2)/%_test: $(2)/%_test.o $(2)/libkvrm_cpu.a
	$$(CXX) $(3) -pthread -o $$@ $$^ $$(NATIVE_LIBS)

$(2)/%_bench: $(2)/%_bench.o $(2)/libkvrm_cpu.a
	$$(CXX) $(3) -pthread -o $$@ $$^ $$(NATIVE_LIBS)

.PRECIOUS: $(2)/%.o
-include $$(NATIVE_ALL:csrc/%.cc=$(2)/%.d)
endef

$(eval $(call native_variant,plain,build/obj,-O3 -g1))
$(eval $(call native_variant,san,build/san,-O1 -g1 -fno-omit-frame-pointer -DKVRM_FEW_TARGETS -fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined))
$(eval $(call native_variant,tsan,build/tsan,-O1 -g1 -DKVRM_FEW_TARGETS -fsanitize=thread))
$(eval $(call native_variant,aarch64,build/aarch64,-O3 -g1))
build/aarch64/%: CXX := aarch64-linux-gnu-g++
build/aarch64/%: AR := aarch64-linux-gnu-ar

# Checks of every vector load's address make the SIMD files take a gigabyte and minutes to compile, and
# AddressSanitizer looks at these addresses anyway.
build/san/cpu/ops_%.o: NATIVE_EXTRA := -fno-sanitize=null,alignment,object-size

build/san/cpu/quant_%.o: NATIVE_EXTRA := -fno-sanitize=null,alignment,object-size
# Of a tile's loads, the scheduler before register allocation makes so many early that its sums no longer fit registers.
%/cpu/quant_neon.o %/cpu/quant_neon_dotprod.o: NATIVE_EXTRA := -fno-schedule-insns
# The tests emulate instructions in plain C++, much of it: -O1 takes minutes to compile, and saves a second.
build/obj/cpu/quant_test.o: NATIVE_EXTRA := -O0 -Wno-psabi
%/cpu/tile_matmul_test.o: NATIVE_EXTRA := -Wno-psabi

build/libkvrm_cpu.so: $(NATIVE_SRC:csrc/%.cc=build/obj/%.o) csrc/exports.map
	$(CXX) -shared -pthread -static-libstdc++ -static-libgcc -Wl,--version-script=csrc/exports.map -Wl,--gc-sections \
	  -Wl,-z,defs -o $@.tmp $(filter %.o,$^) $(NATIVE_LIBS)
	@mv $@.tmp $@

# Benchmarks one after the other, so that each has the machine; tests beside each other: scripts/run_binaries.sh.
native_bench_run = @failed=0; for t in $(1); do echo "\# $$t"; $$t || failed=1; done; exit $$failed

.PHONY: native-test native-test-sanitized native-test-tsan native-test-aarch64 native-bench
native-test: $(NATIVE_TEST_SRC:csrc/%.cc=build/obj/%)
	@scripts/run_binaries.sh $^

native-test-sanitized: $(NATIVE_TEST_SRC:csrc/%.cc=build/san/%)
	@scripts/run_binaries.sh $^

native-test-tsan: $(NATIVE_TEST_SRC:csrc/%.cc=build/tsan/%)
	@scripts/run_binaries.sh $^

# The whole with all that QEMU has of the architecture; what a processor without the dot product (Armv8.0) runs, again.
# The C library is the one that the cross compiler came with.
qemu_aarch64 := qemu-aarch64:-L:/usr/aarch64-linux-gnu:-cpu
native-test-aarch64: $(NATIVE_TEST_SRC:csrc/%.cc=build/aarch64/%)
	@scripts/run_binaries.sh $(^:%=$(qemu_aarch64):max:%) $(qemu_aarch64):cortex-a72:build/aarch64/cpu/quant_test

native-bench: $(NATIVE_BENCH_SRC:csrc/%.cc=build/obj/%)
	$(call native_bench_run,$^)
