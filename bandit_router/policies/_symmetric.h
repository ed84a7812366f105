/* Symmetric matrices of d rows, each padded with zeros to `width`, for one vector width; included once for each.
 *
 * BYTES: size of a vector; FN(name): name of a function here; TARGET: attribute that allows these instructions.
 */

typedef double FN(lanes) __attribute__((vector_size(BYTES), aligned(sizeof(double)), may_alias));
#define LANES ((long)(BYTES / sizeof(double)))
#define AT(p) (*(FN(lanes) *)(p))
#define READ(p) (*(const FN(lanes) *)(p))

/* out = matrix x as a sum of rows, so that nothing is added up across lanes; the padding of `out` comes out as 0. */
TARGET static void FN(multiply_by)(const double *matrix, long d, long width, const double *x, double *out)
{
    long j = 0;
    for (; j + 4 * LANES <= width; j += 4 * LANES) {
        FN(lanes) s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, t0 = {0}, t1 = {0}, t2 = {0}, t3 = {0};
        const double *even = matrix + j;
        long i = 0;
        for (; i + 1 < d; i += 2, even += 2 * width) {
            const double *odd = even + width;
            s0 += x[i] * READ(even), t0 += x[i + 1] * READ(odd);
            s1 += x[i] * READ(even + LANES), t1 += x[i + 1] * READ(odd + LANES);
            s2 += x[i] * READ(even + 2 * LANES), t2 += x[i + 1] * READ(odd + 2 * LANES);
            s3 += x[i] * READ(even + 3 * LANES), t3 += x[i + 1] * READ(odd + 3 * LANES);
        }
        if (i < d) {
            s0 += x[i] * READ(even), s1 += x[i] * READ(even + LANES);
            s2 += x[i] * READ(even + 2 * LANES), s3 += x[i] * READ(even + 3 * LANES);
        }
        AT(out + j) = s0 + t0, AT(out + j + LANES) = s1 + t1;
        AT(out + j + 2 * LANES) = s2 + t2, AT(out + j + 3 * LANES) = s3 + t3;
    }
    for (; j < width; j += LANES) {
        FN(lanes) s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        const double *row = matrix + j;
        long i = 0;
        for (; i + 3 < d; i += 4, row += 4 * width) {
            s0 += x[i] * READ(row), s1 += x[i + 1] * READ(row + width);
            s2 += x[i + 2] * READ(row + 2 * width), s3 += x[i + 3] * READ(row + 3 * width);
        }
        for (; i < d; i++, row += width)
            s0 += x[i] * READ(row);
        AT(out + j) = (s0 + s1) + (s2 + s3);
    }
}

/* matrix += factor * v v' */
TARGET static void FN(add_square)(double *matrix, long d, long width, double factor, const double *v)
{
    for (long i = 0; i < d; i++, matrix += width) {
        const double scaled = factor * v[i];
        for (long j = 0; j < width; j += LANES)
            AT(matrix + j) += scaled * READ(v + j);
    }
}

TARGET static double FN(inner)(const double *a, const double *b, long width)
{
    FN(lanes) sums = {0};
    double total = 0;
    for (long j = 0; j < width; j += LANES)
        sums += READ(a + j) * READ(b + j);
    for (long lane = 0; lane < LANES; lane++)
        total += sums[lane];
    return total;
}

static const struct symmetric FN(symmetric) = {FN(multiply_by), FN(add_square), FN(inner)};

#undef LANES
#undef AT
#undef READ
