// 10 000 products from three threads at once, with pools of 1 to 4 threads, each compared with a plain sum. Compiled by
// `sanitize` with ThreadSanitizer and with AddressSanitizer.

#include <cstdio>
#include <cstdlib>
#include <random>

#include "../../llama_core/kernels/kernels.cc"

namespace glass {

struct Case {
  Product p{};
  std::vector<float> x, y, scales, minimums, expected;
  std::vector<uint8_t> numbers;

  explicit Case(unsigned seed) {
    std::mt19937 random(seed);
    auto up_to = [&](int most) { return int(random() % most) + 1; };
    p.format = Format(seed % 3);
    p.rows = up_to(16);
    p.outputs = up_to(300);
    p.width = p.format == Format::kBfloat16 ? up_to(200) : kGroup * up_to(12);
    p.group = p.format == Format::kInt8 && random() % 2 ? 16 : 32;
    int64_t bytes = p.width * (p.format == Format::kBfloat16 ? 2 : 1) / (p.format == Format::kInt4 ? 2 : 1);
    numbers.resize(p.outputs * bytes);
    x.resize(p.rows * p.width);
    y.resize(p.rows * p.outputs);
    for (auto& number : numbers) number = p.format == Format::kBfloat16 ? 0x3f : uint8_t(random());
    for (auto& number : x) number = float(int(random() % 201) - 100) / 100;
    if (p.format != Format::kBfloat16) {
      scales.resize(p.outputs * p.width / p.group);
      for (auto& scale : scales) scale = float(random() % 100) / 1000;
      p.scales = scales.data();
      if (p.format == Format::kInt4 || random() % 2) {
        minimums.assign(scales.rbegin(), scales.rend());
        p.minimums = minimums.data();
      }
    }
    p.x = x.data();
    p.y = y.data();
    p.numbers = numbers.data();
    expect(bytes);
  }

  void expect(int64_t bytes) {
    for (int64_t row = 0; row < p.rows; ++row)
      for (int64_t output = 0; output < p.outputs; ++output) {
        double sum = 0;
        for (int64_t i = 0; i < p.width; ++i) sum += double(weight(output, i, bytes)) * x[row * p.width + i];
        expected.push_back(float(sum));
      }
  }

  float weight(int64_t output, int64_t i, int64_t bytes) const {
    const uint8_t* row = numbers.data() + output * bytes;
    if (p.format == Format::kBfloat16) return widen(0x3f3f);
    int64_t place = output * (p.width / p.group) + i / p.group;
    int q = int8_t(row[p.format == Format::kInt8 ? i : 0]);
    if (p.format == Format::kInt4) {
      uint8_t byte = row[i / 32 * 16 + i % 16];
      q = i % 32 < 16 ? byte & 15 : byte >> 4;
    }
    return q * scales[place] + (minimums.empty() ? 0 : minimums[place]);
  }

  bool check(int instructions) {
    Kernels kernels = kernels_of(instructions);
    if (kernels.product == nullptr) return true;
    std::fill(y.begin(), y.end(), -1.0f);
    run(p, kernels);
    for (size_t i = 0; i < y.size(); ++i)
      if (!(std::fabs(y[i] - expected[i]) <= 1e-3f * (1 + std::fabs(expected[i])))) return false;
    return true;
  }
};

}  // namespace glass

int main() {
  std::atomic<int> calls{0}, wrong{0};
  for (int threads : {1, 2, 3, 4}) {
    glass::Pool::get().resize(threads);
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller)
      callers.emplace_back([&, caller] {
        for (int i = 0; i < 28; ++i) {
          glass::Case one(threads * 1000 + caller * 100 + i);
          for (int call = 0; call < 30; ++call, ++calls) wrong += !one.check(call % 3);
        }
      });
    for (auto& caller : callers) caller.join();
  }
  std::printf("%d calls, %d wrong\n", calls.load(), wrong.load());
  return wrong.load() != 0;
}
