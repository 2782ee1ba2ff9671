// The cross-entropy of hidden states x (rows, D) under a head W (V, D), with the gradients of both, in one pass over the vocabulary and
// one back: what Liger (arXiv 2410.10989) and Cut Cross-Entropy (arXiv 2411.09009) do on a GPU, for a processor with AVX-512.
//
// Everything is computed as its transpose, a row a word of the vocabulary, a column a row of x, so that the largest operands are read as
// they lie, sums over the vocabulary go lane by lane, and what one product writes is what the next one reads:
//
//   there    logits^T = W x^T, block by block of words. Of each block the largest of every column stays, the sum of the exponentials
//            of what is below it, and these exponentials, in the dtype of x. From them the logarithm of the whole sum.
//   back     slopes^T = counts (softmax - target), a factor a column from the exponentials; then gradient of W += slopes^T x, in fp32,
//            and gradient of x^T += W^T slopes^T, in fp32, a sum a thread.
//
// Exponentials rounded to bf16 are each off by 1/512 of themselves; logits rounded to bf16 would be off by 1/512 of theirs, and the
// exponentials by that, which is more wherever a logit is beyond 1. The loss itself is of fp32 logits.
//
// Products are oneDNN's, by torch's brgemm. For bf16 it wants two rows of its second operand interleaved (`STEP` of them).

// What torch's own vector code asks for.
#define CPU_CAPABILITY AVX512
#define CPU_CAPABILITY_AVX512

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/native/CPUBlas.h>
#include <immintrin.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <type_traits>
#include <vector>

namespace {

using at::BFloat16;

constexpr int64_t IGNORED = -100;  // the target of a row that has none
constexpr int64_t LANES = 16;      // fp32 numbers in a register
constexpr int64_t WIDE = 64;       // columns that are worked on together; their number is filled up to a multiple of it
constexpr int64_t WORDS = 128;     // words of a block
constexpr int64_t PART = 256;      // columns of a product: what it writes stays in the second cache
constexpr int64_t AHEAD = 4;       // words by which exponentials are asked for before they are read

template <typename T>
constexpr bool IS_BF16 = std::is_same_v<T, BFloat16>;

template <typename T>
constexpr int64_t STEP = IS_BF16<T> ? 2 : 1;

int64_t up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }

// e^x for x <= 0, within two units in the last place; 0 from where fp32 has no normal number; NaN stays NaN.
__m512 exponential(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (const float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
  p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1)));
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ), p, n);
}

__m512 load(const float* x) { return _mm512_loadu_ps(x); }

__m512 load(const BFloat16* x) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

void store(float* to, __m512 x) { _mm512_storeu_ps(to, x); }

void store(BFloat16* to, __m512 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x)); }

// (rows, columns), which lie `stride` apart -> (columns, rows), `to_stride` apart.
void transpose(const float* from, int64_t stride, float* to, int64_t to_stride, int64_t rows, int64_t columns) {
  at::vec::transpose_mxn<float>(from, stride, to, to_stride, static_cast<int>(rows), static_cast<int>(columns));
}

void transpose(const BFloat16* from, int64_t stride, BFloat16* to, int64_t to_stride, int64_t rows, int64_t columns) {
  constexpr int64_t TILE = 32;
  const int64_t whole_rows = rows / TILE * TILE, whole_columns = columns / TILE * TILE;
  for (int64_t i = 0; i < whole_rows; i += TILE)
    for (int64_t j = 0; j < whole_columns; j += TILE)
      at::vec::transpose_mxn<BFloat16, 32, 32>(from + i * stride + j, stride, to + j * to_stride + i, to_stride);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++) to[j * to_stride + i] = from[i * stride + j];
}

// The second operand of a product from its transpose (columns, depth): parts of `PART` columns, each (depth, columns of the part).
template <typename T>
void pack_transposed(const T* from, T* to, int64_t columns, int64_t depth) {
  for (int64_t start = 0; start < columns; start += PART) {
    const int64_t size = std::min(PART, columns - start);
    // Two of bf16 travel as one of fp32, which is how they are interleaved.
    transpose(reinterpret_cast<const float*>(from + start * depth), depth / STEP<T>, reinterpret_cast<float*>(to + start * depth), size,
              size, depth / STEP<T>);
  }
}

// The second operand of a product from (depth, columns), depth even in bf16.
void pack(const BFloat16* from, BFloat16* to, int64_t depth, int64_t columns) {
  for (int64_t i = 0; i < depth; i += 2)
    for (int64_t j = 0; j < columns; j++) {
      to[i * columns + 2 * j] = from[i * columns + j];
      to[i * columns + 2 * j + 1] = from[(i + 1) * columns + j];
    }
}

void pack(const float* from, float* to, int64_t depth, int64_t columns) { std::copy(from, from + depth * columns, to); }

template <typename T>
class CrossEntropy {
 public:
  CrossEntropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const at::Tensor& counts, double smoothing,
               double z)
      : rows(x.size(0)), columns(up(rows, WIDE)), depth(x.size(1)), words(weight.size(0)), blocks((words + WORDS - 1) / WORDS),
        s(static_cast<float>(smoothing)), z(static_cast<float>(z)), w(weight.const_data_ptr<T>()),
        target(targets.const_data_ptr<int64_t>()), count(counts.const_data_ptr<float>()), numbers(x.options().dtype(at::kFloat)) {
    x_filled = at::zeros({columns, depth}, x.options());
    x_filled.narrow(0, 0, rows).copy_(x);
    exponentials = at::empty({words, columns}, x.options());
    largest = at::empty({blocks, columns}, numbers);
    sums = at::empty({blocks, columns}, numbers);
    plain_sums = s > 0 ? at::empty({blocks, columns}, numbers) : at::Tensor();
    chosen.assign(columns, 0);
    by_target.resize(rows);
    std::iota(by_target.begin(), by_target.end(), 0);
    std::sort(by_target.begin(), by_target.end(), [&](int64_t a, int64_t b) { return std::pair(target[a], a) < std::pair(target[b], b); });
  }

  // The terms, each a sum over the rows: of the loss, of label smoothing, of the z-loss.
  at::Tensor there() {
    const at::Tensor packed = at::empty_like(x_filled);
    pack_transposed(x_filled.const_data_ptr<T>(), packed.mutable_data_ptr<T>(), columns, depth);
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      const at::Tensor logits = at::empty({WORDS * PART}, numbers);
      for (int64_t block = begin; block < end; block++) exponentiate(block, packed.const_data_ptr<T>(), logits.mutable_data_ptr<float>());
      at::native::cpublas::brgemm_release(IS_BF16<T>);
    });
    return terms();
  }

  // The gradients of the terms' sum: that of x takes the place of what is there, that of the weight is added where `add`.
  void back(const std::optional<at::Tensor>& of_x, const std::optional<at::Tensor>& of_weight, bool add, const at::TensorOptions& options) {
    const at::Tensor packed = at::empty_like(x_filled);
    if (of_weight) pack(x_filled.const_data_ptr<T>(), packed.mutable_data_ptr<T>(), columns, depth);
    // Blocks in as many runs as there are threads: each adds up a gradient of x of its own.
    const int64_t runs = std::min<int64_t>(at::get_num_threads(), blocks);
    const at::Tensor parts = at::zeros({of_x ? runs : 0, depth, columns}, numbers);
    at::parallel_for(0, runs, 1, [&](int64_t begin, int64_t end) {
      const at::Tensor slopes = at::empty({WORDS, columns}, options), interleaved = at::empty({IS_BF16<T> ? WORDS : 0, columns}, options);
      const at::Tensor turned = at::empty({depth, WORDS}, options), factors = at::empty({columns}, numbers);
      T *const here = slopes.mutable_data_ptr<T>(), *const again = interleaved.mutable_data_ptr<T>();
      float* w_slopes = of_weight ? of_weight->mutable_data_ptr<float>() : nullptr;
      for (int64_t run = begin; run < end; run++) {
        float* mine = of_x ? parts.mutable_data_ptr<float>() + run * depth * columns : nullptr;
        for (int64_t block = run * blocks / runs; block < (run + 1) * blocks / runs; block++) {
          const float* next = w_slopes && add ? w_slopes + first(block) * depth : nullptr;
          const T* second = slope(block, next, factors.mutable_data_ptr<float>(), here, again);
          if (w_slopes) pull_weight(block, here, packed.const_data_ptr<T>(), w_slopes, add);
          if (mine) pull_x(block, second, turned.mutable_data_ptr<T>(), mine);
        }
      }
      at::native::cpublas::brgemm_release(IS_BF16<T>);
    });
    if (of_x) of_x->copy_(parts.sum(0).narrow(1, 0, rows).t());
  }

 private:
  int64_t first(int64_t block) const { return block * WORDS; }
  int64_t size(int64_t block) const { return std::min(WORDS, words - first(block)); }

  // The rows whose target is in a block.
  template <typename F>
  void for_targets(int64_t block, F each) const {
    const auto lower = [&](int64_t row, int64_t word) { return target[row] < word; };
    auto row = std::lower_bound(by_target.begin(), by_target.end(), first(block), lower);
    for (; row != by_target.end() && target[*row] < first(block) + size(block); row++) each(*row, target[*row] - first(block));
  }

  void exponentiate(int64_t block, const T* x_packed, float* logits) {
    const int64_t n = size(block);
    for (int64_t start = 0; start < columns; start += PART) {
      const int64_t part = std::min(PART, columns - start);
      at::native::cpublas::brgemm(n, part, depth, depth, part, part, false, w + first(block) * depth, x_packed + start * depth, logits,
                                  IS_BF16<T>);
      for (int64_t column = 0; column < part; column += WIDE) exponentiate(block, logits + column, part, start + column);
      for_targets(block, [&](int64_t row, int64_t word) {
        if (start <= row && row < start + part) chosen[row] = logits[word * part + row - start];
      });
    }
  }

  // The same for `WIDE` columns of a block's logits, from this one on.
  void exponentiate(int64_t block, const float* logits, int64_t stride, int64_t column) {
    constexpr int N = WIDE / LANES;
    const int64_t n = size(block);
    __m512 top[N], sum[N], plain[N];
    for (int i = 0; i < N; i++) {
      // Not below the least number: a column of -inf alone is one of zeros, and no NaN, which stays where it is.
      top[i] = _mm512_max_ps(_mm512_set1_ps(-std::numeric_limits<float>::max()), load(logits + i * LANES));
      sum[i] = plain[i] = _mm512_setzero_ps();
    }
    for (int64_t v = 1; v < n; v++)
      for (int i = 0; i < N; i++) top[i] = _mm512_max_ps(top[i], load(logits + v * stride + i * LANES));
    T* to = exponentials.mutable_data_ptr<T>() + first(block) * columns + column;
    for (int64_t v = 0; v < n; v++)
      for (int i = 0; i < N; i++) {
        const __m512 e = exponential(_mm512_sub_ps(load(logits + v * stride + i * LANES), top[i]));
        sum[i] = _mm512_add_ps(sum[i], e);
        store(to + v * columns + i * LANES, e);
      }
    const int64_t at = block * columns + column;
    for (int i = 0; i < N; i++) {
      store(largest.mutable_data_ptr<float>() + at + i * LANES, top[i]);
      store(sums.mutable_data_ptr<float>() + at + i * LANES, sum[i]);
    }
    if (s == 0) return;
    for (int64_t v = 0; v < n; v++)
      for (int i = 0; i < N; i++) plain[i] = _mm512_add_ps(plain[i], load(logits + v * stride + i * LANES));
    for (int i = 0; i < N; i++) store(plain_sums.mutable_data_ptr<float>() + at + i * LANES, plain[i]);
  }

  at::Tensor terms() {
    // Kept apart: their sum is of the size of the logits, and what is below it would be lost.
    top = std::get<0>(largest.max(0));
    log_sum = (largest - top).exp_().mul_(sums).sum(0).log_();
    const float *highest = top.const_data_ptr<float>(), *log_sums = log_sum.const_data_ptr<float>();
    const at::Tensor total = s > 0 ? plain_sums.sum(0) : at::Tensor();
    double loss = 0, smoothing = 0, squares = 0;
    for (int64_t r = 0; r < rows; r++) {
      const float nats = target[r] >= 0 ? highest[r] - chosen[r] + log_sums[r] : 0;
      const float log_z = highest[r] + log_sums[r];
      loss += nats * count[r];
      if (s > 0) smoothing += s * (log_z - total.const_data_ptr<float>()[r] / static_cast<float>(words) - nats) * count[r];
      if (z > 0) squares += z * log_z * log_z * count[r];
    }
    return at::tensor({loss, smoothing, squares}, at::kDouble).to(at::kFloat);
  }

  // counts (softmax (1 + 2 z ln sum exp) - (1 - s) target - s / V) of a block; in bf16 a second time, interleaved. The second operand.
  // Memory that the product after it adds to, `next`, is asked for on the way, row by row: it comes while there is something to do.
  T* slope(int64_t block, const float* next, float* factors, T* slopes, T* interleaved) {
    const int64_t n = size(block), even = up(n, STEP<T>);
    const float *mine = largest.const_data_ptr<float>() + block * columns, *highest = top.const_data_ptr<float>();
    const float* log_sums = log_sum.const_data_ptr<float>();
    const float share = s / static_cast<float>(words);
    for (int64_t c = 0; c < columns; c += LANES)
      store(factors + c, exponential(_mm512_sub_ps(_mm512_sub_ps(load(mine + c), load(highest + c)), load(log_sums + c))));
    for (int64_t c = 0; c < columns; c++) factors[c] *= c < rows ? scale(c) : 0;
    const T* e = exponentials.const_data_ptr<T>() + first(block) * columns;
    std::vector<float> spread(s > 0 ? columns : 0);
    for (int64_t c = 0; c < static_cast<int64_t>(spread.size()); c++) spread[c] = c < rows ? share * count[c] : 0;
    for (int64_t v = 0; v < n; v++) {
      for (int64_t d = 0; next && d < depth; d += LANES) _mm_prefetch(reinterpret_cast<const char*>(next + v * depth + d), _MM_HINT_T1);
      for (int64_t c = 0; c < columns; c += LANES) {
        _mm_prefetch(reinterpret_cast<const char*>(e + (v + AHEAD) * columns + c), _MM_HINT_T0);
        __m512 x = _mm512_mul_ps(load(e + v * columns + c), load(factors + c));
        if (s > 0) x = _mm512_sub_ps(x, load(spread.data() + c));
        store(slopes + v * columns + c, x);
      }
    }
    for_targets(block, [&](int64_t row, int64_t word) {
      const float p = std::exp(chosen[row] - highest[row] - log_sums[row]);
      slopes[word * columns + row] = scale(row) * p - (1 - s + share) * count[row];
    });
    if constexpr (!IS_BF16<T>) return slopes;
    if (even > n) std::fill(slopes + n * columns, slopes + even * columns, T(0));
    for (int64_t start = 0; start < columns; start += PART)
      interleave(slopes + start, interleaved + start * even, even, std::min(PART, columns - start));
    return interleaved;
  }

  void interleave(const T* from, T* to, int64_t n, int64_t part) const {
    for (int64_t v = 0; v < n; v += 2)
      for (int64_t c = 0; c < part; c += LANES) {
        const auto wide = [&](int64_t row) {
          return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + row * columns + c)));
        };
        _mm512_storeu_si512(to + v * part + 2 * c, _mm512_or_si512(wide(v), _mm512_slli_epi32(wide(v + 1), 16)));
      }
  }

  float scale(int64_t row) const {
    return count[row] * (1 + 2 * z * (top.const_data_ptr<float>()[row] + log_sum.const_data_ptr<float>()[row]));
  }

  void pull_weight(int64_t block, const T* slopes, const T* x_packed, float* of_weight, bool add) const {
    at::native::cpublas::brgemm(size(block), depth, columns, columns, depth, depth, add, slopes, x_packed, of_weight + first(block) * depth,
                                IS_BF16<T>);
  }

  void pull_x(int64_t block, const T* slopes, T* turned, float* of_x) const {
    const int64_t n = size(block), even = up(n, STEP<T>);
    transpose(w + first(block) * depth, depth, turned, WORDS, n, depth);
    if (even > n)
      for (int64_t d = 0; d < depth; d++) turned[d * WORDS + n] = T(0);
    for (int64_t start = 0; start < columns; start += PART) {
      const int64_t part = std::min(PART, columns - start);
      const T* second = IS_BF16<T> ? slopes + start * even : slopes + start;
      at::native::cpublas::brgemm(depth, part, even, WORDS, IS_BF16<T> ? part : columns, columns, true, turned, second, of_x + start,
                                  IS_BF16<T>);
    }
  }

  const int64_t rows, columns, depth, words, blocks;
  const float s, z;
  const T* const w;
  const int64_t* const target;
  const float* const count;
  const at::TensorOptions numbers;
  at::Tensor x_filled, exponentials, largest, sums, plain_sums, top, log_sum;
  std::vector<float> chosen;       // the logit of each row's target
  std::vector<int64_t> by_target;  // rows in the order of their targets
};

template <typename T>
at::Tensor computed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const at::Tensor& counts, double smoothing,
                    double z, const std::optional<at::Tensor>& of_x, const std::optional<at::Tensor>& of_weight, bool add) {
  CrossEntropy<T> cross_entropy(x, weight, targets, counts, smoothing, z);
  at::Tensor terms = cross_entropy.there();
  if (of_x || of_weight) cross_entropy.back(of_x, of_weight, add, x.options());
  return terms;
}

at::Tensor head_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets, const at::Tensor& counts,
                              double smoothing, double z, const std::optional<at::Tensor>& of_x, const std::optional<at::Tensor>& of_weight,
                              bool add) {
  const auto of_rows = [&](const at::Tensor& one, at::ScalarType type) {
    return one.is_contiguous() && one.scalar_type() == type && one.dim() == 1 && one.size(0) == x.size(0);
  };
  TORCH_CHECK(x.dim() == 2 && x.size(0) > 0 && x.size(1) % 2 == 0, "x is to be (rows, D), with rows and an even D, and is ", x.sizes());
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == x.size(1) && weight.scalar_type() == x.scalar_type() && weight.is_contiguous(),
              "the weight is to be (V, D), contiguous and of the dtype of x, and is ", weight.sizes());
  TORCH_CHECK(of_rows(targets, at::kLong), "targets are to be int64, contiguous, one a row, and are ", targets.sizes());
  TORCH_CHECK(of_rows(counts, at::kFloat), "counts are to be fp32, contiguous, one a row, and are ", counts.sizes());
  TORCH_CHECK(!of_x || of_x->sizes() == x.sizes(), "the gradient of x is to be as x is");
  TORCH_CHECK(!of_weight || (of_weight->sizes() == weight.sizes() && of_weight->is_contiguous() && of_weight->scalar_type() == at::kFloat),
              "the gradient of the weight is to be as the weight is, in fp32");
  const int64_t* const target = targets.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < targets.size(0); r++)
    TORCH_CHECK_INDEX(target[r] == IGNORED || (0 <= target[r] && target[r] < weight.size(0)), "Target ", target[r], " is out of bounds.");
  const auto compute = x.scalar_type() == at::kBFloat16 ? computed<BFloat16> : computed<float>;
  return compute(x, weight, targets, counts, smoothing, z, of_x, of_weight, add);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(llmkit, library) {
  library.def(
      "head_cross_entropy(Tensor x, Tensor weight, Tensor targets, Tensor counts, float smoothing, float z, Tensor(a!)? of_x, "
      "Tensor(b!)? of_weight, bool add) -> Tensor");
}

TORCH_LIBRARY_IMPL(llmkit, CPU, library) { library.impl("head_cross_entropy", head_cross_entropy); }
