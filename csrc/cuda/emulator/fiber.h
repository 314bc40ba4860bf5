// fiber.h - stacks that take turns on one processor.
//
// Boost.Context does it for any processor. For x86-64 the few instructions are here: its switch also saves
// the x87 control word, which takes longer than all the rest, and every barrier of a warp switches 64 times.
#ifndef KVRM_CUDA_EMULATOR_FIBER_H_
#define KVRM_CUDA_EMULATOR_FIBER_H_

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <boost/context/detail/fcontext.hpp>
#endif

namespace kvrm::cuda::emulator {

// A place where a stack goes on.
using FiberContext = void*;

#if defined(__x86_64__)

// The first switch to it calls entry(), which never returns. `top` is the end of the stack.
inline FiberContext MakeFiber(void* top, size_t, void (*entry)()) {
  auto* words = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{63});
  *--words = 0;  // entry's return address: none
  *--words = 0;  // rbp
  *--words = reinterpret_cast<uintptr_t>(entry);
  return words;
}

// Leaves `*from` and goes on at `to`. A function of its own, so that the caller saves what calls save.
[[gnu::noinline]] inline void SwitchFiber(FiberContext* from, FiberContext to) {
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "leaq -128(%%rsp), %%rsp\n\t"  // past the red zone
      "pushq %%rbp\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%%rdi)\n\t"
      "movq %%rsi, %%rsp\n\t"
      "popq %%rax\n\t"
      "popq %%rbp\n\t"
      "jmpq *%%rax\n"
      "1:\tleaq 128(%%rsp), %%rsp"
      : "+D"(from), "+S"(to)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

#else

namespace internal {
inline thread_local void (*fiber_entry)();
inline void Enter(boost::context::detail::transfer_t from) {
  *static_cast<FiberContext*>(from.data) = from.fctx;
  fiber_entry();
}
}  // namespace internal

inline FiberContext MakeFiber(void* top, size_t bytes, void (*entry)()) {
  internal::fiber_entry = entry;
  return boost::context::detail::make_fcontext(top, bytes, &internal::Enter);
}

[[gnu::noinline]] inline void SwitchFiber(FiberContext* from, FiberContext to) {
  const auto back = boost::context::detail::jump_fcontext(to, from);
  *static_cast<FiberContext*>(back.data) = back.fctx;
}

#endif

}  // namespace kvrm::cuda::emulator
#endif  // KVRM_CUDA_EMULATOR_FIBER_H_
