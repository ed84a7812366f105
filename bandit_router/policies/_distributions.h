/* From scores to exact distributions over arms, as in distributions.py, whose functions are named at each one. */

enum rule { GREEDY, SOFTMAX, INVERSE_GAP, WINS, RULES };

#define BREAKS 13
#define NODES 12
#define REACH 8.5
#define GRID 128 /* table points per standard deviation: cubic interpolation errs by 1.4e-11 */
#define POINTS (17 * GRID + 2)
#define WINS_SCRATCH (BREAKS + 5) /* doubles per arm that win probabilities need */

static const double NORMAL_BREAKS[BREAKS] = {-8.5, -5.0, -3.5, -2.4, -1.5, -0.7, 0.0, 0.7, 1.5, 2.4, 3.5, 5.0, 8.5};
static double legendre_node[NODES + 1][NODES], legendre_weight[NODES + 1][NODES];
static double normal_cdf[POINTS], normal_pdf[POINTS];

/* Fill the tables: Gauss-Legendre nodes by Newton's method on P_n, the normal distribution from libm. */
static void tabulate(void)
{
    const double pi = 3.14159265358979323846;
    for (int n = 3; n <= NODES; n++)
        for (int i = 0; i < n; i++) {
            double x = -cos(pi * (i + 0.75) / (n + 0.5)), slope = 1;
            for (int iteration = 0; iteration < 50; iteration++) {
                double p = x, before = 1;
                for (int k = 2; k <= n; k++) {
                    const double next = ((2 * k - 1) * x * p - (k - 1) * before) / k;
                    before = p, p = next;
                }
                slope = n * (x * p - before) / (x * x - 1);
                x -= p / slope;
            }
            legendre_node[n][i] = x;
            legendre_weight[n][i] = 2 / ((1 - x * x) * slope * slope);
        }
    for (long i = 0; i < POINTS; i++) {
        const double z = (double)i / GRID - REACH;
        normal_cdf[i] = erfc(-z / sqrt(2)) / 2;
        normal_pdf[i] = exp(-z * z / 2) / sqrt(2 * pi);
    }
}

/* Distribution function and density of the standard normal for |z| < REACH, by cubic Hermite interpolation. */
static inline double normal(double z, double *density)
{
    const double position = (z + REACH) * GRID;
    const long i = (long)position;
    const double t = position - (double)i, left = (double)i / GRID - REACH, right = left + 1.0 / GRID;
    const double a = (1 + 2 * t) * (1 - t) * (1 - t), b = t * t * (3 - 2 * t);
    const double c = t * (1 - t) * (1 - t) / GRID, d = t * t * (t - 1) / GRID;
    const double pdf0 = normal_pdf[i], pdf1 = normal_pdf[i + 1];
    *density = a * pdf0 + b * pdf1 - c * left * pdf0 - d * right * pdf1;
    return a * normal_cdf[i] + b * normal_cdf[i + 1] + c * pdf0 + d * pdf1;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* distributions.gaussian_wins */
static void wins(const double *mean, double *sd, long n, double *p, double *scratch)
{
    double largest = 1, lowest = -INFINITY, narrowest = INFINITY, total = 0;
    double *m = scratch, *s = m + n, *cdf = s + n, *density = cdf + n, *breaks = density + 2 * n;
    long *arm = (long *)(density + n), k = 0, count = 0;
    for (long a = 0; a < n; a++) {
        largest = fabs(mean[a]) > largest ? fabs(mean[a]) : largest;
        largest = sd[a] > largest ? sd[a] : largest;
    }
    for (long a = 0; a < n; a++) {
        sd[a] = sd[a] > 1e-9 * largest ? sd[a] : 1e-9 * largest;
        lowest = mean[a] - REACH * sd[a] > lowest ? mean[a] - REACH * sd[a] : lowest;
    }
    for (long a = 0; a < n; a++) {
        p[a] = 0;
        if (mean[a] + REACH * sd[a] >= lowest)
            narrowest = sd[a] < narrowest ? sd[a] : narrowest, m[k] = mean[a], s[k] = sd[a], arm[k++] = a;
    }
    if (k == 1) {
        p[arm[0]] = 1;
        return;
    }
    for (long a = 0; a < k; a++)
        for (int b = 0; b < BREAKS; b++)
            if (m[a] + s[a] * NORMAL_BREAKS[b] >= lowest)
                breaks[count++] = m[a] + s[a] * NORMAL_BREAKS[b];
    qsort(breaks, (size_t)count, sizeof *breaks, ascending);
    const double cell = 0.5 * narrowest; /* finer than half of the smallest sd helps nobody */
    const double end = breaks[count - 1];
    long kept = 0;
    for (long b = 0; b < count; b++)
        if (!b || floor(breaks[b] / cell) != floor(breaks[b - 1] / cell))
            breaks[kept++] = breaks[b];
    breaks[kept - 1] = end;
    for (long a = 0; a < k; a++)
        s[a] = 1 / s[a];
    const int nodes = 48 / k > NODES ? NODES : 48 / k < 4 ? 4 : (int)(48 / k);
    for (long b = 0; b + 1 < kept; b++) {
        const double half = (breaks[b + 1] - breaks[b]) / 2, middle = (breaks[b] + breaks[b + 1]) / 2;
        for (int node = 0; node < nodes; node++) {
            const double point = middle + half * legendre_node[nodes][node];
            double before = half * legendre_weight[nodes][node], after = 1;
            for (long a = 0; a < k; a++) {
                const double z = (point - m[a]) * s[a];
                density[a] = 0;
                cdf[a] = z > 0;
                if (fabs(z) < REACH)
                    cdf[a] = normal(z, &density[a]);
            }
            for (long a = 0; a < k; a++) { /* density becomes density * product of the arms before */
                density[a] *= before * s[a];
                before *= cdf[a];
            }
            for (long a = k - 1; a >= 0; a--) {
                p[arm[a]] += density[a] * after;
                after *= cdf[a];
            }
        }
    }
    for (long a = 0; a < n; a++)
        total += p[a];
    for (long a = 0; a < n; a++)
        p[a] /= total;
}

/* Fill p from the scores of n arms; `sd` and `scratch` are read for WINS only. */
static void distribute(enum rule rule, const double *score, double *sd, long n, double parameter, double *p,
                       double *scratch)
{
    long best = 0, ties = 0;
    double total = 0;
    if (n == 1) {
        p[0] = 1;
        return;
    }
    if (rule == WINS) {
        wins(score, sd, n, p, scratch);
        return;
    }
    for (long a = 1; a < n; a++)
        best = score[a] > score[best] ? a : best;
    for (long a = 0; a < n; a++)
        ties += score[a] == score[best];
    for (long a = 0; a < n; a++) {
        if (!ties) /* the best score is NaN: so is everything, for the caller to see */
            p[a] = NAN;
        else if (rule == GREEDY) /* distributions.greedy and mix */
            p[a] = (1 - parameter) * (score[a] == score[best] ? 1.0 / (double)ties : 0) + parameter / (double)n;
        else if (rule == SOFTMAX)
            p[a] = exp((score[a] - score[best]) / parameter);
        else
            p[a] = a == best ? 0 : 1 / ((double)n + parameter * (score[best] - score[a]));
        total += p[a];
    }
    if (rule == INVERSE_GAP)
        p[best] = 1 - total;
    for (long a = 0; rule == SOFTMAX && a < n; a++)
        p[a] /= total;
}

/* distributions.draw; `step` is the distance between two numbers. */
static long draw(const double *p, long n, long step, double uniform)
{
    double total = 0, cumulative = 0;
    long last = 0;
    for (long a = 0; a < n; a++) {
        total += p[a * step];
        last = p[a * step] != 0 ? a : last;
    }
    for (long a = 0; a < n; a++) {
        cumulative += p[a * step];
        if (cumulative > uniform * total)
            return a;
    }
    return last;
}
