// What the kernels are asked for. A product: y[N, O] = x[N, I] · W[O, I]ᵀ in float32, with W in one of three formats.

#pragma once

#include <cstdint>

namespace glass {

enum class Format { kBfloat16, kInt8, kInt4 };

constexpr int kGroup = 32;  // so many numbers of a row are decoded at once; a row of small numbers is whole groups

struct Product {
  Format format;
  const float* x;       // [rows, width]
  int64_t rows;         // N
  int64_t width;        // numbers of a row of x and W in memory: I, filled up to whole groups unless bfloat16
  const void* numbers;  // [outputs, width] bfloat16 or int8, or [outputs, width / 2] nibbles
  const void* scales;   // [outputs, width / group]
  const void* minimums;  // as scales, or null
  bool half_scales;     // scales and minimums are float16, else float32
  int group;            // 32, or 16 (int8 only)
  int64_t outputs;      // O
  float* y;             // [rows, outputs]
};

// Attention of one token per row to the filled part of its slot of the cache.
struct Attention {
  const float* q;  // [rows, heads, head_dim]
  int64_t rows, heads;
  const void* keys;    // [slots, kv_heads, length, head_dim] float32 or bfloat16
  const void* values;  // the same
  bool is_bfloat16;
  int64_t slots, kv_heads, length, head_dim;
  const int32_t* cache_rows;  // the slot of each row
  const int32_t* positions;   // that of its token; beyond the cache: the row takes no part, and its result is zero
  int64_t sliding_window;     // how many positions back a token looks; 0: all
  float scale;
  float* out;  // [rows, heads, head_dim]
};

}  // namespace glass
