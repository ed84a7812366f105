/* Ridge kernels for one precision and one vector width; _kernels.c includes this once for each.
 *
 * REAL        element type of the packed inverse
 * BYTES       width of a vector
 * FN(name)    the name made unique for this inclusion
 *
 * P is the lower half of the symmetric A^-1 by rows: (0,0) (1,0) (1,1) (2,0) ..., zero-padded to whole 64-byte lines,
 * so that an arm is one aligned, sequential stream of half the size. Then
 *
 *     x' P x = <packed P, z>,   z_ij = 2 x_i x_j off the diagonal, x_i^2 on it,
 *
 * where z is built once per context and read by all arms. Every arm goes through the same instructions wherever it
 * stands, so equal arms get equal bits and ties stay ties.
 */

typedef REAL FN(vector) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef double FN(doubles) __attribute__((vector_size(BYTES), aligned(sizeof(double)), may_alias));
#define LANES ((long)(BYTES / sizeof(REAL)))
#define DOUBLES ((long)(BYTES / sizeof(double)))
#define VECTOR(p) (*(const FN(vector) *)(p))
#define PAIR(p) (*(const FN(doubles) *)(p))

/* Write the next `length` elements of z; `row` and `column` say where the last call stopped. */
static void FN(outer)(const REAL *x, long dim, long *row, long *column, REAL *restrict z, long length)
{
    long k = 0;
    while (k < length && *row < dim) {
        long take = *row + 1 - *column;
        if (take > length - k)
            take = length - k;
        const REAL twice = 2 * x[*row];
        const REAL *from = x + *column;
        for (long j = 0; j < take; j++)
            z[k + j] = twice * from[j];
        k += take;
        *column += take;
        if (*column > *row) {
            z[k - 1] /= 2;
            *row += 1;
            *column = 0;
        }
    }
    for (; k < length; k++)
        z[k] = 0;
}

/* out[i] = x' P_a x of arm a = which[i], or i where `which` is NULL. Four arms at a time share the loads of z and hide
 * the latency of the additions. */
static void FN(variances)(const REAL *packed, long stride, const int64_t *which, long count, long dim, const REAL *x,
                          double *out)
{
    REAL z[CHUNK];
    long row = 0, column = 0;
    memset(out, 0, (size_t)count * sizeof *out);
    for (long start = 0; start < stride; start += CHUNK) {
        const long length = stride - start < CHUNK ? stride - start : CHUNK;
        FN(outer)(x, dim, &row, &column, z, length);
        for (long first = 0; first < count; first += 4) {
            long arm[4];
            for (long i = 0; i < 4; i++) {
                const long at = first + i < count ? first + i : count - 1;
                arm[i] = which ? (long)which[at] : at;
            }
            const REAL *p0 = packed + arm[0] * stride + start, *p1 = packed + arm[1] * stride + start;
            const REAL *p2 = packed + arm[2] * stride + start, *p3 = packed + arm[3] * stride + start;
            FN(vector) s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, t0 = {0}, t1 = {0}, t2 = {0}, t3 = {0};
            long k = 0;
            for (; k + 2 * LANES <= length; k += 2 * LANES) {
                const FN(vector) even = VECTOR(z + k), odd = VECTOR(z + k + LANES);
                s0 += VECTOR(p0 + k) * even, t0 += VECTOR(p0 + k + LANES) * odd;
                s1 += VECTOR(p1 + k) * even, t1 += VECTOR(p1 + k + LANES) * odd;
                s2 += VECTOR(p2 + k) * even, t2 += VECTOR(p2 + k + LANES) * odd;
                s3 += VECTOR(p3 + k) * even, t3 += VECTOR(p3 + k + LANES) * odd;
            }
            for (; k < length; k += LANES) {
                const FN(vector) even = VECTOR(z + k);
                s0 += VECTOR(p0 + k) * even;
                s1 += VECTOR(p1 + k) * even;
                s2 += VECTOR(p2 + k) * even;
                s3 += VECTOR(p3 + k) * even;
            }
            s0 += t0, s1 += t1, s2 += t2, s3 += t3;
            double total[4] = {0};
            for (long lane = 0; lane < LANES; lane++) {
                total[0] += s0[lane];
                total[1] += s1[lane];
                total[2] += s2[lane];
                total[3] += s3[lane];
            }
            for (long i = first; i < count && i < first + 4; i++)
                out[i] += total[i - first];
        }
    }
}

/* out[r] = <row r, x> for rows of `width` doubles, a whole number of vectors. */
static void FN(products)(const double *rows, long count, long width, const double *x, double *out)
{
    for (long r = 0; r < count; r++, rows += width) {
        FN(doubles) even = {0}, odd = {0};
        long k = 0;
        for (; k + 2 * DOUBLES <= width; k += 2 * DOUBLES) {
            even += PAIR(rows + k) * PAIR(x + k);
            odd += PAIR(rows + k + DOUBLES) * PAIR(x + k + DOUBLES);
        }
        for (; k < width; k += DOUBLES)
            even += PAIR(rows + k) * PAIR(x + k);
        even += odd;
        double total = 0;
        for (long lane = 0; lane < DOUBLES; lane++)
            total += even[lane];
        out[r] = total;
    }
}

/* v = P x for the packed P. */
static inline void FN(multiply)(const REAL *restrict packed, long dim, const REAL *restrict x, REAL *restrict v)
{
    const REAL *p = packed;
    for (long i = 0; i < dim; p += ++i) {
        const REAL xi = x[i];
        FN(vector) sums = {0};
        long j = 0;
        for (; j + LANES <= i; j += LANES) {
            const FN(vector) row = VECTOR(p + j);
            sums += row * VECTOR(x + j);
            *(FN(vector) *)(v + j) += row * xi;
        }
        REAL sum = p[i] * xi;
        for (; j < i; j++) {
            sum += p[j] * x[j];
            v[j] += p[j] * xi;
        }
        for (long lane = 0; lane < LANES; lane++)
            sum += sums[lane];
        v[i] = sum;
    }
}

static double FN(dot)(const REAL *a, const REAL *b, long length)
{
    FN(vector) sums = {0};
    double total = 0;
    long k = 0;
    for (; k + LANES <= length; k += LANES)
        sums += VECTOR(a + k) * VECTOR(b + k);
    for (; k < length; k++)
        total += a[k] * b[k];
    for (long lane = 0; lane < LANES; lane++)
        total += sums[lane];
    return total;
}

/* Whether v = P x can come of a positive definite P: |P x|^2 <= trace(P) x.P x. In double precision, x.P x >= 0 does. */
static int FN(plausible)(const REAL *packed, const REAL *v, long dim, double variance)
{
    double trace = 0;
    if (sizeof(REAL) == 8 || !(variance >= 0))
        return variance >= 0;
    for (long i = 0; i < dim; packed += ++i)
        trace += packed[i];
    return FN(dot)(v, v, dim) <= SLACK * trace * variance;
}

/* Lift the diagonal until rounding no longer shows: a negative eigenvalue of P grows with every fold. Returns x.P x. */
static double FN(lift)(REAL *packed, const REAL *x, REAL *v, long dim, double variance)
{
    const double square = FN(dot)(x, x, dim);
    double lift = 0;
    REAL *p = packed;
    for (long i = 0; i < dim; p += ++i)
        lift += fabs((double)p[i]) * 16 * (sizeof(REAL) == 4 ? FLT_EPSILON : DBL_EPSILON);
    for (int tries = 0; tries < 64 && !FN(plausible)(packed, v, dim, variance); tries++, lift *= 4) {
        p = packed;
        for (long i = 0; i < dim; p += ++i) {
            p[i] += (REAL)lift;
            v[i] += (REAL)lift * x[i];
        }
        variance += lift * square;
    }
    return variance;
}

/* Fold one observation into an arm by Sherman-Morrison; NaN channels stay as they are. Returns 1 after a repair. */
static int FN(fold)(REAL *restrict packed, double *theta, long dim, long width, long channels, const double *x,
                    const double *y, double weight)
{
    REAL xs[MAX_DIM], v[MAX_DIM];
    for (long i = 0; i < dim; i++)
        xs[i] = (REAL)x[i];
    FN(multiply)(packed, dim, xs, v);
    double variance = FN(dot)(xs, v, dim);
    const int repaired = !FN(plausible)(packed, v, dim, variance);
    if (repaired)
        variance = FN(lift)(packed, xs, v, dim, variance);
    const double gain = weight / (1 + weight * variance);
    for (long c = 0; c < channels; c++, theta += width) {
        if (isnan(y[c]))
            continue;
        double predicted;
        FN(products)(theta, 1, width, x, &predicted);
        const double step = gain * (y[c] - predicted);
        for (long i = 0; i < dim; i++)
            theta[i] += step * v[i];
    }
    REAL *p = packed;
    for (long i = 0; i < dim; p += ++i) {
        const REAL factor = (REAL)gain * v[i];
        for (long j = 0; j <= i; j++)
            p[j] -= factor * v[j];
    }
    return repaired;
}

static void FN(read)(const void *packed, long stride, const int64_t *which, long count, long dim, const double *x,
                     double *out)
{
    REAL xs[MAX_DIM];
    for (long i = 0; i < dim; i++)
        xs[i] = (REAL)x[i];
    FN(variances)(packed, stride, which, count, dim, xs, out);
}

/* Whether c I - P is positive definite, by Gaussian elimination. */
static int FN(dominates)(double c, const REAL *packed, long dim)
{
    double rest[BOUND_DIM * (BOUND_DIM + 1) / 2], column[BOUND_DIM], *row = rest;
    for (long i = 0; i < dim; row += ++i, packed += i) {
        for (long j = 0; j <= i; j++)
            row[j] = -(double)packed[j];
        row[i] += c;
    }
    double *pivot = rest;
    for (long k = 0; k < dim; pivot += ++k + 1) {
        if (!(*pivot > 0))
            return 0;
        row = pivot + 1; /* the next row, from its first element on */
        for (long i = k + 1; i < dim; row += ++i) {
            column[i] = row[k];
            const double factor = row[k] / *pivot;
            for (long j = k + 1; j <= i; j++)
                row[j] -= factor * column[j];
        }
    }
    return 1;
}

/* An upper bound of the largest eigenvalue of P: the power method's estimate, proven by `dominates` or widened. */
static double FN(bound)(const void *start, long dim)
{
    const REAL *packed = start, *p = packed;
    REAL v[BOUND_DIM] = {0}, w[BOUND_DIM];
    double trace = 0, estimate = 0;
    long widest = 0;
    for (long i = 0; i < dim; p += ++i) {
        trace += p[i];
        if (p[i] > estimate)
            estimate = p[i], widest = i;
    }
    v[widest] = 1;
    for (int iteration = 0; iteration < 6 && estimate > 0; iteration++) {
        FN(multiply)(packed, dim, v, w);
        estimate = sqrt(FN(dot)(w, w, dim));
        for (long i = 0; i < dim; i++)
            v[i] = w[i] / (REAL)estimate;
    }
    for (double c = 1.1 * estimate; c < trace; c *= 1.3)
        if (FN(dominates)(c, packed, dim))
            return SLACK * c;
    return SLACK * trace;
}

/* out = P x of one arm. */
static void FN(solve)(const void *packed, long dim, const double *x, double *out)
{
    REAL xs[MAX_DIM], v[MAX_DIM];
    for (long i = 0; i < dim; i++)
        xs[i] = (REAL)x[i];
    FN(multiply)(packed, dim, xs, v);
    for (long i = 0; i < dim; i++)
        out[i] = v[i];
}

static int FN(learn)(void *packed, double *theta, long stride, long dim, long width, long channels, const double *x,
                     const double *y, double weight, double keep, double ridge, long turn)
{
    REAL *p = packed;
    int repaired = 0;
    if (keep < 1) { /* see RidgeStatistics._forget: shrink the evidence, put back one coordinate of the ridge */
        double axis[MAX_DIM] = {0}, silent[MAX_CHANNELS];
        axis[turn % dim] = 1;
        for (long c = 0; c < channels; c++)
            silent[c] = NAN;
        for (long k = 0; k < stride; k++)
            p[k] /= (REAL)keep;
        repaired = FN(fold)(p, theta, dim, width, channels, axis, silent, (1 - keep) * ridge * (double)dim);
    }
    if (sizeof(REAL) == 4) { /* see RidgeStatistics, precision */
        double square = 0;
        for (long i = 0; i < dim; i++)
            square += x[i] * x[i];
        if (square > LONGEST_32 * ridge)
            weight *= LONGEST_32 * ridge / square;
    }
    return repaired + FN(fold)(p, theta, dim, width, channels, x, y, weight);
}

static const struct kernels FN(table) = {FN(read), FN(products), FN(learn), FN(bound), FN(solve)};

#undef LANES
#undef DOUBLES
#undef VECTOR
#undef PAIR
