// What a product is: y[N, O] = x[N, I] · W[O, I]ᵀ in float32, with W in one of three formats.

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

}  // namespace glass
