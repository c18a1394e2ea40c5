// Attention of one token to the filled part of the cache, for one instruction set: a row's heads of one key/value head.
// Included after dots.h, inside a namespace that has `Lanes`.

static inline V load_cached(const float* from) { return Lanes::load(from); }
static inline V load_cached(const uint16_t* from) { return Lanes::from_bfloat16(from); }
static inline float one_cached(const float* from) { return *from; }
static inline float one_cached(const uint16_t* from) { return widen(*from); }

// e^x for x ≤ 0, to 2 units of the last place: 2^n · e^r with |r| ≤ ln 2 / 2, and e^r as its Taylor polynomial.
static inline V exp_of(V x) {
  x = Lanes::max(Lanes::broadcast(-87.0f), x);  // in this order NaN stays NaN
  V n = Lanes::round(Lanes::mul(x, Lanes::broadcast(1.44269504088896341f)));
  V r = Lanes::fma(n, Lanes::broadcast(-0.693359375f), x);
  r = Lanes::fma(n, Lanes::broadcast(2.12194440e-4f), r);
  V sum = Lanes::broadcast(1.0f / 5040);
  for (float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    sum = Lanes::fma(sum, r, Lanes::broadcast(term));
  return Lanes::mul(sum, Lanes::power_of_two(n));
}

// The scores of a query and `count` keys, times `scale`; the largest of them.
template <class Cached>
static float scores_of(const float* q, const Cached* keys, int64_t count, int64_t E, float scale, float* scores) {
  const int64_t whole = E / Lanes::W * Lanes::W;
  float largest = -INFINITY;
  for (int64_t w = 0; w < count; ++w, keys += E) {
    V sum = Lanes::zero();
    for (int64_t e = 0; e < whole; e += Lanes::W) sum = Lanes::fma(Lanes::load(q + e), load_cached(keys + e), sum);
    float score = Lanes::sum(sum);
    for (int64_t e = whole; e < E; ++e) score += q[e] * one_cached(keys + e);
    scores[w] = score * scale;
    if (!(scores[w] <= largest)) largest = scores[w];  // NaN is the largest, and stays visible
  }
  return largest;
}

// scores → e^(score − largest); their sum.
static float exponentials(float* scores, int64_t count, float largest) {
  V total = Lanes::zero(), top = Lanes::broadcast(-largest);
  float rest = 0;
  int64_t w = 0;
  for (; w + Lanes::W <= count; w += Lanes::W) {
    V share = exp_of(Lanes::add(Lanes::load(scores + w), top));
    memcpy(scores + w, &share, sizeof share);
    total = Lanes::add(total, share);
  }
  for (; w < count; ++w) rest += scores[w] = std::exp(scores[w] - largest);
  return Lanes::sum(total) + rest;
}

// out[E] = Σ shares[w] · values[w] / total
template <class Cached>
static void mix(const float* shares, const Cached* values, int64_t count, int64_t E, float total, float* out) {
  constexpr int kTogether = 4;
  const V over = Lanes::broadcast(1.0f / total);
  int64_t e = 0;
  for (; e + kTogether * Lanes::W <= E; e += kTogether * Lanes::W) {
    V sums[kTogether];
    for (auto& sum : sums) sum = Lanes::zero();
    for (int64_t w = 0; w < count; ++w) {
      const V share = Lanes::broadcast(shares[w]);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i)
        sums[i] = Lanes::fma(share, load_cached(values + w * E + e + i * Lanes::W), sums[i]);
    }
    for (int i = 0; i < kTogether; ++i) {
      V part = Lanes::mul(sums[i], over);
      memcpy(out + e + i * Lanes::W, &part, sizeof part);
    }
  }
  for (; e + Lanes::W <= E; e += Lanes::W) {
    V sum = Lanes::zero();
    for (int64_t w = 0; w < count; ++w) sum = Lanes::fma(Lanes::broadcast(shares[w]), load_cached(values + w * E + e), sum);
    V part = Lanes::mul(sum, over);
    memcpy(out + e, &part, sizeof part);
  }
  for (; e < E; ++e) {
    float sum = 0;
    for (int64_t w = 0; w < count; ++w) sum += shares[w] * one_cached(values + w * E + e);
    out[e] = sum / total;
  }
}

template <class Cached>
static void attend_head(const Attention& a, int64_t row, int64_t kv_head) {
  static thread_local std::vector<float> scores;
  const int64_t E = a.head_dim, group = a.heads / a.kv_heads, position = a.positions[row], slot = a.cache_rows[row];
  float* out = a.out + (row * a.heads + kv_head * group) * E;
  if (position < 0 || position >= a.length || slot < 0 || slot >= a.slots) {
    memset(out, 0, group * E * sizeof(float));
    return;
  }
  const int64_t first = a.sliding_window > 0 ? std::max<int64_t>(0, position + 1 - a.sliding_window) : 0;
  const int64_t count = position + 1 - first, start = ((slot * a.kv_heads + kv_head) * a.length + first) * E;
  const Cached* keys = static_cast<const Cached*>(a.keys) + start;
  const Cached* values = static_cast<const Cached*>(a.values) + start;
  if (int64_t(scores.size()) < count) scores.resize(a.length);
  for (int64_t g = 0; g < group; ++g, out += E) {
    const float* q = a.q + (row * a.heads + kv_head * group + g) * E;
    float largest = scores_of(q, keys, count, E, a.scale, scores.data());
    mix(scores.data(), values, count, E, exponentials(scores.data(), count, largest), out);
  }
}

// The heads of one row that share a key/value head.
static void attention(const Attention& a, int64_t row, int64_t kv_head) {
  a.is_bfloat16 ? attend_head<uint16_t>(a, row, kv_head) : attend_head<float>(a, row, kv_head);
}
