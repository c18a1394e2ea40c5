// The products of a few rows of x with the rows of W, for one instruction set. Included once for each, inside a
// namespace that has `Lanes`: a vector type V of W floats and what can be done with it.
//
// One row of W at a time (two for several rows of x), from its beginning to its end, without prefetching: on the
// processors measured memory is read fastest so. The numbers are decoded to float32 in registers.


template <int GROUP, bool MINIMUM>
struct Int8Rows {
  static constexpr int kVectors = kGroup / Lanes::W;
  static constexpr int64_t bytes(int64_t width) { return width; }
  static inline void decode(const uint8_t* numbers, int64_t group, const float* scales, const float* minimums, V* w) {
    const int8_t* q = reinterpret_cast<const int8_t*>(numbers) + group * kGroup;
    constexpr int halves = kGroup / GROUP;
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      int64_t place = group * halves + i * Lanes::W / GROUP;
      V s = Lanes::broadcast(scales[place]);
      V number = Lanes::from_int8(q + i * Lanes::W);
      w[i] = MINIMUM ? Lanes::fma(number, s, Lanes::broadcast(minimums[place])) : Lanes::mul(number, s);
    }
  }
};

struct Int4Rows {
  static constexpr int kVectors = kGroup / Lanes::W;
  static constexpr int64_t bytes(int64_t width) { return width / 2; }
  static inline void decode(const uint8_t* numbers, int64_t group, const float* scales, const float* minimums, V* w) {
    Lanes::from_nibbles(numbers + group * kGroup / 2, scales[group], minimums[group], w);
  }
};

struct Bfloat16Rows {
  static constexpr int kVectors = kGroup / Lanes::W;
  static constexpr int64_t bytes(int64_t width) { return 2 * width; }
  static inline void decode(const uint8_t* numbers, int64_t group, const float*, const float*, V* w) {
    const uint16_t* q = reinterpret_cast<const uint16_t*>(numbers) + group * kGroup;
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) w[i] = Lanes::from_bfloat16(q + i * Lanes::W);
  }
};

inline void to_floats(const void* from, bool half, int64_t offset, int64_t count, float* to) {
  if (half) {
    Lanes::from_half(static_cast<const uint16_t*>(from) + offset, count, to);
  } else {
    memcpy(to, static_cast<const float*>(from) + offset, count * sizeof(float));
  }
}

// R rows of W from `output` on times N rows of x from `row` on. `scales` and `minimums` are those of the R rows.
template <class Rows, int N, int R>
static inline void dot(const Product& p, int64_t row, int64_t output, const float* scales, const float* minimums) {
  constexpr int kVectors = Rows::kVectors;
  // Enough sums for the latency of an addition: each vector of a group has its own if there are few rows.
  constexpr int kSums = N * R >= 4 ? 1 : kVectors;
  constexpr int kTogether = N * R == 1 && kVectors < 4 ? 2 : 1;  // groups per turn
  V sums[R][N][kTogether][kSums];
  for (auto& a : sums)
    for (auto& b : a)
      for (auto& c : b)
        for (auto& d : c) d = Lanes::zero();
  const int64_t groups = p.width / kGroup, per_row = p.scales == nullptr ? 0 : p.width / p.group;
  const uint8_t* numbers = static_cast<const uint8_t*>(p.numbers) + output * Rows::bytes(p.width);
  const float* x = p.x + row * p.width;
  int64_t group = 0;
  for (; group + kTogether <= groups; group += kTogether) {
#pragma GCC unroll 2
    for (int t = 0; t < kTogether; ++t) {
      V w[R][kVectors];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        Rows::decode(numbers + r * Rows::bytes(p.width), group + t, scales + r * per_row, minimums + r * per_row, w[r]);
      }
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
#pragma GCC unroll 8
        for (int i = 0; i < kVectors; ++i) {
          V part = Lanes::load(x + n * p.width + (group + t) * kGroup + i * Lanes::W);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) sums[r][n][t][i % kSums] = Lanes::fma(w[r][i], part, sums[r][n][t][i % kSums]);
        }
      }
    }
  }
  for (; group < groups; ++group) {
    for (int r = 0; r < R; ++r) {
      V w[kVectors];
      Rows::decode(numbers + r * Rows::bytes(p.width), group, scales + r * per_row, minimums + r * per_row, w);
      for (int n = 0; n < N; ++n)
        for (int i = 0; i < kVectors; ++i)
          sums[r][n][0][0] =
              Lanes::fma(w[i], Lanes::load(x + n * p.width + group * kGroup + i * Lanes::W), sums[r][n][0][0]);
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      V sum = Lanes::zero();
      for (auto& a : sums[r][n])
        for (auto& b : a) sum = Lanes::add(sum, b);
      float total = Lanes::sum(sum);
      // What is left of a row of bfloat16 that is no whole group.
      if (std::is_same<Rows, Bfloat16Rows>::value) {
        const uint16_t* q = static_cast<const uint16_t*>(p.numbers) + (output + r) * p.width;
        for (int64_t i = groups * kGroup; i < p.width; ++i) total += widen(q[i]) * x[n * p.width + i];
      }
      p.y[(row + n) * p.outputs + output + r] = total;
    }
  }
}

template <class Rows, int R>
static inline void all_rows(const Product& p, int64_t output, const float* scales, const float* minimums) {
  int64_t row = 0;
  if (Lanes::kRegisters >= 32)
    for (; row + 8 <= p.rows; row += 8) dot<Rows, 8, R>(p, row, output, scales, minimums);
  for (; row + 4 <= p.rows; row += 4) dot<Rows, 4, R>(p, row, output, scales, minimums);
  for (; row + 2 <= p.rows; row += 2) dot<Rows, 2, R>(p, row, output, scales, minimums);
  for (; row < p.rows; ++row) dot<Rows, 1, R>(p, row, output, scales, minimums);
}

template <class Rows>
static void outputs_in(const Product& p, int64_t begin, int64_t end) {
  const int64_t per_row = p.scales == nullptr ? 0 : p.width / p.group;
  static thread_local std::vector<float> buffer;
  if (int64_t(buffer.size()) < 4 * per_row) buffer.resize(4 * per_row);
  float *scales = buffer.data(), *minimums = scales + 2 * per_row;
  const int together = p.rows >= 4 ? 2 : 1;
  for (int64_t output = begin; output < end;) {
    const int rows = output + together <= end ? together : 1;
    if (p.scales != nullptr) to_floats(p.scales, p.half_scales, output * per_row, rows * per_row, scales);
    if (p.minimums != nullptr) to_floats(p.minimums, p.half_scales, output * per_row, rows * per_row, minimums);
    rows == 2 ? all_rows<Rows, 2>(p, output, scales, minimums) : all_rows<Rows, 1>(p, output, scales, minimums);
    output += rows;
  }
}

// The outputs from `begin` to before `end`.
static void product(const Product& p, int64_t begin, int64_t end) {
  if (p.format == Format::kBfloat16) return outputs_in<Bfloat16Rows>(p, begin, end);
  if (p.format == Format::kInt4) return outputs_in<Int4Rows>(p, begin, end);
  if (p.group == 16)
    return p.minimums ? outputs_in<Int8Rows<16, true>>(p, begin, end) : outputs_in<Int8Rows<16, false>>(p, begin, end);
  return p.minimums ? outputs_in<Int8Rows<32, true>>(p, begin, end) : outputs_in<Int8Rows<32, false>>(p, begin, end);
}
