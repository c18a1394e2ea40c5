// Products of many rows by tiles (AMX): sixteen rows of 32 bfloat16 each, of which the processor multiplies two in as many
// cycles as AVX-512 needs for a sixteenth of that work. Included once, inside a namespace for these instructions.
//
// A float32 is split into two bfloat16, the nearest one and the one nearest to the rest, so that 16 bits of its mantissa
// take part; of the four products of parts the smallest is left out. Sums are in float32. Numbers below 2⁻¹²⁶ are zero.

constexpr int kTile = 16;                          // rows of a tile; each holds a group
constexpr int64_t kTileNumbers = kTile * kGroup;   // bfloat16 in it
constexpr int64_t kBlock = 2 * kTile;              // rows of x, and outputs, that are multiplied together

struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, none[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Memory of a thread that grows as needed, at an address that tiles load fast from.
struct Buffer {
  std::vector<uint16_t> numbers;
  uint16_t* at_least(int64_t count) {
    if (int64_t(numbers.size()) < count + 32) numbers.resize(count + 32);
    return reinterpret_cast<uint16_t*>((reinterpret_cast<uintptr_t>(numbers.data()) + 63) & ~uintptr_t{63});
  }
};

// The bfloat16 nearest to each number, as float32.
static inline __m512 nearest(__m512 a) {
  __m512i bits = _mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(int(0xffff0000))));
}

static inline __m512i upper_halves(__m512 a, __m512 b) {
  __m256i low = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(a), 16));
  __m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(b), 16));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// A group of float32 as two times 32 bfloat16.
static inline void split(__m512 a, __m512 b, __m512i* main, __m512i* rest) {
  __m512 near_a = nearest(a), near_b = nearest(b);
  *main = upper_halves(near_a, near_b);
  *rest = upper_halves(nearest(_mm512_sub_ps(a, near_a)), nearest(_mm512_sub_ps(b, near_b)));
}

// Sixteen rows of sixteen words of 32 bits become columns.
static inline void transpose(__m512* r) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
      r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  }
  for (int j = 0; j < 4; ++j) {
    __m512 low = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44), high = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
    __m512 low2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
    __m512 high2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
    t[j] = _mm512_shuffle_f32x4(low, low2, 0x88);
    t[4 + j] = _mm512_shuffle_f32x4(low, low2, 0xdd);
    t[8 + j] = _mm512_shuffle_f32x4(high, high2, 0x88);
    t[12 + j] = _mm512_shuffle_f32x4(high, high2, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

static inline __mmask16 first(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

// One call. `x` holds for each block of rows and each group four tiles: the main parts of the first sixteen rows and
// their rests, then those of the other sixteen; a row of a tile has two numbers of each row of x, as AMX wants them.
struct TileJob {
  Product product;
  uint16_t* x;
  int64_t groups, blocks;
  std::atomic<bool> finite{true};
};

static void pack_block(void* context, int block) {
  TileJob& job = *static_cast<TileJob*>(context);
  const Product& p = job.product;
  __mmask16 strange = 0;
  for (int64_t group = 0; group < job.groups; ++group) {
    const int64_t left = p.width - group * kGroup;
    for (int half = 0; half < 2; ++half) {
      __m512 main[16], rest[16];
      for (int r = 0; r < kTile; ++r) {
        const int64_t row = block * kBlock + half * kTile + r;
        const float* from = p.x + row * p.width + group * kGroup;
        const bool exists = row < p.rows;
        __m512 a = _mm512_maskz_loadu_ps(exists ? first(left) : 0, from);
        __m512 b = _mm512_maskz_loadu_ps(exists ? first(left - 16) : 0, from + 16);
        // Infinities and NaN, also those that rounding makes of the largest numbers.
        strange |= _mm512_fpclass_ps_mask(nearest(a), 0x99) | _mm512_fpclass_ps_mask(nearest(b), 0x99);
        strange |= _mm512_fpclass_ps_mask(a, 0x99) | _mm512_fpclass_ps_mask(b, 0x99);
        split(a, b, reinterpret_cast<__m512i*>(main + r), reinterpret_cast<__m512i*>(rest + r));
      }
      transpose(main);
      transpose(rest);
      uint16_t* to = job.x + (((block * job.groups + group) * 2 + half) * 2) * kTileNumbers;
      memcpy(to, main, sizeof main);
      memcpy(to + kTileNumbers, rest, sizeof rest);
    }
  }
  if (strange) job.finite.store(false, std::memory_order_relaxed);
}

// The outputs from `output` on as tiles: for each group the main parts of sixteen outputs, if `PARTS` is 2 their
// rests, and the same of the other sixteen.
template <class Rows, int PARTS>
static void decode_outputs(const Product& p, int64_t output, int64_t groups, uint16_t* to) {
  const int64_t per_row = p.scales == nullptr ? 0 : p.width / p.group;
  static thread_local std::vector<float> buffer;
  if (int64_t(buffer.size()) < 2 * per_row) buffer.resize(2 * per_row);
  float *scales = buffer.data(), *minimums = scales + per_row;
  for (int64_t r = 0; r < kBlock; ++r) {
    const int64_t row = output + r;
    uint16_t* place = to + r / kTile * PARTS * kTileNumbers + r % kTile * kGroup;
    const bool exists = row < p.outputs;
    if (exists && p.scales != nullptr) avx512::to_floats(p.scales, p.half_scales, row * per_row, per_row, scales);
    if (exists && p.minimums != nullptr) avx512::to_floats(p.minimums, p.half_scales, row * per_row, per_row, minimums);
    const uint8_t* numbers = static_cast<const uint8_t*>(p.numbers) + row * Rows::bytes(p.width);
    for (int64_t group = 0; group < groups; ++group, place += 2 * PARTS * kTileNumbers) {
      __m512i main = _mm512_setzero_si512(), rest = main;
      if (exists && PARTS == 1) {
        const int64_t left = p.width - group * kGroup;
        const __mmask32 mask = left >= kGroup ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
        main = _mm512_maskz_loadu_epi16(mask, numbers + 2 * group * kGroup);
      } else if (exists) {
        __m512 w[2];
        Rows::decode(numbers, group, scales, minimums, w);
        split(w[0], w[1], &main, &rest);
      }
      memcpy(place, &main, sizeof main);
      if (PARTS == 2) memcpy(place + kTileNumbers, &rest, sizeof rest);
    }
  }
}

// Thirty-two outputs times a block of rows, in tiles 0 to 3.
template <int PARTS>
static inline void multiply_block(const uint16_t* w, const uint16_t* x, int64_t groups) {
  constexpr int64_t kNext = PARTS * kTileNumbers;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t group = 0; group < groups; ++group, w += 2 * kNext, x += 4 * kTileNumbers) {
    _tile_loadd(4, w, 64);
    _tile_loadd(5, w + kNext, 64);
    _tile_loadd(6, x + kTileNumbers, 64);
    _tile_loadd(7, x + 3 * kTileNumbers, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(6, x, 64);
    _tile_loadd(7, x + 2 * kTileNumbers, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    if (PARTS == 2) {
      _tile_loadd(4, w + kTileNumbers, 64);
      _tile_loadd(5, w + kNext + kTileNumbers, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}

template <class Rows, int PARTS>
static void multiply_outputs(const TileJob& job, int64_t output) {
  static thread_local Buffer panel;
  alignas(64) float sums[4][kTile][kTile];
  const Product& p = job.product;
  uint16_t* w = panel.at_least(job.groups * 2 * PARTS * kTileNumbers);
  decode_outputs<Rows, PARTS>(p, output, job.groups, w);
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  for (int64_t block = 0; block < job.blocks; ++block) {
    multiply_block<PARTS>(w, job.x + block * job.groups * 4 * kTileNumbers, job.groups);
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int tile = 0; tile < 4; ++tile) {
      transpose(reinterpret_cast<__m512*>(sums[tile]));
      const int64_t row = block * kBlock + tile % 2 * kTile, column = output + tile / 2 * kTile;
      for (int64_t r = 0; r < kTile && row + r < p.rows; ++r) {
        _mm512_mask_storeu_ps(p.y + (row + r) * p.outputs + column, first(p.outputs - column), _mm512_load_ps(sums[tile][r]));
      }
    }
  }
  _tile_release();
}

static void do_outputs(void* context, int piece) {
  const TileJob& job = *static_cast<const TileJob*>(context);
  const Product& p = job.product;
  const int64_t output = piece * kBlock;
  if (p.format == Format::kBfloat16) return multiply_outputs<avx512::Bfloat16Rows, 1>(job, output);
  if (p.format == Format::kInt4) return multiply_outputs<avx512::Int4Rows, 2>(job, output);
  if (p.group == 16) {
    return p.minimums ? multiply_outputs<avx512::Int8Rows<16, true>, 2>(job, output)
                      : multiply_outputs<avx512::Int8Rows<16, false>, 2>(job, output);
  }
  return p.minimums ? multiply_outputs<avx512::Int8Rows<32, true>, 2>(job, output)
                    : multiply_outputs<avx512::Int8Rows<32, false>, 2>(job, output);
}

// The whole product; false, and y as it was, if x is not finite: infinity times a half that is zero would be NaN.
static bool product(const Product& p) {
  static thread_local Buffer packed;
  TileJob job;
  job.product = p;
  job.groups = (p.width + kGroup - 1) / kGroup;
  job.blocks = (p.rows + kBlock - 1) / kBlock;
  job.x = packed.at_least(job.blocks * job.groups * 4 * kTileNumbers);
  Pool::get().run(int(job.blocks), pack_block, &job);
  if (!job.finite.load(std::memory_order_relaxed)) return false;
  Pool::get().run(int((p.outputs + kBlock - 1) / kBlock), do_outputs, &job);
  return true;
}

// Whether this processor has tiles and the system lets this process use them (Documentation/arch/x86/xstate.rst of
// Linux): they are 8 KB more to save for each thread.
static bool allowed() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool has_tiles = d >> 24 & 1, has_bfloat16 = d >> 22 & 1;
  return has_tiles && has_bfloat16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
