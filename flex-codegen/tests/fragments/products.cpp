// The products of the portable kernel, run by a warp of 32 host threads, against sums written down in loops. Small whole
// numbers, so that every element type and order of summation gives the same.
#include <cstdio>
#include <thread>
#include <vector>

#include "flex/products_f32.cuh"
#include "flex/products_half.cuh"
#include "flex/products_tf32.cuh"

namespace {

struct NoCopy {
    void issue_part(int, int) {}
    void issue_all() {}
};

float number(unsigned seed, int row, int column) { return float(int((seed + row * 7919u + column * 104729u) * 2654435761u >> 28) - 8); }

void put(unsigned at, float x, unsigned bytes) {
    const unsigned bits = __float_as_uint(x);
    std::memcpy(shared_memory + at, reinterpret_cast<const unsigned char*>(&bits) + 4 - bytes, bytes);
}

// How many elements are wrong in Q Kᵀ and in P V.
template <class Products, int kDim, int kTileKv, int kFragments>
int wrong(const char* name) {
    using Element = typename Products::Element;
    using Layout = flex::RowLayout<Element, kDim>;
    constexpr int kRows = 16 * kFragments;
    constexpr unsigned kQuery = 0, kKey = kRows * Layout::kBytes, kValue = kKey + kTileKv * Layout::kBytes;
    static_assert(kValue + kTileKv * Layout::kBytes <= sizeof(shared_memory));
    for (int column = 0; column < kDim; ++column) {
        for (int row = 0; row < kRows; ++row) put(kQuery + row * Layout::kBytes + column * sizeof(Element), number(1, row, column), sizeof(Element));
        for (int row = 0; row < kTileKv; ++row) {
            put(kKey + row * Layout::kBytes + column * sizeof(Element), number(2, row, column), sizeof(Element));
            put(kValue + row * Layout::kBytes + column * sizeof(Element), number(3, row, column), sizeof(Element));
        }
    }
    std::vector<float> scores(kRows * kTileKv), outputs(kRows * kDim);
    std::vector<std::thread> lanes;
    for (unsigned lane = 0; lane < 32; ++lane) {
        lanes.emplace_back([&, lane] {
            threadIdx.x = lane;
            flex::Accumulator<kFragments, kTileKv> s;
            flex::Accumulator<kFragments, kDim> o;
            flex::fill_zero<kFragments, kTileKv>(s);
            flex::fill_zero<kFragments, kDim>(o);
            NoCopy copy;
            Products::template scores<kDim, kTileKv, kFragments>(s, kQuery, Layout::kBytes, kKey, copy);
            const auto row = [&](int m, int e) { return 16 * m + int(lane) / 4 + e / 2 * 8; };
            const auto column = [&](int n, int e) { return 8 * n + int(lane) % 4 * 2 + e % 2; };
            for (int m = 0; m < kFragments; ++m)
                for (int n = 0; n < kTileKv / 8; ++n)
                    for (int e = 0; e < 4; ++e) {
                        scores[row(m, e) * kTileKv + column(n, e)] = s[m][n][e];
                        s[m][n][e] = number(4, row(m, e), column(n, e));
                    }
            Products::template accumulate<kDim, kTileKv, kFragments>(o, s, kValue);
            for (int m = 0; m < kFragments; ++m)
                for (int n = 0; n < kDim / 8; ++n)
                    for (int e = 0; e < 4; ++e) outputs[row(m, e) * kDim + column(n, e)] = o[m][n][e];
        });
    }
    for (std::thread& lane : lanes) lane.join();
    int count = 0;
    for (int row = 0; row < kRows; ++row) {
        for (int key = 0; key < kTileKv; ++key) {
            float sum = 0;
            for (int k = 0; k < kDim; ++k) sum += number(1, row, k) * number(2, key, k);
            count += scores[row * kTileKv + key] != sum;
        }
        for (int column = 0; column < kDim; ++column) {
            float sum = 0;
            for (int key = 0; key < kTileKv; ++key) sum += number(4, row, key) * number(3, key, column);
            count += outputs[row * kDim + column] != sum;
        }
    }
    std::printf("%s: %d of %d wrong\n", name, count, kRows * (kTileKv + kDim));
    return count;
}

}  // namespace

int main() {
    return wrong<flex::HalfProducts<flex::bf16>, 32, 32, 2>("bf16, two fragments") +
               wrong<flex::HalfProducts<flex::bf16>, 48, 16, 1>("bf16, one fragment") +
               wrong<flex::Tf32Products, 32, 16, 2>("tf32") + wrong<flex::F32Products, 16, 16, 1>("f32") !=
           0;
}
