// mbarrier: a shared-memory barrier that also counts the bytes of asynchronous copies.
#pragma once
#include "hopper/element.cuh"

namespace flex::hopper {

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

struct Mbarrier {
    u64 state;

    __device__ __forceinline__ void init(u32 arrivals) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals) : "memory");
    }
    __device__ __forceinline__ void arrive() {
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
    }
    // Arrives, and holds the phase open until `bytes` of asynchronous copies have landed too.
    __device__ __forceinline__ void arrive_expecting(u32 bytes) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes)
                     : "memory");
    }
    // Returns once the phase of this parity has completed. A fresh barrier counts as having completed parity 1.
    __device__ __forceinline__ void wait(u32 parity) {
        u32 done = 0;
        do {
            asm volatile(
                "{\n.reg .pred done;\n"
                "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                "selp.u32 %0, 1, 0, done;\n}\n"
                : "=r"(done)
                : "r"(shared_address(this)), "r"(parity)
                : "memory");
        } while (!done);
    }
};

// Makes initialised barriers visible to the copy engine, before the block-wide barrier that publishes them.
__device__ __forceinline__ void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// A position in a ring of stages. The parity flips each time round.
template <int kStages>
struct RingPosition {
    u32 stage = 0;
    u32 parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == kStages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

}  // namespace flex::hopper
