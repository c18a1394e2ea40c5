// Native kernels for CPUs, called by XLA (jax.ffi). One library for all processors of a kind: the instruction set is
// chosen when it runs.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "pool.h"
#include "product.h"
#include "xla/ffi/api/ffi.h"

namespace glass {

inline float widen(uint16_t bfloat16) {
  uint32_t bits = uint32_t{bfloat16} << 16;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

// IEEE 754 binary16 → binary32.
inline float half_to_float(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) {
    float tiny = std::ldexp(float(fraction), -24);
    return sign ? -tiny : tiny;
  }
  uint32_t bits = sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | fraction << 13;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

namespace plain {
// For any processor; compilers turn these loops into its own vectors.
typedef float V __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
typedef int32_t Whole __attribute__((vector_size(16)));
struct Lanes {
  static constexpr int W = 4, kRegisters = 16;
  static V zero() { return V{}; }
  static V broadcast(float a) { return V{a, a, a, a}; }
  static V load(const float* a) {
    V v;
    memcpy(&v, a, sizeof v);
    return v;
  }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V mul(V a, V b) { return a * b; }
  static V add(V a, V b) { return a + b; }
  static float sum(V a) { return (a[0] + a[1]) + (a[2] + a[3]); }
  static V from_int8(const int8_t* q) {
    int8_t part __attribute__((vector_size(4)));
    memcpy(&part, q, sizeof part);
    return __builtin_convertvector(part, V);
  }
  static V from_bfloat16(const uint16_t* q) {
    uint16_t part __attribute__((vector_size(8)));
    memcpy(&part, q, sizeof part);
    return (V)(__builtin_convertvector(part, Bits) << 16);
  }
  static void from_nibbles(const uint8_t* q, float scale, float minimum, V* w) {
    V s = broadcast(scale), m = broadcast(minimum);
    for (int i = 0; i < 4; ++i, q += 4) {
      uint8_t part __attribute__((vector_size(4)));
      memcpy(&part, q, sizeof part);
      Bits bytes = __builtin_convertvector(part, Bits);
      w[i] = __builtin_convertvector(bytes & 15, V) * s + m;
      w[i + 4] = __builtin_convertvector(bytes >> 4, V) * s + m;
    }
  }
  static void from_half(const uint16_t* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = half_to_float(from[i]);
  }
  static V max(V a, V b) { return a > b ? a : b; }
  static V power_of_two(V n) { return (V)((__builtin_convertvector(n, Whole) + 127) << 23); }
  static V round(V a) { return V{std::rint(a[0]), std::rint(a[1]), std::rint(a[2]), std::rint(a[3])}; }
};
#include "dots.h"
#include "attention.h"
}  // namespace plain

#if defined(__x86_64__)
#define GLASS_PRAGMA(words) _Pragma(#words)
#if defined(__clang__)
#define GLASS_TARGET(features) \
  GLASS_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define GLASS_TARGET_END GLASS_PRAGMA(clang attribute pop)
#else
#define GLASS_TARGET(features) GLASS_PRAGMA(GCC push_options) GLASS_PRAGMA(GCC target(features))
#define GLASS_TARGET_END GLASS_PRAGMA(GCC pop_options)
#endif

GLASS_TARGET("avx2,fma,f16c")
namespace avx2 {
typedef __m256 V;
struct Lanes {
  static constexpr int W = 8, kRegisters = 16;
  static inline V zero() { return _mm256_setzero_ps(); }
  static inline V broadcast(float a) { return _mm256_set1_ps(a); }
  static inline V load(const float* a) { return _mm256_loadu_ps(a); }
  static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
  static inline float sum(V a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
  static inline V from_int8(const int8_t* q) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q))));
  }
  static inline V from_bfloat16(const uint16_t* q) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static inline void from_nibbles(const uint8_t* q, float scale, float minimum, V* w) {
    const V s = broadcast(scale), m = broadcast(minimum);
    const __m256i low = _mm256_set1_epi32(15);
    for (int i = 0; i < 2; ++i) {
      __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q + 8 * i)));
      w[i] = fma(_mm256_cvtepi32_ps(_mm256_and_si256(bytes, low)), s, m);
      w[i + 2] = fma(_mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4)), s, m);
    }
  }
  static inline void from_half(const uint16_t* from, int64_t count, float* to) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    for (; i < count; ++i) to[i] = _cvtsh_ss(from[i]);
  }
  static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
  static inline V round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static inline V power_of_two(V n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
};
#include "dots.h"
#include "attention.h"
}  // namespace avx2
GLASS_TARGET_END

GLASS_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace avx512 {
typedef __m512 V;
struct Lanes {
  static constexpr int W = 16, kRegisters = 32;
  static inline V zero() { return _mm512_setzero_ps(); }
  static inline V broadcast(float a) { return _mm512_set1_ps(a); }
  static inline V load(const float* a) { return _mm512_loadu_ps(a); }
  static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
  static inline float sum(V a) { return _mm512_reduce_add_ps(a); }
  static inline V from_int8(const int8_t* q) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q))));
  }
  static inline V from_bfloat16(const uint16_t* q) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  // A group has 16 different numbers: each nibble picks its own from a register.
  static inline void from_nibbles(const uint8_t* q, float scale, float minimum, V* w) {
    const V steps = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const V table = fma(steps, broadcast(scale), broadcast(minimum));
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
    w[0] = _mm512_permutexvar_ps(bytes, table);  // it looks at the lowest 4 bits of each
    w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
  }
  static inline void from_half(const uint16_t* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += 16) {
      __mmask16 mask = count - i >= 16 ? 0xffff : (1u << (count - i)) - 1;
      _mm512_mask_storeu_ps(to + i, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from + i)));
    }
  }
  static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
  static inline V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static inline V power_of_two(V n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
  }
};
#include "dots.h"
#include "attention.h"
}  // namespace avx512
GLASS_TARGET_END

#if defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define GLASS_AMX
GLASS_TARGET("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace amx {
#include "tiles.h"
}  // namespace amx
GLASS_TARGET_END
#endif
#endif

struct Kernels {
  void (*product)(const Product&, int64_t, int64_t);
  void (*attention)(const Attention&, int64_t, int64_t);
  bool (*many_rows)(const Product&);  // of a product of more than kFewRows; may refuse
};

// Up to so many rows of x are multiplied with each row of W while it is read.
constexpr int64_t kFewRows = 16;

// Of one instruction set; none where this processor has not got it.
static Kernels kernels_of(int instructions) {
#if defined(GLASS_AMX)
  static const bool has_tiles = amx::allowed();
  if (instructions == 3) {
    Kernels kernels = has_tiles ? kernels_of(2) : Kernels{};
    if (kernels.product) kernels.many_rows = amx::product;
    return kernels;
  }
#endif
#if defined(__x86_64__)
  if (instructions == 2) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
               ? Kernels{avx512::product, avx512::attention, nullptr}
               : Kernels{};
  }
  if (instructions == 1) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
               ? Kernels{avx2::product, avx2::attention, nullptr}
               : Kernels{};
  }
#endif
  return instructions == 0 ? Kernels{plain::product, plain::attention, nullptr} : Kernels{};
}

static int best_instructions() {
  static const int best = kernels_of(3).product ? 3 : kernels_of(2).product ? 2 : kernels_of(1).product ? 1 : 0;
  return best;
}

// So many bytes of W are a piece. Each begins with what memory takes to get going: 151 calls of a 135M model in 8 bits
// take 6.0 ms with pieces of 48 KB, 5.0 ms with 128, 4.5 ms with 192 and 256.
constexpr int64_t kPieceBytes = 192 * 1024;

struct Job {
  Product product;
  Kernels kernels;
  int64_t outputs_per_piece;
};

static void do_piece(void* context, int piece) {
  const Job& job = *static_cast<const Job*>(context);
  int64_t begin = piece * job.outputs_per_piece, end = std::min(begin + job.outputs_per_piece, job.product.outputs);
  job.kernels.product(job.product, begin, end);
}

static void run(const Product& product, const Kernels& kernels) {
  if (product.rows > kFewRows && kernels.many_rows != nullptr && kernels.many_rows(product)) return;
  int64_t bits = product.format == Format::kBfloat16 ? 16 : product.format == Format::kInt8 ? 9 : 5;
  int64_t row_bytes = std::max<int64_t>(1, product.width * bits / 8);
  // More rows of x are more work for the same bytes.
  int64_t wanted = std::max<int64_t>(2, kPieceBytes / row_bytes / (1 + product.rows / 4) & ~int64_t{1});
  int64_t least = (product.outputs + Pool::kMostPieces - 1) / Pool::kMostPieces;
  Job job{product, kernels, std::max(wanted, least)};
  Pool::get().run(int((product.outputs + job.outputs_per_piece - 1) / job.outputs_per_piece), do_piece, &job);
}

// Less of the cache than this one thread reads sooner than it wakes another.
constexpr int64_t kSharedBytes = 128 * 1024;

struct AttentionJob {
  Attention attention;
  Kernels kernels;
};

static void do_heads(void* context, int piece) {
  const AttentionJob& job = *static_cast<const AttentionJob*>(context);
  const int64_t kv_heads = job.attention.kv_heads;
  job.kernels.attention(job.attention, piece / kv_heads, piece % kv_heads);
}

static void run(const Attention& a, const Kernels& kernels) {
  int64_t bytes = 0;
  for (int64_t row = 0; row < a.rows; ++row) {
    if (a.positions[row] < a.length) bytes += a.kv_heads * a.positions[row] * a.head_dim * (a.is_bfloat16 ? 4 : 8);
  }
  AttentionJob job{a, kernels};
  int pieces = int(a.rows * a.kv_heads);
  if (bytes < kSharedBytes || pieces > Pool::kMostPieces) {
    for (int piece = 0; piece < pieces; ++piece) do_heads(&job, piece);
  } else {
    Pool::get().run(pieces, do_heads, &job);
  }
}

namespace ffi = xla::ffi;

// x [N, I] float32; numbers [O, P] bfloat16, int8 or uint8 (nibbles); scales and minimums [O, G] float16 or float32, or
// [O, 0] → y [N, O]. `instructions`: 0 plain, 1 AVX2, 2 AVX-512, 3 AMX, -1 the best of this processor.
static ffi::Error multiply(ffi::Buffer<ffi::F32> x, ffi::AnyBuffer numbers, ffi::AnyBuffer scales,
                           ffi::AnyBuffer minimums, int64_t instructions, ffi::ResultBuffer<ffi::F32> y) {
  Kernels kernels = kernels_of(int(instructions < 0 ? best_instructions() : instructions));
  if (kernels.product == nullptr) return ffi::Error::InvalidArgument("this processor has no such instructions");
  Product p{};
  p.rows = x.dimensions()[0];
  p.outputs = numbers.dimensions()[0];
  int64_t columns = x.dimensions()[1], stored = numbers.dimensions()[1];
  if (numbers.element_type() == ffi::BF16) {
    p.format = Format::kBfloat16;
  } else if (numbers.element_type() == ffi::S8) {
    p.format = Format::kInt8;
  } else if (numbers.element_type() == ffi::U8) {
    p.format = Format::kInt4;
  } else {
    return ffi::Error::InvalidArgument("a weight that is not bfloat16, int8 or uint8");
  }
  p.width = p.format == Format::kInt4 ? 2 * stored : stored;
  int64_t groups = scales.dimensions()[1];
  p.group = groups ? int(p.width / groups) : kGroup;
  bool has_scales = groups > 0, has_minimums = minimums.dimensions()[1] > 0;
  bool fits = p.format == Format::kBfloat16
                  ? p.width == columns && !has_scales
                  : p.width % kGroup == 0 && p.width >= columns && p.width - columns < kGroup && has_scales &&
                        groups * p.group == p.width && (p.group == 32 || (p.group == 16 && p.format == Format::kInt8));
  if (!fits || (p.format == Format::kInt4 && !has_minimums)) {
    return ffi::Error::InvalidArgument("the shapes of a weight and its scales do not fit each other");
  }
  p.numbers = numbers.untyped_data();
  p.scales = has_scales ? scales.untyped_data() : nullptr;
  p.minimums = has_minimums ? minimums.untyped_data() : nullptr;
  p.half_scales = scales.element_type() == ffi::F16;
  p.x = x.typed_data();
  p.y = y->typed_data();
  static thread_local std::vector<float> filled;
  if (p.width != columns) {  // x gets zeros where the rows of W were filled up
    filled.assign(p.rows * p.width, 0.0f);
    for (int64_t row = 0; row < p.rows; ++row)
      memcpy(filled.data() + row * p.width, p.x + row * columns, columns * sizeof(float));
    p.x = filled.data();
  }
  run(p, kernels);
  return ffi::Error::Success();
}

// q [N, H, E] float32; keys and values [S, K, C, E] float32 or bfloat16; the slot and the position of each row [N] →
// [N, H, E].
static ffi::Error attend(ffi::Buffer<ffi::F32> q, ffi::AnyBuffer keys, ffi::AnyBuffer values, ffi::Buffer<ffi::S32> rows,
                         ffi::Buffer<ffi::S32> positions, int64_t sliding_window, int64_t instructions,
                         ffi::ResultBuffer<ffi::F32> out) {
  Kernels kernels = kernels_of(int(instructions < 0 ? best_instructions() : instructions));
  if (kernels.attention == nullptr) return ffi::Error::InvalidArgument("this processor has no such instructions");
  auto shape = q.dimensions(), cache = keys.dimensions();
  Attention a{};
  a.q = q.typed_data();
  a.rows = shape[0];
  a.heads = shape[1];
  a.head_dim = shape[2];
  a.slots = cache[0];
  a.kv_heads = cache[1];
  a.length = cache[2];
  a.is_bfloat16 = keys.element_type() == ffi::BF16;
  bool fits = cache[3] == a.head_dim && a.kv_heads > 0 && a.heads % a.kv_heads == 0 &&
              keys.element_type() == values.element_type() && (a.is_bfloat16 || keys.element_type() == ffi::F32) &&
              int64_t(rows.dimensions()[0]) == a.rows && int64_t(positions.dimensions()[0]) == a.rows;
  if (!fits) return ffi::Error::InvalidArgument("the shapes of queries and cache do not fit each other");
  a.keys = keys.untyped_data();
  a.values = values.untyped_data();
  a.cache_rows = rows.typed_data();
  a.positions = positions.typed_data();
  a.sliding_window = sliding_window;
  a.scale = 1.0f / std::sqrt(float(a.head_dim));
  a.out = out->typed_data();
  run(a, kernels);
  return ffi::Error::Success();
}

}  // namespace glass

#define GLASS_EXPORT extern "C" __attribute__((visibility("default")))

XLA_FFI_DEFINE_HANDLER(glass_multiply_handler, glass::multiply,
                       xla::ffi::Ffi::Bind()
                           .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                           .Arg<xla::ffi::AnyBuffer>()
                           .Arg<xla::ffi::AnyBuffer>()
                           .Arg<xla::ffi::AnyBuffer>()
                           .Attr<int64_t>("instructions")
                           .Ret<xla::ffi::Buffer<xla::ffi::F32>>());

GLASS_EXPORT XLA_FFI_Error* glass_multiply(XLA_FFI_CallFrame* frame) { return glass_multiply_handler(frame); }

XLA_FFI_DEFINE_HANDLER(glass_attend_handler, glass::attend,
                       xla::ffi::Ffi::Bind()
                           .Arg<xla::ffi::Buffer<xla::ffi::F32>>()
                           .Arg<xla::ffi::AnyBuffer>()
                           .Arg<xla::ffi::AnyBuffer>()
                           .Arg<xla::ffi::Buffer<xla::ffi::S32>>()
                           .Arg<xla::ffi::Buffer<xla::ffi::S32>>()
                           .Attr<int64_t>("sliding_window")
                           .Attr<int64_t>("instructions")
                           .Ret<xla::ffi::Buffer<xla::ffi::F32>>());

GLASS_EXPORT XLA_FFI_Error* glass_attend(XLA_FFI_CallFrame* frame) { return glass_attend_handler(frame); }

// The number of threads of a call, the caller included.
GLASS_EXPORT void glass_set_threads(int threads) { glass::Pool::get().resize(threads); }

// The best instruction set of this processor: 0 plain, 1 AVX2, 2 AVX-512, 3 AMX.
GLASS_EXPORT int glass_instructions() { return glass::best_instructions(); }
