// A few threads that help with one job at a time. A job is a number of pieces; whoever is free claims the next one from
// an atomic counter, the caller among them, so nobody waits for a thread that the system has put aside: it has claimed
// at most one piece. Two jobs at once: the second caller does its job alone.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace glass {

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  using Work = void (*)(void* context, int piece);
  static constexpr int kMostPieces = 0xffff;

  // Never destroyed: its threads may be asleep when the process ends.
  static Pool& get() {
    static Pool* pool = new Pool;
    return *pool;
  }

  // How many threads work on a job, the caller included. To be called while no job runs.
  void resize(int threads) {
    std::lock_guard<std::mutex> alone(busy_);
    for (; started_ < threads - 1; ++started_) std::thread(&Pool::help, this, started_).detach();
    helpers_.store(threads - 1, std::memory_order_seq_cst);
  }

  int threads() const { return helpers_.load(std::memory_order_relaxed) + 1; }

  void run(int pieces, Work work, void* context) {
    if (pieces <= 1 || threads() <= 1 || !busy_.try_lock()) {
      for (int piece = 0; piece < pieces; ++piece) work(context, piece);
      return;
    }
    work_ = work;
    context_ = context;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(uint64_t{++epoch_} << 32 | uint64_t(pieces) << 16, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard<std::mutex> lock(sleep_); }
      wake_.notify_all();
    }
    work_off();
    for (int turn = 0; done_.load(std::memory_order_acquire) != pieces; ++turn) {
      turn % 64 == 63 ? std::this_thread::yield() : relax();
    }
    busy_.unlock();
  }

 private:
  // Between two products of a token lie some 20 to 60 µs; waking a thread takes longer than spinning so long.
  static constexpr std::chrono::microseconds kSpin{40};

  bool has_work(int helper) const {
    uint64_t ticket = ticket_.load(std::memory_order_seq_cst);
    return (ticket & 0xffff) < (ticket >> 16 & 0xffff) && helper < helpers_.load(std::memory_order_relaxed);
  }

  // Claim and do pieces until none is left.
  void work_off() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while ((ticket & 0xffff) < (ticket >> 16 & 0xffff)) {
      // The fields of the job stay as they are until the piece that is claimed here is done.
      if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        work_(context_, int(ticket & 0xffff));
        done_.fetch_add(1, std::memory_order_release);
        ticket = ticket_.load(std::memory_order_acquire);
      }
    }
  }

  void help(int helper) {
    for (;;) {
      auto end = std::chrono::steady_clock::now() + kSpin;
      bool found = has_work(helper);
      while (!found && std::chrono::steady_clock::now() < end) {
        for (int turn = 0; turn < 16 && !found; ++turn) {
          relax();
          found = has_work(helper);
        }
      }
      if (!found) {
        std::unique_lock<std::mutex> lock(sleep_);
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return has_work(helper); });
        asleep_.fetch_sub(1, std::memory_order_seq_cst);
      }
      work_off();
    }
  }

  std::mutex busy_;  // held while a job runs
  int started_ = 0;
  uint32_t epoch_ = 0;
  Work work_ = nullptr;
  void* context_ = nullptr;
  std::atomic<int> helpers_{0};
  std::atomic<int> done_{0};
  // The job's number, how many pieces it has, how many are claimed: 32, 16 and 16 bits.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::mutex sleep_;
  std::condition_variable wake_;
};

}  // namespace glass
