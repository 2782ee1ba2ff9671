// y = W x for several W that read one x, in 8 bits: weights are bytes with a scale a row, activations are rounded to bytes here, in
// groups of 32 with a scale each, and bytes are multiplied by bytes (AVX-512 VNNI). Decoding one token is the reading of the weights;
// what matters is that they are read in order, once, and that one call and one parallel region serve all that reads one x.
//
// A weight (out, in) arrives as (blocks, in' * 64 + 256) bytes, a block being 64 outputs, in' a multiple of 32: first the weights,
// as unsigned bytes w + 128, four inputs of 64 outputs at a time, (in' / 4, 64, 4), then the 64 scales, fp32.
//
// VNNI multiplies unsigned by signed bytes: sum (w + 128) x = sum w x + 128 sum x, so each group's sum begins at -128 sum x. Integers
// are exact: at most 32 products of 255 * 127 are added before a group's scale makes them fp32.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <immintrin.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t BLOCK = 64;   // outputs: four registers of sixteen
constexpr int64_t GROUP = 32;   // inputs that share a scale
constexpr int64_t ROWS = 4;     // rows that go through a block together, so that it is read once for them
constexpr int64_t AHEAD = 4096; // bytes that are asked for before they are read

// Rows in 8 bits: x = integers * scale of their group; `starts` is where a group's sum begins.
struct Rounded {
  std::vector<int8_t> integers;
  std::vector<float> scales;
  std::vector<int32_t> starts;
};

__m512 load(const float* x) { return _mm512_loadu_ps(x); }

__m512 load(const at::BFloat16* x) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

template <typename T>
void round_row(const T* x, int64_t width, int64_t groups, int8_t* integers, float* scales, int32_t* starts) {
  for (int64_t g = 0; g < groups; g++) {
    const T* from = x + g * GROUP;
    T last[GROUP] = {};
    if (width - g * GROUP < GROUP) from = (std::copy(from, x + width, last), last);
    const __m512 low = load(from), high = load(from + 16);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const __m512 steps = _mm512_set1_ps(largest > 0 ? 127 / largest : 0);
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(low, steps)), b = _mm512_cvtps_epi32(_mm512_mul_ps(high, steps));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(integers + g * GROUP), _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(integers + g * GROUP + 16), _mm512_cvtepi32_epi8(b));
    scales[g] = largest / 127;
    starts[g] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
  }
}

Rounded round_rows(const at::Tensor& x, int64_t rows, int64_t width, int64_t groups) {
  Rounded made{std::vector<int8_t>(rows * groups * GROUP), std::vector<float>(rows * groups), std::vector<int32_t>(rows * groups)};
  for (int64_t r = 0; r < rows; r++) {
    int8_t* integers = made.integers.data() + r * groups * GROUP;
    float* scales = made.scales.data() + r * groups;
    int32_t* starts = made.starts.data() + r * groups;
    if (x.scalar_type() == at::kBFloat16)
      round_row(x.const_data_ptr<at::BFloat16>() + r * width, width, groups, integers, scales, starts);
    else
      round_row(x.const_data_ptr<float>() + r * width, width, groups, integers, scales, starts);
  }
  return made;
}

// COUNT rows of x, from `row` on, times one block: its first `outs` results go to y, rows `stride` apart.
template <int COUNT>
void multiply(const uint8_t* block, const Rounded& x, int64_t row, int64_t groups, float* y, int64_t stride, int64_t outs) {
  __m512 sums[COUNT][4] = {};
  for (int64_t g = 0; g < groups; g++, block += GROUP * BLOCK) {
    for (int64_t line = 0; line < GROUP * BLOCK; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(block) + AHEAD + line, _MM_HINT_T0);
    for (int r = 0; r < COUNT; r++) {
      const int64_t at = (row + r) * groups + g;
      const int32_t* fours = reinterpret_cast<const int32_t*>(x.integers.data() + at * GROUP);
      __m512i dots[4];
      for (int j = 0; j < 4; j++) dots[j] = _mm512_set1_epi32(x.starts[at]);
      for (int64_t i = 0; i < GROUP / 4; i++) {
        const __m512i four = _mm512_set1_epi32(fours[i]);
        for (int j = 0; j < 4; j++) dots[j] = _mm512_dpbusd_epi32(dots[j], _mm512_loadu_si512(block + (i * 4 + j) * 64), four);
      }
      const __m512 scale = _mm512_set1_ps(x.scales[at]);
      for (int j = 0; j < 4; j++) sums[r][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[j]), scale, sums[r][j]);
    }
  }
  const float* scales = reinterpret_cast<const float*>(block);
  for (int r = 0; r < COUNT; r++)
    for (int j = 0; j < 4; j++) {
      const __mmask16 kept = static_cast<__mmask16>((1u << std::clamp<int64_t>(outs - j * 16, 0, 16)) - 1);
      _mm512_mask_storeu_ps(y + r * stride + j * 16, kept, _mm512_mul_ps(sums[r][j], _mm512_loadu_ps(scales + j * 16)));
    }
}

constexpr decltype(&multiply<1>) MULTIPLY[ROWS] = {multiply<1>, multiply<2>, multiply<3>, multiply<4>};

// x (..., in), fp32 or bf16 -> fp32 (..., sum of outs): the results of all weights, one after another.
at::Tensor int8_linears(const at::Tensor& given, at::TensorList weights, at::IntArrayRef outs) {
  const at::Tensor x = given.contiguous();
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "int8_linears: x is ", x.scalar_type());
  const int64_t width = x.size(-1), rows = x.numel() / std::max<int64_t>(width, 1), groups = (width + GROUP - 1) / GROUP;
  const int64_t bytes = (groups * GROUP + 4) * BLOCK;
  std::vector<int64_t> block_starts{0}, out_starts{0};
  for (size_t i = 0; i < weights.size(); i++) {
    const int64_t blocks = (outs[i] + BLOCK - 1) / BLOCK;
    TORCH_CHECK(weights[i].is_contiguous() && weights[i].sizes() == at::IntArrayRef({blocks, bytes}),
                "int8_linears: weight ", i, " is ", weights[i].sizes(), " and not ", blocks, " blocks of ", bytes, " bytes");
    block_starts.push_back(block_starts.back() + blocks);
    out_starts.push_back(out_starts.back() + outs[i]);
  }
  std::vector<int64_t> shape = x.sizes().vec();
  const int64_t total = shape.back() = out_starts.back();
  at::Tensor y = at::empty(shape, x.options().dtype(at::kFloat));
  const Rounded rounded = round_rows(x, rows, width, groups);
  float* const results = y.data_ptr<float>();
  at::parallel_for(0, block_starts.back(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      const size_t i = std::upper_bound(block_starts.begin(), block_starts.end(), b) - block_starts.begin() - 1;
      const int64_t own = b - block_starts[i], first = own * BLOCK;
      const uint8_t* block = weights[i].const_data_ptr<uint8_t>() + own * bytes;
      for (int64_t row = 0; row < rows; row += ROWS)
        MULTIPLY[std::min(rows - row, ROWS) - 1](block, rounded, row, groups, results + row * total + out_starts[i] + first, total,
                                                 outs[i] - first);
    }
  });
  return y;
}

} // namespace

TORCH_LIBRARY(llmkit, library) { library.def("int8_linears(Tensor x, Tensor[] weights, int[] outs) -> Tensor"); }

TORCH_LIBRARY_IMPL(llmkit, CPU, library) { library.impl("int8_linears", int8_linears); }
