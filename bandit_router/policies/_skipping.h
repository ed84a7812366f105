/* Greedy choices that read the widths of those arms alone that can win; included by _kernels.c.
 *
 * width^2 = x' P x <= bound |x|^2 with `bound` above the largest eigenvalue of P. An arm whose mean plus alpha times
 * sqrt(bound) |x| stays below the index of another arm is not read, and the choice is the same.
 */

#define SKIP_FROM (1 << 14) /* elements of all inverses together */
#define FIRST_READ 4        /* arms that are read before any can be skipped: as many as `variances` reads at a time */

static char *inverse_of(const Ridge *self, long arm)
{
    return (char *)self->packed.buf + arm * self->stride * self->packed.itemsize;
}

/* Whether it pays: there is enough to read, and proving a bound is cheap enough. */
static int skips(const Ridge *self)
{
    return self->n_arms * self->stride >= SKIP_FROM && self->dim <= BOUND_DIM;
}

/* An inverse only shrinks while its arm learns, so an old bound holds; renewing it as the count grows keeps it tight. */
static void renew_bound(Ridge *self, long arm)
{
    const int64_t count = ((const int64_t *)self->counts.buf)[arm];
    self->bounds[arm] = skips(self) ? self->kernels->bound(inverse_of(self, arm), self->dim) : INFINITY;
    self->due[arm] = count < self->dim ? self->dim : count + (count >> 2);
}

/* All bounds; arms that know the same, as all do at first, share one proof. */
static void renew_bounds(Ridge *self)
{
    const size_t row = (size_t)(self->stride * self->packed.itemsize);
    for (long a = 0; a < self->n_arms; a++)
        if (a && self->due[a - 1] == self->dim && !memcmp(inverse_of(self, a), inverse_of(self, a - 1), row))
            self->bounds[a] = self->bounds[a - 1], self->due[a] = self->dim;
        else
            renew_bound(self, a);
}

static double optimistic(double utility, double alpha, double variance)
{
    return utility + (variance > 0 ? alpha * sqrt(variance) : 0);
}

static void index_of_arms(Ridge *self, const double *x, const double *prices, double alpha, double *out);

/* Greedy scores of `arms` (NULL: all of them): exact wherever an arm can win, -infinity where it cannot. Widths are read
 * of the most promising arms first, then of those whose mean plus bound still reaches the best score so far.
 * `scratch` holds 4 * n_arms doubles. */
static void winning_scores(Ridge *self, const double *x, const double *prices, const double *penalty,
                           const int64_t *arms, long count, double alpha, double *score, double *scratch)
{
    double norm = 0, best = -INFINITY, *upper = scratch, *variance = upper + self->n_arms;
    int64_t *which = (int64_t *)(variance + self->n_arms), *place = which + self->n_arms;
    long found = 0;
    for (long i = 0; i < self->dim; i++)
        norm += x[i] * x[i];
    index_of_arms(self, x, prices, 0, score);
    for (long i = 0; i < count; i++) {
        const long arm = arms ? (long)arms[i] : i;
        score[i] = score[arm]; /* arms ascend, so nothing is overwritten before it is read */
        upper[i] = optimistic(score[i], alpha, norm > 0 ? self->bounds[arm] * norm : 0) - (penalty ? penalty[i] : 0);
        long j = found < FIRST_READ ? found++ : FIRST_READ;
        for (; j > 0 && upper[place[j - 1]] < upper[i]; j--)
            if (j < FIRST_READ)
                place[j] = place[j - 1];
        if (j < FIRST_READ)
            place[j] = i;
    }
    for (int rest = 0; rest < 2 && found; rest++) {
        for (long i = 0; i < found; i++)
            which[i] = arms ? arms[place[i]] : place[i];
        self->kernels->variances(self->packed.buf, self->stride, which, found, self->dim, x, variance);
        for (long i = 0; i < found; i++) {
            const long at = (long)place[i];
            score[at] = optimistic(score[at], alpha, variance[i]) - (penalty ? penalty[at] : 0);
            best = score[at] > best ? score[at] : best;
            upper[at] = -INFINITY;
        }
        found = 0;
        for (long i = 0; !rest && i < count; i++)
            if (upper[i] >= best)
                place[found++] = i;
            else if (upper[i] > -INFINITY)
                score[i] = -INFINITY;
    }
}
