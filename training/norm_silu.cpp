// Group norm, optionally followed by SiLU, for bfloat16 pictures in channels-last layout,
// (N, H, W, C). Each picture is read once for its sums and once more to write the result; nothing is
// widened in memory. All sums are float32. For its purpose see bfloat16.py.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

using std::int64_t;
using std::uint16_t;
using std::uint32_t;
using Floats = std::vector<float>;

inline float widen(uint16_t x) {
    const uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

// To the nearest, ties to even.
inline uint16_t narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// 1 / (1 + 2^power) with the polynomial of Cephes' exp2f (Moshier), accurate to 2e-7: calling a
// library's exp once per register takes longer.
inline float sigmoid(float x) {
    const float power = std::fmin(std::fmax(x * -1.44269504f, -120.0f), 120.0f);
    const float whole = std::floor(power + 0.5f), part = power - whole;
    float y = 1.535336188319500e-4f;
    y = y * part + 1.339887440266574e-3f;
    y = y * part + 9.618437357674640e-3f;
    y = y * part + 5.550332471162809e-2f;
    y = y * part + 2.402264791363012e-1f;
    y = y * part + 6.931472028550421e-1f;
    y = y * part + 1.0f;
    const uint32_t bits = uint32_t(int(whole) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return 1.0f / (1.0f + y * scale);
}

// The sizes of a batch and how it is traversed: `length` values at a time, as many whole pixels as
// fill whole registers.
struct Layout {
    int64_t pixels, channels, groups, length, runs, group_size;

    Layout(int64_t pixels, int64_t channels, int64_t groups)
        : pixels(pixels), channels(channels), groups(groups), group_size(channels / groups) {
        int64_t block = 64 / std::gcd(channels, int64_t(64));
        while (pixels % block) block /= 2;
        length = block * channels;
        runs = pixels / block;
    }

    double group_count() const { return double(pixels) * group_size; }

    Floats repeated(const Floats& of_channels) const {
        Floats all(length);
        for (int64_t i = 0; i < length; ++i) all[i] = of_channels[i % channels];
        return all;
    }

    Floats folded(const Floats& sums) const {
        Floats of_channels(channels, 0.0f);
        for (int64_t i = 0; i < length; ++i) of_channels[i % channels] += sums[i];
        return of_channels;
    }
};

// The gradient at the norm's output u, given the gradient `back` after the activation.
inline float through(bool silu, float back, float u) {
    if (!silu) return back;
    const float s = sigmoid(u);
    return back * s * (1 + u * (1 - s));
}

template <bool silu>
void forward(const Layout& at, const uint16_t* x, uint16_t* y, const float* gain, const float* shift,
             float* mean, float* scale, float eps) {
    Floats sums(at.length, 0.0f), squares(at.length, 0.0f), a(at.channels), b(at.channels);
    for (int64_t run = 0; run < at.runs; ++run) {
        const uint16_t* row = x + run * at.length;
        float *s = sums.data(), *q = squares.data();
#pragma omp simd
        for (int64_t i = 0; i < at.length; ++i) {
            const float value = widen(row[i]);
            s[i] += value;
            q[i] += value * value;
        }
    }
    const Floats sum = at.folded(sums), square = at.folded(squares);
    for (int64_t group = 0; group < at.groups; ++group) {
        const int64_t first = group * at.group_size, last = first + at.group_size;
        const double middle = std::accumulate(&sum[first], &sum[0] + last, 0.0) / at.group_count();
        const double power = std::accumulate(&square[first], &square[0] + last, 0.0) / at.group_count();
        mean[group] = float(middle);
        scale[group] = float(1 / std::sqrt(std::max(power - middle * middle, 0.0) + eps));
        for (int64_t c = first; c < last; ++c) {
            a[c] = gain[c] * scale[group];
            b[c] = shift[c] - mean[group] * a[c];
        }
    }
    const Floats all_a = at.repeated(a), all_b = at.repeated(b);
    const float *pa = all_a.data(), *pb = all_b.data();
    for (int64_t run = 0; run < at.runs; ++run) {
        const uint16_t* row = x + run * at.length;
        uint16_t* out = y + run * at.length;
#pragma omp simd
        for (int64_t i = 0; i < at.length; ++i) {
            const float u = widen(row[i]) * pa[i] + pb[i];
            out[i] = narrow(silu ? u * sigmoid(u) : u);
        }
    }
}

template <bool silu>
void backward(const Layout& at, const uint16_t* x, const uint16_t* dy, uint16_t* dx, const float* gain,
              const float* shift, const float* mean, const float* scale, float* dgain, float* dshift) {
    Floats sums(at.length, 0.0f), products(at.length, 0.0f), a(at.channels), b(at.channels);
    for (int64_t c = 0; c < at.channels; ++c) {
        a[c] = gain[c] * scale[c / at.group_size];
        b[c] = shift[c] - mean[c / at.group_size] * a[c];
    }
    const Floats all_a = at.repeated(a), all_b = at.repeated(b);
    const float *pa = all_a.data(), *pb = all_b.data();
    for (int64_t run = 0; run < at.runs; ++run) {
        const uint16_t *row = x + run * at.length, *back = dy + run * at.length;
        float *s = sums.data(), *p = products.data();
#pragma omp simd
        for (int64_t i = 0; i < at.length; ++i) {
            const float value = widen(row[i]), d = through(silu, widen(back[i]), value * pa[i] + pb[i]);
            s[i] += d;
            p[i] += d * value;
        }
    }
    const Floats sum = at.folded(sums), product = at.folded(products);
    Floats k2(at.channels), k3(at.channels);
    for (int64_t group = 0; group < at.groups; ++group) {
        const int64_t first = group * at.group_size, last = first + at.group_size;
        const float r = scale[group];
        double total = 0, along = 0;
        for (int64_t c = first; c < last; ++c) {
            const float normalized = (product[c] - mean[group] * sum[c]) * r;
            dgain[c] += normalized;
            dshift[c] += sum[c];
            total += double(gain[c]) * sum[c];
            along += double(gain[c]) * normalized;
        }
        for (int64_t c = first; c < last; ++c) {
            k3[c] = float(r * r * along / at.group_count());
            k2[c] = float(r * total / at.group_count()) - k3[c] * mean[group];
        }
    }
    const Floats all_2 = at.repeated(k2), all_3 = at.repeated(k3);
    const float *p2 = all_2.data(), *p3 = all_3.data();
    for (int64_t run = 0; run < at.runs; ++run) {
        const uint16_t *row = x + run * at.length, *back = dy + run * at.length;
        uint16_t* out = dx + run * at.length;
#pragma omp simd
        for (int64_t i = 0; i < at.length; ++i) {
            const float value = widen(row[i]), d = through(silu, widen(back[i]), value * pa[i] + pb[i]);
            out[i] = narrow(pa[i] * d - p2[i] - p3[i] * value);
        }
    }
}

}  // namespace

extern "C" {

// x (input) and y (output): (n, pixels, channels). gain, shift: (channels,). mean and scale (1 over the
// standard deviation), both outputs: (n, groups).
void norm_silu(const uint16_t* x, uint16_t* y, const float* gain, const float* shift, float* mean,
               float* scale, int64_t n, int64_t pixels, int64_t channels, int64_t groups, float eps,
               int silu) {
    const Layout at(pixels, channels, groups);
    for (int64_t i = 0; i < n; ++i) {
        const int64_t start = i * pixels * channels;
        (silu ? forward<true> : forward<false>)(at, x + start, y + start, gain, shift,
                                                mean + i * groups, scale + i * groups, eps);
    }
}

// dy: the gradient of y. dx: the gradient of x, output. dgain, dshift: (channels,), accumulated.
void norm_silu_back(const uint16_t* x, const uint16_t* dy, uint16_t* dx, const float* gain,
                    const float* shift, const float* mean, const float* scale, float* dgain,
                    float* dshift, int64_t n, int64_t pixels, int64_t channels, int64_t groups,
                    int silu) {
    const Layout at(pixels, channels, groups);
    for (int64_t i = 0; i < n; ++i) {
        const int64_t start = i * pixels * channels;
        (silu ? backward<true> : backward<false>)(at, x + start, dy + start, dx + start, gain, shift,
                                                  mean + i * groups, scale + i * groups, dgain, dshift);
    }
}
}
