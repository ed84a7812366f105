/* The default policy's model, hierarchical.py, over the memory of its arrays: one request and one outcome.
 *
 * Equation numbers are those of hierarchical.py. Vectors that x is multiplied with are padded with zeros to `width`.
 */

struct symmetric {
    void (*multiply_by)(const double *matrix, long d, long width, const double *x, double *out);
    void (*add_square)(double *matrix, long d, long width, double factor, const double *v);
    double (*inner)(const double *a, const double *b, long width);
};

#define BYTES 16
#define FN(name) name##_16
#define TARGET
#include "_symmetric.h"
#undef BYTES
#undef FN
#undef TARGET
#if defined(__x86_64__)
#define BYTES 32
#define FN(name) name##_32
#define TARGET __attribute__((target("avx2,fma")))
#include "_symmetric.h"
#undef BYTES
#undef FN
#undef TARGET
#define BYTES 64
#define FN(name) name##_64
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,fma")))
#include "_symmetric.h"
#undef BYTES
#undef FN
#undef TARGET
#endif

/* The vectors that `choose` has chosen. */
static const struct symmetric *chosen_symmetric(void)
{
#if defined(__x86_64__)
    if (chosen[0] == &table_f64_64)
        return &symmetric_64;
    if (chosen[0] == &table_f64_32)
        return &symmetric_32;
#endif
    return &symmetric_16;
}

enum part { INVERSE, THETA, SHARED_INVERSE, SHARED_THETA, PRECISION, GRAM, MOMENT, CENTRE, COST_INVERSE, SQUARE,
            COUNT, COSTS, LOUDNESS, LOW, HIGH, LOSS, TOTAL, PARTS };

typedef struct {
    PyObject_HEAD
    Py_buffer part[PARTS];
    const struct symmetric *kernels;
    long n_arms, dim, width, channels;
} Hierarchy;

static void Hierarchy_dealloc(Hierarchy *self)
{
    for (int i = 0; i < PARTS; i++)
        if (self->part[i].obj)
            PyBuffer_Release(&self->part[i]);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Hierarchy_init(Hierarchy *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"arrays", "n_arms", "dim", "channels", NULL};
    PyObject *arrays;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!lll", names, &PyTuple_Type, &arrays, &self->n_arms, &self->dim,
                                     &self->channels))
        return -1;
    const long arms = self->n_arms, d = self->dim, rows = self->channels + 1, width = (d + 7) / 8 * 8;
    if (self->part[0].obj || PyTuple_GET_SIZE(arrays) != PARTS || arms < 1 || d < 1 || width > MAX_DIM || rows < 2 ||
        rows > MAX_CHANNELS) {
        PyErr_SetString(PyExc_ValueError, "a tuple of 17 arrays, n_arms, dim and channels expected, once");
        return -1;
    }
    self->width = width;
    self->kernels = chosen_symmetric();
    const long items[PARTS] = {
        arms * d * width, arms * rows * width, d * width, width, arms * width, arms * d * width, arms * rows * width,
        arms * rows * width, rows > 2 ? arms * d * width : 0, arms, arms, arms * 3 * (rows - 2), arms, d, d, 1, 1};
    for (int i = 0; i < PARTS; i++) {
        Py_buffer *view = &self->part[i];
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, i), view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
            return -1;
        if (!view->format || strcmp(view->format, "d") || view->len != items[i] * (long)sizeof(double)) {
            PyErr_Format(PyExc_ValueError, "array %d must hold %ld float64 numbers", i, items[i]);
            return -1;
        }
    }
    return 0;
}

static inline double *of(Hierarchy *self, enum part part, long arm, long size)
{
    return (double *)self->part[part].buf + arm * size;
}

static inline double dot(Hierarchy *self, const double *a, const double *b)
{
    return self->kernels->inner(a, b, self->width);
}

/* The context behind a leading 1, zero-padded. */
static int level_and(PyObject *context, Hierarchy *self, double *x)
{
    x[0] = 1;
    return vector(context, "x", self->dim - 1, self->width - 1, x + 1);
}

static double noise_of(Hierarchy *self)
{
    return *of(self, LOSS, 0, 0) / (*of(self, TOTAL, 0, 0) + 1);
}

/* Mean over all arms' outcomes of a cost (row 0) or of its squared innovations (row 2); 0 without any. */
static double everyone(Hierarchy *self, long row, long cost)
{
    const long costs = self->channels - 1;
    const double *all = of(self, COSTS, 0, 0) + cost;
    double sum = 0, count = 0;
    for (long a = 0; a < self->n_arms; a++, all += 3 * costs)
        sum += all[row * costs], count += all[costs];
    return count > 0 ? sum / count : 0;
}

static int metered_by_anyone(Hierarchy *self, long cost)
{
    const long costs = self->channels - 1;
    for (long a = 0; a < self->n_arms; a++)
        if (of(self, COSTS, a, 3 * costs)[costs + cost] > 0)
            return 1;
    return 0;
}

/* HierarchicalRidge.mean_costs: of an arm without a metered cost, everyone's. */
static double mean_cost(Hierarchy *self, long arm, long cost)
{
    const long costs = self->channels - 1;
    const double *own = of(self, COSTS, arm, 3 * costs) + cost;
    return own[costs] > 0 ? own[0] / own[costs] : everyone(self, 0, cost);
}

/* v = A^-1 x of the costs' regressions; returns their h. */
static double read_costs(Hierarchy *self, long arm, const double *x, double *v)
{
    const long width = self->width;
    self->kernels->multiply_by(of(self, COST_INVERSE, arm, self->dim * width), self->dim, width, x, v);
    return dot(self, x, v);
}

/* v = A^-1 x, z of (2) and the predictions of an arm's own regressions; returns h. */
static double read_arm(Hierarchy *self, long arm, const double *x, double *v, double *z, double *own)
{
    const long width = self->width, rows = self->channels + 1;
    const double *precision = of(self, PRECISION, arm, width), *theta = of(self, THETA, arm, rows * width);
    self->kernels->multiply_by(of(self, INVERSE, arm, self->dim * width), self->dim, width, x, v);
    for (long i = 0; i < width; i++)
        z[i] = precision[i] * v[i];
    for (long r = 0; r < rows; r++)
        own[r] = dot(self, theta + r * width, x);
    return dot(self, x, v);
}

/* HierarchicalRidge.odds; `scratch` holds count * (width + 3) doubles. */
static void odds(Hierarchy *self, const double *x, const int64_t *arms, long count, const double *prices,
                 const double *penalty, double temper, const double *floor, double *p, double *scratch)
{
    double v[MAX_DIM], own[MAX_CHANNELS], apart[MAX_DIM], pooled[MAX_CHANNELS];
    double *score = scratch, *spread = score + count, *doubt = spread + count, *shared = doubt + count;
    const long width = self->width, channels = self->channels, costs = channels - 1;
    long leader = 0, priced = 0;
    for (long c = 1; c < channels; c++)
        if (prices[c] != 0)
            pooled[c] = everyone(self, 2, c - 1), priced = 1;
    for (long i = 0; i < count; i++) {
        const long arm = arms ? (long)arms[i] : i;
        double *z = shared + i * width;
        spread[i] = read_arm(self, arm, x, v, z, own) * *of(self, LOUDNESS, arm, 1);
        score[i] = prices[0] * (own[0] + dot(self, z, of(self, SHARED_THETA, 0, 0))) - penalty[i];
        doubt[i] = 0;
        for (long c = 1; c < channels; c++) {
            if (prices[c] == 0)
                continue;
            const double *sums = of(self, COSTS, arm, 3 * costs) + c - 1;
            score[i] += prices[c] * (own[c] + (1 - own[channels]) * mean_cost(self, arm, c - 1));
            doubt[i] += prices[c] * prices[c] * (sums[2 * costs] + pooled[c]) / (sums[costs] + 1);
        }
        if (priced)
            doubt[i] *= read_costs(self, arm, x, v);
        leader = score[i] > score[leader] ? i : leader;
    }
    const double noise = noise_of(self), *leading = shared + leader * width;
    double total = 0, raised = 0;
    for (long i = 0; i < count; i++) {
        const double *z = shared + i * width;
        for (long j = 0; j < width; j++)
            apart[j] = z[j] - leading[j];
        self->kernels->multiply_by(of(self, SHARED_INVERSE, 0, 0), self->dim, width, apart, v);
        const double variance = noise * (spread[i] + spread[leader] + dot(self, apart, v)); /* (3) */
        const double all = prices[0] * prices[0] * (variance > 0 ? variance : 0) + doubt[i] + doubt[leader];
        const double deviation = sqrt(temper * all) + 1e-12;
        const double ahead = erfc((score[leader] - score[i]) / deviation / sqrt(2)) / 2;
        total += p[i] = ahead / (1 - ahead);
    }
    for (long i = 0; i < count; i++)
        raised += p[i] = p[i] / total > floor[i] ? p[i] / total : floor[i];
    for (long i = 0; i < count; i++)
        p[i] /= raised;
}

PyDoc_STRVAR(odds_doc, "odds(context, arms, prices, penalty, temper, floor, out)\n\nHierarchicalRidge.odds into out (len(arms),); "
                       "arms: int64, None for all.");

static PyObject *Hierarchy_odds(Hierarchy *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], prices[MAX_CHANNELS], local[STACK], *penalty, *floor, *out, *scratch = local;
    int64_t *arms = NULL;
    long count = self->n_arms;
    struct views views = {.held = 0};
    if (!enough(n, 7, "context, arms, prices, penalty, temper, floor, out") ||
        level_and(args[0], self, x) < 0 || vector(args[2], "prices", self->channels, 0, prices) < 0)
        return NULL;
    const double temper = PyFloat_AsDouble(args[4]);
    if (temper == -1.0 && PyErr_Occurred())
        return NULL;
    if (args[1] != Py_None) {
        if (!(arms = array(&views, args[1], "arms", 'q', -1, PyBUF_SIMPLE)))
            return NULL;
        count = (long)(views.buffer[0].len / 8);
        for (long i = 0; i < count; i++)
            if (arms[i] < 0 || arms[i] >= self->n_arms) {
                release(&views);
                PyErr_SetString(PyExc_IndexError, "arms must be within 0..n_arms-1");
                return NULL;
            }
    }
    if (!(penalty = array(&views, args[3], "penalty", 'd', count, PyBUF_SIMPLE)) ||
        !(floor = array(&views, args[5], "floor", 'd', count, PyBUF_SIMPLE)) ||
        !(out = array(&views, args[6], "out", 'd', count, PyBUF_WRITABLE)))
        return NULL;
    const size_t needed = (size_t)count * (size_t)(self->width + 3);
    if (needed > STACK && !(scratch = PyMem_RawMalloc(needed * sizeof *scratch))) {
        release(&views);
        return PyErr_NoMemory();
    }
    PyThreadState *thread = count * self->dim * self->width >= LONG_CALL ? PyEval_SaveThread() : NULL;
    odds(self, x, arms, count, prices, penalty, temper, floor, out, scratch);
    if (thread)
        PyEval_RestoreThread(thread);
    give_scratch(scratch, local);
    release(&views);
    Py_RETURN_NONE;
}

/* HierarchicalRidge._target: y and 1, an unmetered cost as its own prediction. */
static void complete(Hierarchy *self, long arm, const double *y, double weight, const double *own, double cost_own,
                     double *target)
{
    const long channels = self->channels, costs = channels - 1;
    double *sums = of(self, COSTS, arm, 3 * costs);
    target[0] = y[0], target[channels] = 1;
    for (long c = 1; c < channels; c++) {
        const double guess = own[c] + (1 - own[channels]) * mean_cost(self, arm, c - 1);
        target[c] = isnan(y[c]) ? guess : y[c];
        if (isnan(y[c]))
            continue;
        if (metered_by_anyone(self, c - 1))
            sums[2 * costs + c - 1] += weight * ((y[c] - guess) * (y[c] - guess) / (1 + cost_own));
        sums[c - 1] += weight * y[c];
        sums[costs + c - 1] += weight;
    }
}

/* The sums that everything can be solved from anew. */
static void add_sums(Hierarchy *self, long arm, const double *x, const double *target, double weight)
{
    const long d = self->dim, width = self->width, rows = self->channels + 1;
    double *low = of(self, LOW, 0, 0), *high = of(self, HIGH, 0, 0);
    for (long i = 0; i < d; i++) {
        low[i] = x[i] < low[i] ? x[i] : low[i];
        high[i] = x[i] > high[i] ? x[i] : high[i];
    }
    self->kernels->add_square(of(self, GRAM, arm, d * width), d, width, weight, x);
    for (long r = 0; r < rows; r++) {
        double *moment = of(self, MOMENT, arm, rows * width) + r * width;
        const double offset = target[r] - dot(self, of(self, CENTRE, arm, rows * width) + r * width, x);
        for (long i = 0; i < d; i++)
            moment[i] += weight * offset * x[i];
        if (r == 0)
            *of(self, SQUARE, arm, 1) += weight * offset * offset;
    }
    *of(self, COUNT, arm, 1) += weight;
}

PyDoc_STRVAR(hierarchy_learn_doc, "learn(arm, context, y, weight)\n\nFold one outcome in; returns (innovation, surprise).");

static PyObject *Hierarchy_learn(Hierarchy *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], v[MAX_DIM], w[MAX_DIM], z[MAX_DIM], pz[MAX_DIM];
    double y[MAX_CHANNELS], own[MAX_CHANNELS], target[MAX_CHANNELS];
    if (!enough(n, 4, "arm, context, y, weight"))
        return NULL;
    const long arm = PyLong_AsLong(args[0]), d = self->dim, width = self->width, rows = self->channels + 1;
    const double weight = PyFloat_AsDouble(args[3]);
    if (PyErr_Occurred() || level_and(args[1], self, x) < 0 || vector(args[2], "y", rows - 1, 0, y) < 0)
        return NULL;
    if (arm < 0 || arm >= self->n_arms) {
        PyErr_Format(PyExc_IndexError, "arm must be in 0..%ld, got %ld", self->n_arms - 1, arm);
        return NULL;
    }
    double *shared = of(self, SHARED_THETA, 0, 0), *theta = of(self, THETA, arm, rows * width);
    const double h = read_arm(self, arm, x, v, z, own);
    self->kernels->multiply_by(of(self, SHARED_INVERSE, 0, 0), d, width, z, pz);
    const double innovation = y[0] - own[0] - dot(self, z, shared);
    const double gain = weight / (1 + weight * h), shared_gain = gain / (1 + gain * dot(self, z, pz));
    const double noise = noise_of(self) * *of(self, LOUDNESS, arm, 1);
    const double cost_own = rows > 2 ? read_costs(self, arm, x, w) : 0;
    complete(self, arm, y, weight, own, cost_own, target);
    for (long i = 0; i < d; i++)
        shared[i] += shared_gain * innovation * pz[i]; /* (2) */
    const double cost_gain = weight / (1 + weight * cost_own);
    for (long r = 0; r < rows; r++) {
        const int of_cost = r && rows > 2;
        const double step = (of_cost ? cost_gain : gain) * (target[r] - own[r]), *towards = of_cost ? w : v;
        for (long i = 0; i < d; i++)
            theta[r * width + i] += step * towards[i];
    }
    self->kernels->add_square(of(self, SHARED_INVERSE, 0, 0), d, width, -shared_gain, pz); /* Sherman-Morrison */
    self->kernels->add_square(of(self, INVERSE, arm, d * width), d, width, -gain, v);
    if (rows > 2)
        self->kernels->add_square(of(self, COST_INVERSE, arm, d * width), d, width, -cost_gain, w);
    add_sums(self, arm, x, target, weight);
    *of(self, LOSS, 0, 0) += shared_gain * innovation * innovation; /* R of (4) */
    *of(self, TOTAL, 0, 0) += weight;
    return Py_BuildValue("dd", innovation, innovation / sqrt(noise * weight / shared_gain));
}

static PyMethodDef Hierarchy_methods[] = {
    {"odds", (PyCFunction)(void (*)(void))Hierarchy_odds, METH_FASTCALL, odds_doc},
    {"learn", (PyCFunction)(void (*)(void))Hierarchy_learn, METH_FASTCALL, hierarchy_learn_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject HierarchyType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "bandit_router.policies._kernels.Hierarchy",
    .tp_doc = "Kernels over the memory of a HierarchicalRidge's arrays.",
    .tp_basicsize = sizeof(Hierarchy),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Hierarchy_init,
    .tp_dealloc = (destructor)Hierarchy_dealloc,
    .tp_methods = Hierarchy_methods,
};

PyDoc_STRVAR(bet_doc, "bet(bets, stakes, innovation, surprise)\n\nEvidenceThompson's bets of one arm (3, stakes) move on; "
                      "returns the largest wealth.");

static PyObject *module_bet(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    double *bets, *stakes, largest = 0;
    struct views views = {.held = 0};
    if (!enough(n, 4, "bets, stakes, innovation, surprise"))
        return NULL;
    const double innovation = PyFloat_AsDouble(args[2]), r = PyFloat_AsDouble(args[3]);
    if (PyErr_Occurred() || !(stakes = array(&views, args[1], "stakes", 'd', -1, PyBUF_SIMPLE)))
        return NULL;
    const long count = (long)(views.buffer[0].len / 8);
    if (!(bets = array(&views, args[0], "bets", 'd', 3 * count, PyBUF_WRITABLE)))
        return NULL;
    for (long i = 0; i < count; i++) {
        const double b = stakes[i], wealth = bets[i] + b * r - b * b * ((r * r + 2) / 6);
        bets[i] = wealth > 0 ? wealth : 0;
        bets[count + i] = wealth > 0 ? bets[count + i] + 1 : 0;
        bets[2 * count + i] = wealth > 0 ? bets[2 * count + i] + innovation : 0;
        largest = wealth > largest ? wealth : largest;
    }
    release(&views);
    return PyFloat_FromDouble(largest);
}
