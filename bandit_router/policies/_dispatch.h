/* The ridge kernels for every vector width of this architecture, and the choice among them. */

#define CHUNK 2304          /* elements of z on the stack: all of it up to dim 67, in 18 KiB of the first-level cache */
#define MAX_DIM 2048        /* vectors of this length live on the stack */
#define MAX_CHANNELS 64
#define BOUND_DIM 128       /* beyond it, proving a bound costs more than it saves */
#define LONGEST_32 1e5      /* squared length over the ridge that float32 can take in full */
#define SLACK 1.01          /* above the rounding of a variance in either precision */

struct kernels {
    void (*variances)(const void *packed, long stride, const int64_t *which, long count, long dim, const double *x,
                      double *out);
    void (*products)(const double *rows, long count, long width, const double *x, double *out);
    int (*learn)(void *packed, double *theta, long stride, long dim, long width, long channels, const double *x,
                 const double *y, double weight, double keep, double ridge, long turn);
    double (*bound)(const void *packed, long dim);
    void (*solve)(const void *packed, long dim, const double *x, double *out);
};

#define FN(name) name##_f64_16
#define REAL double
#define BYTES 16
#include "_ridge.h"
#undef FN
#undef REAL
#define FN(name) name##_f32_16
#define REAL float
#include "_ridge.h"
#undef FN
#undef REAL
#undef BYTES

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define BYTES 32
#define FN(name) name##_f64_32
#define REAL double
#include "_ridge.h"
#undef FN
#undef REAL
#define FN(name) name##_f32_32
#define REAL float
#include "_ridge.h"
#undef FN
#undef REAL
#undef BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,fma")
#endif
#define BYTES 64
#define FN(name) name##_f64_64
#define REAL double
#include "_ridge.h"
#undef FN
#undef REAL
#define FN(name) name##_f32_64
#define REAL float
#include "_ridge.h"
#undef FN
#undef REAL
#undef BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* The kernels that new Ridge objects use, float64 then float32. */
static const struct kernels *chosen[2] = {&table_f64_16, &table_f32_16};

/* Choose the widest vectors of at most `bytes` that this processor has; returns what they are called. */
static const char *choose(long bytes)
{
    chosen[0] = &table_f64_16, chosen[1] = &table_f32_16;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (bytes >= 64 && fma && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        chosen[0] = &table_f64_64, chosen[1] = &table_f32_64;
        return "avx512";
    }
    if (bytes >= 32 && fma) {
        chosen[0] = &table_f64_32, chosen[1] = &table_f32_32;
        return "avx2";
    }
    return "sse2";
#elif defined(__aarch64__)
    return "neon";
#else
    return "16-byte vectors";
#endif
}
