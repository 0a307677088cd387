// Faults of mods: what Rust would have panicked at. A fault is a value, 0 for none, else site and index in one word.
#pragma once
#include "flex/problem.cuh"

namespace flex {

__device__ __forceinline__ long long fault_at(int site, unsigned index) { return (long long)(site + 1) << 32 | index; }

__device__ __forceinline__ long long first_fault(long long first, long long then) { return first != 0 ? first : then; }

// Writes the launch's record, if no other thread has.
__device__ __forceinline__ void record_fault(const Problem& p, long long fault, int b, int h, int q, int kv) {
    if (atomicCAS(&p.fault->claimed, 0, 1) == 0) {
        p.fault->site = int(fault >> 32) - 1;
        p.fault->index = int(fault);
        p.fault->batch = b;
        p.fault->head = h;
        p.fault->query = q;
        p.fault->key = kv;
    }
}

}  // namespace flex
