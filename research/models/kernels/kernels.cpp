// What a narrow transformer spends its time on besides matrix products: attention over a dozen tokens, GELU, dropout, and
// the update of hundreds of small arrays.
//
// R windows, N tokens, H heads, W head width; qkv is [R, N, 3, H, W]. Arrays are float32 and contiguous unless a stride is
// given. Sixteen lanes are sixteen tokens or numbers; the compiler maps them to whatever the processor has.
// NaN and infinity pass through, so that a diverged training is seen as one.
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
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, which then stands in the low bits.
    const lanes shifted = x * 1.44269504f + 12582912.0f, k = shifted - 12582912.0f;
    const lanes r = x - k * 0.693359375f + k * 2.12194440e-4f;
    lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (lanes)(((whole)shifted + 127) << 23);
}

// ---- attention: sixteen queries at a time are the lanes, so that no sum or maximum runs across them ----

template <int FIXED> struct Attention {
    const int N, H, W_;
    const float scale;
    int width() const { return FIXED ? FIXED : W_; }

    // rows[w] has number w of up to sixteen tokens from `first` on; lanes beyond the last token are zero
    void turn(lanes *rows, const float *x, long step, int first) const {
        const int W = width(), there = N - first < LANES ? N - first : LANES;
        float numbers[MOST_WIDTH][LANES];
        for (int w = 0; w < W; w++)
            for (int i = there; i < LANES; i++) numbers[w][i] = 0;
        for (int i = 0; i < there; i++)
            for (int w = 0; w < W; w++) numbers[w][i] = x[(first + i) * step + w];
        for (int w = 0; w < W; w++) rows[w] = load(numbers[w]);
    }

    void turn_back(const lanes *rows, float *x, long step, int first) const {
        const int W = width(), there = N - first < LANES ? N - first : LANES;
        float numbers[MOST_WIDTH][LANES];
        for (int w = 0; w < W; w++) store(numbers[w], rows[w]);
        for (int i = 0; i < there; i++)
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

    // out[w] = sum over j of shares[j] x[j][w]
    void mix(lanes *out, const lanes *shares, const float *x, long step) const {
        const int W = width();
        for (int w = 0; w < W; w++) out[w] = lanes{};
        for (int j = 0; j < N; j++)
            for (int w = 0; w < W; w++) out[w] += shares[j] * x[j * step + w];
    }

    // x[j] += sum over the sixteen tokens i of shares[j][i] y[first + i]
    void spread(float *x, long step, const lanes *shares, const float *y, long y_step, int first) const {
        const int W = width(), there = N - first < LANES ? N - first : LANES;
        for (int j = 0; j < N; j++) {
            float share[LANES], sum[MOST_WIDTH];
            store(share, shares[j]);
            for (int w = 0; w < W; w++) sum[w] = first ? x[j * step + w] : 0.0f;
            for (int i = 0; i < there; i++)
                for (int w = 0; w < W; w++) sum[w] += share[i] * y[(first + i) * y_step + w];
            for (int w = 0; w < W; w++) x[j * step + w] = sum[w];
        }
    }

    void shares_of(lanes *p, const lanes *q, const float *k, long step) const {
        products(p, q, k, step);
        lanes most = p[0], total = {};
        for (int j = 1; j < N; j++) most = p[j] > most ? p[j] : most;
        for (int j = 0; j < N; j++) { p[j] = exp_of((p[j] - most) * scale); total += p[j]; }
        total = 1.0f / total;
        for (int j = 0; j < N; j++) p[j] *= total;
    }

    void forward(const float *q, float *out) const {
        const long D = (long)H * width(), step = 3 * D;
        lanes turned[MOST_WIDTH], p[MOST_TOKENS];
        for (int first = 0; first < N; first += LANES) {
            turn(turned, q, step, first);
            shares_of(p, turned, q + D, step);
            mix(turned, p, q + 2 * D, step);
            turn_back(turned, out, D, first);
        }
    }

    void backward(const float *q, const float *g, float *dq) const {
        const long D = (long)H * width(), step = 3 * D;
        const float *k = q + D, *v = q + 2 * D;
        lanes turned[MOST_WIDTH], p[MOST_TOKENS], d[MOST_TOKENS];
        for (int first = 0; first < N; first += LANES) {
            turn(turned, q, step, first);
            shares_of(p, turned, k, step);
            turn(turned, g, D, first);
            products(d, turned, v, step);
            lanes inner = {};
            for (int j = 0; j < N; j++) inner += p[j] * d[j];
            for (int j = 0; j < N; j++) d[j] = p[j] * (d[j] - inner) * scale;
            mix(turned, d, k, step);
            turn_back(turned, dq, step, first);
            spread(dq + D, step, d, q, step, first);
            spread(dq + 2 * D, step, p, g, D, first);
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

inline lanes normal_share(lanes x, lanes &bell) {
    const lanes size = (x < 0.0f ? -x : x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * size);
    bell = exp_of(-size * size);
    const lanes tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * bell;
    return x < 0.0f ? 0.5f * tail : 1.0f - 0.5f * tail;
}

inline lanes gelu(lanes x) { lanes bell; return x * normal_share(x, bell); }
inline lanes gelu_slope(lanes x) { lanes bell; const lanes share = normal_share(x, bell); return share + x * bell * 0.39894228f; }

}  // namespace

// Head widths of the grids are known here, so that their loops become straight vector code.
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

// out = base + kept x, where a number is kept if its sixteen random bits reach the threshold of its copy; base may be null.
// Windows lie `stride` numbers apart in the noise and are `width` long.
void dropped_sum(const float *base, const float *x, const int16_t *noise, float *out, long R, long width, long stride,
                 const int16_t *thresholds, const float *scales, long per_copy, int threads) {
    #pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long r = 0; r < R; r++) {
        const int16_t least = thresholds[r / per_copy], *bits = noise + r * stride;
        const float scale = scales[r / per_copy], *in = x + r * width, *under = base + (base ? r * width : 0);
        float *to = out + r * width;
        if (base)
            for (long i = 0; i < width; i++) to[i] = under[i] + (bits[i] >= least ? in[i] * scale : 0.0f);
        else
            for (long i = 0; i < width; i++) to[i] = bits[i] >= least ? in[i] * scale : 0.0f;
    }
}

// out = gelu(x), or g times its slope where there is a gradient g.
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

// Sum of the squares of all numbers of some arrays; lanes hold at most a few thousand of them before a double takes over.
double square_sum(const float *const *arrays, const long *sizes, long count, int) {
    constexpr long CHUNK = 256 * LANES;
    double sum = 0;
    for (long a = 0; a < count; a++)
        for (long first = 0; first < sizes[a]; first += CHUNK) {
            const float *x = arrays[a] + first;
            const long there = sizes[a] - first < CHUNK ? sizes[a] - first : CHUNK;
            lanes squares = {};
            long i = 0;
            for (; i <= there - LANES; i += LANES) squares += load(x + i) * load(x + i);
            for (; i < there; i++) sum += (double)x[i] * x[i];
            for (int lane = 0; lane < LANES; lane++) sum += squares[lane];
        }
    return sum;
}

// AdamW of some arrays whose gradients are first multiplied by `clip`; `kept` is 1 - rate * decay, `size` is the rate over
// the first moment's bias correction, `root` the square root of the second one's.
void adamw(float *const *weights, const float *const *gradients, float *const *means, float *const *squares, const long *sizes,
           long count, float clip, float kept, float first, float second, float size, float root, float epsilon, int threads) {
    const float inverse_root = 1.0f / root, new_first = 1.0f - first, new_second = 1.0f - second;
    #pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (long a = 0; a < count; a++) {
        float *__restrict w = weights[a], *__restrict m = means[a], *__restrict v = squares[a];
        const float *__restrict given = gradients[a];
        for (long i = 0; i < sizes[a]; i++) {
            const float g = given[i] * clip;
            m[i] += (g - m[i]) * new_first;
            v[i] = v[i] * second + g * g * new_second;
            w[i] = w[i] * kept - size * m[i] / (std::sqrt(v[i]) * inverse_root + epsilon);
        }
    }
}

}
