// The operations, besides matrix products, that dominate the time of a narrow transformer: attention over a dozen tokens,
// GELU, dropout, and the update of hundreds of small arrays.
//
// R windows, N tokens, H heads, W head width; qkv is [R, N, 3, H, W]. Arrays are float32 and contiguous unless a stride is
// given. Sixteen lanes are sixteen tokens or numbers; the compiler maps them to the processor's vectors.
// NaN and infinity are passed on, so that divergence is detected.
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16, MOST_TOKENS = 64, MOST_WIDTH = 128;
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t whole __attribute__((vector_size(4 * LANES)));

inline lanes load(const float *p) { lanes x; std::memcpy(&x, p, sizeof x); return x; }
inline void store(float *p, lanes x) { std::memcpy(p, &x, sizeof x); }
inline lanes all(float x) { return lanes{} + x; }

// exp by reduction to |r| <= ln(2)/2 and a polynomial (Cephes expf); relative error below 2e-7.
inline lanes exp_of(lanes x) {
    x = x < -87.0f ? all(-87.0f) : x;
    x = x > 88.0f ? all(88.0f) : x;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number, which is then in the low bits.
    const lanes shifted = x * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f;
    const lanes r = x - k * 0.693359375f + k * 2.12194440e-4f;
    lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (lanes)(((whole)shifted + 127) << 23);
}

// ---- attention: the lanes are sixteen queries, so that no sum or maximum runs across lanes ----

template <int FIXED> struct Attention {
    const int N, H, W_;
    const float scale;
    int width() const { return FIXED ? FIXED : W_; }

    // rows[w] gets entry w of up to sixteen tokens from `first` on; lanes beyond the last token are zero
    void transpose(lanes *rows, const float *x, long step, int first) const {
        const int W = width(), n = N - first < LANES ? N - first : LANES;
        float numbers[MOST_WIDTH][LANES];
        for (int w = 0; w < W; w++)
            for (int i = n; i < LANES; i++) numbers[w][i] = 0;
        for (int i = 0; i < n; i++)
            for (int w = 0; w < W; w++) numbers[w][i] = x[(first + i) * step + w];
        for (int w = 0; w < W; w++) rows[w] = load(numbers[w]);
    }

    void scatter(const lanes *rows, float *x, long step, int first) const {
        const int W = width(), n = N - first < LANES ? N - first : LANES;
        float numbers[MOST_WIDTH][LANES];
        for (int w = 0; w < W; w++) store(numbers[w], rows[w]);
        for (int i = 0; i < n; i++)
            for (int w = 0; w < W; w++) x[(first + i) * step + w] = numbers[w][i];
    }

    // out[j] = sum over w of rows[w] x[j][w]
    void products(lanes *out, const lanes *rows, const float *x, long step) const {
        const int W = width();
        for (int j = 0; j < N; j++) {
            lanes sum = {};
            for (int w = 0; w < W; w++) sum += rows[w] * x[j * step + w];
            out[j] = sum;
        }
    }

    // out[w] = sum over j of weights[j] x[j][w]
    void mix(lanes *out, const lanes *weights, const float *x, long step) const {
        const int W = width();
        for (int w = 0; w < W; w++) out[w] = lanes{};
        for (int j = 0; j < N; j++)
            for (int w = 0; w < W; w++) out[w] += weights[j] * x[j * step + w];
    }

    // x[j] += sum over the sixteen tokens i of weights[j][i] y[first + i]
    void accumulate(float *x, long step, const lanes *weights, const float *y, long y_step, int first) const {
        const int W = width(), n = N - first < LANES ? N - first : LANES;
        for (int j = 0; j < N; j++) {
            float weight[LANES], sum[MOST_WIDTH];
            store(weight, weights[j]);
            for (int w = 0; w < W; w++) sum[w] = first ? x[j * step + w] : 0.0f;
            for (int i = 0; i < n; i++)
                for (int w = 0; w < W; w++) sum[w] += weight[i] * y[(first + i) * y_step + w];
            for (int w = 0; w < W; w++) x[j * step + w] = sum[w];
        }
    }

    void softmax(lanes *p, const lanes *q, const float *k, long step) const {
        products(p, q, k, step);
        lanes maximum = p[0], total = {};
        for (int j = 1; j < N; j++) maximum = p[j] > maximum ? p[j] : maximum;
        for (int j = 0; j < N; j++) { p[j] = exp_of((p[j] - maximum) * scale); total += p[j]; }
        total = 1.0f / total;
        for (int j = 0; j < N; j++) p[j] *= total;
    }

    void forward(const float *q, float *out) const {
        const long D = (long)H * width(), step = 3 * D;
        lanes rows[MOST_WIDTH], p[MOST_TOKENS];
        for (int first = 0; first < N; first += LANES) {
            transpose(rows, q, step, first);
            softmax(p, rows, q + D, step);
            mix(rows, p, q + 2 * D, step);
            scatter(rows, out, D, first);
        }
    }

    void backward(const float *q, const float *g, float *dq) const {
        const long D = (long)H * width(), step = 3 * D;
        const float *k = q + D, *v = q + 2 * D;
        lanes rows[MOST_WIDTH], p[MOST_TOKENS], d[MOST_TOKENS];
        for (int first = 0; first < N; first += LANES) {
            transpose(rows, q, step, first);
            softmax(p, rows, k, step);
            transpose(rows, g, D, first);
            products(d, rows, v, step);
            lanes inner = {};
            for (int j = 0; j < N; j++) inner += p[j] * d[j];
            for (int j = 0; j < N; j++) d[j] = p[j] * (d[j] - inner) * scale;
            mix(rows, d, k, step);
            scatter(rows, dq, step, first);
            accumulate(dq + D, step, d, q, step, first);
            accumulate(dq + 2 * D, step, p, g, D, first);
        }
    }
};

template <int W> void forward_all(const float *qkv, float *out, long R, Attention<W> a, int threads) {
    const long D = (long)a.H * a.width(), N = a.N;
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long r = 0; r < R; r++)
        for (int h = 0; h < a.H; h++) a.forward(qkv + r * N * 3 * D + h * a.width(), out + r * N * D + h * a.width());
}

template <int W> void backward_all(const float *qkv, const float *g, float *dqkv, long R, Attention<W> a, int threads) {
    const long D = (long)a.H * a.width(), N = a.N;
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long r = 0; r < R; r++)
        for (int h = 0; h < a.H; h++) {
            const long at = r * N * 3 * D + h * a.width();
            a.backward(qkv + at, g + r * N * D + h * a.width(), dqkv + at);
        }
}

// ---- GELU x Phi(x), Phi by Abramowitz & Stegun 7.1.26: absolute error of erf below 1.5e-7 ----

inline lanes normal_cdf(lanes x, lanes &density) {
    const lanes size = (x < 0.0f ? -x : x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * size);
    density = exp_of(-size * size);
    const lanes tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * density;
    return x < 0.0f ? 0.5f * tail : 1.0f - 0.5f * tail;
}

inline lanes gelu(lanes x) { lanes density; return x * normal_cdf(x, density); }
inline lanes gelu_slope(lanes x) { lanes density; const lanes weight = normal_cdf(x, density); return weight + x * density * 0.39894228f; }

}  // namespace

// The grids' head widths are compile-time constants, so that their loops become straight vector code.
#define BY_WIDTH(call) \
    switch (W) { \
        case 4: call(4); break; \
        case 8: call(8); break; \
        case 12: call(12); break; \
        case 16: call(16); break; \
        case 24: call(24); break; \
        case 32: call(32); break; \
        case 48: call(48); break; \
        case 64: call(64); break; \
        default: call(0); \
    }

extern "C" {

void attention_forward(const float *qkv, float *out, long R, long N, long H, long W, float scale, int threads) {
#define CALL(width) forward_all<width>(qkv, out, R, Attention<width>{(int)N, (int)H, (int)W, scale}, threads)
    BY_WIDTH(CALL)
#undef CALL
}

void attention_backward(const float *qkv, const float *g, float *dqkv, long R, long N, long H, long W, float scale, int threads) {
#define CALL(width) backward_all<width>(qkv, g, dqkv, R, Attention<width>{(int)N, (int)H, (int)W, scale}, threads)
    BY_WIDTH(CALL)
#undef CALL
}

// out = base + kept x. A number is kept if its sixteen random bits reach the threshold of its copy; base may be null.
// Windows are `stride` numbers apart in the noise and `width` long.
void dropped_sum(const float *base, const float *x, const int16_t *noise, float *out, long R, long width, long stride,
                 const int16_t *thresholds, const float *scales, long per_copy, int threads) {
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long r = 0; r < R; r++) {
        const int16_t threshold = thresholds[r / per_copy], *bits = noise + r * stride;
        const float scale = scales[r / per_copy], *in = x + r * width, *base_row = base + (base ? r * width : 0);
        float *to = out + r * width;
        if (base)
            for (long i = 0; i < width; i++) to[i] = base_row[i] + (bits[i] >= threshold ? in[i] * scale : 0.0f);
        else
            for (long i = 0; i < width; i++) to[i] = bits[i] >= threshold ? in[i] * scale : 0.0f;
    }
}

// out = gelu(x), or g times its slope if a gradient g is given.
void gelu_all(const float *x, const float *g, float *out, long n, int threads) {
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i <= n - LANES; i += LANES)
        store(out + i, g ? load(g + i) * gelu_slope(load(x + i)) : gelu(load(x + i)));
    const long done = n / LANES * LANES, rest = sizeof(float) * (n - done);
    lanes last = {}, slope = {};
    std::memcpy(&last, x + done, rest);
    if (g) std::memcpy(&slope, g + done, rest);
    last = g ? slope * gelu_slope(last) : gelu(last);
    std::memcpy(out + done, &last, rest);
}

// Sum of the squares of all numbers of the arrays. Lanes sum at most a few thousand numbers, which a double then adds up.
double square_sum(const float *const *arrays, const long *sizes, long count, int) {
    constexpr long CHUNK = 256 * LANES;
    double sum = 0;
    for (long a = 0; a < count; a++)
        for (long first = 0; first < sizes[a]; first += CHUNK) {
            const float *x = arrays[a] + first;
            const long n = sizes[a] - first < CHUNK ? sizes[a] - first : CHUNK;
            lanes squares = {};
            long i = 0;
            for (; i <= n - LANES; i += LANES) squares += load(x + i) * load(x + i);
            for (; i < n; i++) sum += (double)x[i] * x[i];
            for (int lane = 0; lane < LANES; lane++) sum += squares[lane];
        }
    return sum;
}

// AdamW update with gradients multiplied by `clip`. `kept` is 1 - rate * decay, `size` the rate divided by the first moment's
// bias correction, `root` the square root of the second moment's bias correction.
void adamw(float *const *weights, const float *const *gradients, float *const *means, float *const *squares, const long *sizes,
           long count, float clip, float kept, float first, float second, float size, float root, float epsilon, int threads) {
    const float inverse_root = 1.0f / root, new_first = 1.0f - first, new_second = 1.0f - second;
    #pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (long a = 0; a < count; a++) {
        float *__restrict w = weights[a], *__restrict m = means[a], *__restrict v = squares[a];
        const float *__restrict gradient = gradients[a];
        for (long i = 0; i < sizes[a]; i++) {
            const float g = gradient[i] * clip;
            m[i] += (g - m[i]) * new_first;
            v[i] = v[i] * second + g * g * new_second;
            w[i] = w[i] * kept - size * m[i] / (std::sqrt(v[i]) * inverse_root + epsilon);
        }
    }
}

}
