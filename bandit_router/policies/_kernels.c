/* Compiled kernels of the linear policies: the same arithmetic as linear.py, reading half of each inverse.
 *
 * One source is compiled for every vector width and the widest that the processor has is chosen at import. The memory
 * belongs to NumPy; a Ridge object holds the buffers, so that a call parses nothing but its own arguments and
 * allocates nothing. Long calls release the GIL; as with any policy, one caller at a time may learn.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "_dispatch.h"
#include "_distributions.h"

#define STACK 4096          /* doubles of scratch on the stack; only a call over hundreds of arms takes more */
#define LONG_CALL (1 << 16) /* elements of the inverses read: from about 5 us on a call releases the GIL */

typedef struct {
    PyObject_HEAD
    Py_buffer packed, theta, counts;
    const struct kernels *kernels;
    long n_arms, dim, channels, stride, width;
    double *bounds; /* above the largest eigenvalue of each inverse, so that width <= sqrt(bound) * |x| */
    int64_t *due;   /* the count at which an arm's bound is renewed */
} Ridge;

#include "_arguments.h"

/* -- Ridge ------------------------------------------------------------------------------------------------------- */

static void Ridge_dealloc(Ridge *self)
{
    if (self->packed.obj)
        PyBuffer_Release(&self->packed);
    if (self->theta.obj)
        PyBuffer_Release(&self->theta);
    if (self->counts.obj)
        PyBuffer_Release(&self->counts);
    PyMem_Free(self->bounds);
    PyMem_Free(self->due);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#include "_skipping.h"

static int Ridge_init(Ridge *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"packed", "theta", "counts", "dim", NULL};
    const int flags = PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;
    PyObject *packed, *theta, *counts;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOl", names, &packed, &theta, &counts, &self->dim))
        return -1;
    if (self->packed.obj) {
        PyErr_SetString(PyExc_TypeError, "a Ridge is initialised once");
        return -1;
    }
    if (PyObject_GetBuffer(packed, &self->packed, flags) < 0 || PyObject_GetBuffer(theta, &self->theta, flags) < 0 ||
        PyObject_GetBuffer(counts, &self->counts, flags) < 0)
        return -1;
    const long dim = self->dim;
    if (dim < 1 || dim > MAX_DIM || self->packed.ndim != 2 || self->theta.ndim != 3 || self->counts.ndim != 1 ||
        (self->packed.itemsize != 8 && self->packed.itemsize != 4) || self->theta.itemsize != 8 ||
        self->counts.itemsize != 8) {
        PyErr_SetString(PyExc_ValueError, "packed (n_arms, stride) float64 or float32, theta (n_arms, channels, width) "
                                          "float64 and counts (n_arms,) int64 expected, dim in 1..2048");
        return -1;
    }
    self->n_arms = (long)self->packed.shape[0], self->stride = (long)self->packed.shape[1];
    self->channels = (long)self->theta.shape[1], self->width = (long)self->theta.shape[2];
    const long line = 64 / (long)self->packed.itemsize;
    if (self->theta.shape[0] != self->n_arms || self->counts.shape[0] != self->n_arms || self->n_arms < 1 ||
        self->channels < 1 || self->channels > MAX_CHANNELS || self->width < dim || self->width % 8 ||
        self->width > MAX_DIM || self->stride < dim * (dim + 1) / 2 || self->stride % line) {
        PyErr_SetString(PyExc_ValueError, "packed, theta, counts and dim do not fit together");
        return -1;
    }
    self->kernels = chosen[self->packed.itemsize == 4];
    self->bounds = PyMem_Calloc((size_t)self->n_arms, sizeof *self->bounds);
    self->due = PyMem_Calloc((size_t)self->n_arms, sizeof *self->due);
    if (!self->bounds || !self->due) {
        PyErr_NoMemory();
        return -1;
    }
    renew_bounds(self);
    return 0;
}

static void variances(Ridge *self, const double *x, double *out)
{
    self->kernels->variances(self->packed.buf, self->stride, NULL, self->n_arms, self->dim, x, out);
}

static void predict(Ridge *self, const double *x, double *mean, double *width)
{
    self->kernels->products(self->theta.buf, self->n_arms * self->channels, self->width, x, mean);
    variances(self, x, width);
    for (long a = 0; a < self->n_arms; a++)
        width[a] = width[a] > 0 ? sqrt(width[a]) : 0;
}

PyDoc_STRVAR(predict_doc, "predict(x, mean, width)\n\nFill mean (n_arms, channels) and width (n_arms,).");

static PyObject *Ridge_predict(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], *mean, *width;
    struct views views = {.held = 0};
    if (!enough(n, 3, "x, mean, width") || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        !(mean = array(&views, args[1], "mean", 'd', self->n_arms * self->channels, PyBUF_WRITABLE)) ||
        !(width = array(&views, args[2], "width", 'd', self->n_arms, PyBUF_WRITABLE)))
        return NULL;
    predict(self, x, mean, width);
    release(&views);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(solve_doc, "solve(x, first, out)\n\nFill out (arms, dim) with A^-1 x of that many arms from `first` on.");

static PyObject *Ridge_solve(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], *out;
    struct views views = {.held = 0};
    if (!enough(n, 3, "x, first, out") || vector(args[0], "x", self->dim, self->width, x) < 0)
        return NULL;
    const long first = PyLong_AsLong(args[1]);
    if (PyErr_Occurred() || !(out = array(&views, args[2], "out", 'd', -1, PyBUF_WRITABLE)))
        return NULL;
    const Py_ssize_t line = (Py_ssize_t)sizeof(double) * self->dim, count = views.buffer[0].len / line;
    if (first < 0 || first + count > self->n_arms || count * line != views.buffer[0].len) {
        release(&views);
        return PyErr_Format(PyExc_IndexError, "out must hold whole rows of arms in 0..%ld", self->n_arms - 1);
    }
    for (Py_ssize_t a = 0; a < count; a++)
        self->kernels->solve(inverse_of(self, first + (long)a), self->dim, x, out + a * self->dim);
    release(&views);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(predict_many_doc, "predict_many(contexts, mean, width)\n\nThe same for every row of contexts (rows, dim): "
                               "mean (rows, n_arms, channels), width (rows, n_arms).");

static PyObject *Ridge_predict_many(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM] = {0}, *contexts, *mean, *width;
    struct views views = {.held = 0};
    if (!enough(n, 3, "contexts, mean, width") ||
        !(contexts = array(&views, args[0], "contexts", 'd', -1, PyBUF_SIMPLE)))
        return NULL;
    const Py_ssize_t rows = views.buffer[0].len / ((Py_ssize_t)sizeof(double) * self->dim);
    const long arms = self->n_arms, means = arms * self->channels;
    if (!(mean = array(&views, args[1], "mean", 'd', rows * means, PyBUF_WRITABLE)) ||
        !(width = array(&views, args[2], "width", 'd', rows * arms, PyBUF_WRITABLE)))
        return NULL;
    PyThreadState *thread = rows * arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t row = 0; row < rows; row++) {
        memcpy(x, contexts + row * self->dim, (size_t)self->dim * sizeof *x);
        predict(self, x, mean + row * means, width + row * arms);
    }
    if (thread)
        PyEval_RestoreThread(thread);
    release(&views);
    Py_RETURN_NONE;
}

/* out[a] = prices . mean_a + alpha * width_a */
static void index_of_arms(Ridge *self, const double *x, const double *prices, double alpha, double *out)
{
    double means[MAX_CHANNELS];
    const long channels = self->channels, block = MAX_CHANNELS / channels;
    if (alpha != 0)
        variances(self, x, out);
    for (long first = 0; first < self->n_arms; first += block) {
        const long arms = self->n_arms - first < block ? self->n_arms - first : block;
        const double *theta = (const double *)self->theta.buf + first * channels * self->width;
        self->kernels->products(theta, arms * channels, self->width, x, means);
        for (long a = 0; a < arms; a++) {
            double utility = 0;
            for (long c = 0; c < channels; c++)
                utility += prices[c] * means[a * channels + c];
            out[first + a] = alpha != 0 ? optimistic(utility, alpha, out[first + a]) : utility;
        }
    }
}

/* A rule that turns scores into a distribution: which one, and the factor of the width. */
struct decision {
    enum rule rule;
    double alpha;
};

/* Fill p over `arms` (NULL: all of them); `scratch` holds (WINS_SCRATCH + 2) * n_arms doubles. */
static void decide(Ridge *self, struct decision how, const double *x, const double *prices, const double *penalty,
                   const int64_t *arms, long count, double parameter, double *p, double *scratch)
{
    double *score = scratch, *sd = score + self->n_arms;
    if (how.rule == GREEDY && how.alpha > 0 && skips(self)) {
        winning_scores(self, x, prices, penalty, arms, count, how.alpha, score, sd);
        distribute(GREEDY, score, NULL, count, parameter, p, NULL);
        return;
    }
    if (how.rule == WINS) {
        variances(self, x, sd);
        for (long a = 0; a < self->n_arms; a++)
            sd[a] = sd[a] > 0 ? how.alpha * sqrt(sd[a]) : 0;
    }
    index_of_arms(self, x, prices, how.rule == WINS ? 0 : how.alpha, score);
    for (long i = 0; arms && i < count; i++) /* arms ascend, so nothing is overwritten before it is read */
        score[i] = score[arms[i]];
    for (long i = 0; arms && how.rule == WINS && i < count; i++)
        sd[i] = sd[arms[i]];
    for (long i = 0; penalty && i < count; i++)
        score[i] -= penalty[i];
    distribute(how.rule, score, sd, count, parameter, p, sd + self->n_arms);
}

static double *take_scratch(Ridge *self, double *local)
{
    const size_t needed = (size_t)(WINS_SCRATCH + 3) * (size_t)self->n_arms;
    if (needed <= STACK)
        return local;
    double *scratch = PyMem_RawMalloc(needed * sizeof *scratch);
    if (!scratch)
        PyErr_NoMemory();
    return scratch;
}

static void give_scratch(double *scratch, const double *local)
{
    if (scratch != local)
        PyMem_RawFree(scratch);
}

static int read_decision(PyObject *rule, PyObject *alpha, struct decision *how)
{
    const long code = PyLong_AsLong(rule);
    how->rule = (enum rule)code;
    how->alpha = PyFloat_AsDouble(alpha);
    if (PyErr_Occurred())
        return -1;
    if (code >= 0 && code < RULES)
        return 0;
    PyErr_Format(PyExc_ValueError, "rule must be in 0..%d, got %ld", RULES - 1, code);
    return -1;
}

PyDoc_STRVAR(index_doc, "index(x, prices, alpha, out)\n\nFill out (n_arms,) with prices . mean + alpha * width.");

static PyObject *Ridge_index(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], prices[MAX_CHANNELS], *out;
    struct views views = {.held = 0};
    if (!enough(n, 4, "x, prices, alpha, out"))
        return NULL;
    const double alpha = PyFloat_AsDouble(args[2]);
    if ((alpha == -1.0 && PyErr_Occurred()) || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        vector(args[1], "prices", self->channels, 0, prices) < 0 ||
        !(out = array(&views, args[3], "out", 'd', self->n_arms, PyBUF_WRITABLE)))
        return NULL;
    PyThreadState *thread = self->n_arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
    index_of_arms(self, x, prices, alpha, out);
    if (thread)
        PyEval_RestoreThread(thread);
    release(&views);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(select_doc, "select(x, prices, alpha)\n\nThe arm with the highest index, the first of several.");

static PyObject *Ridge_select(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], prices[MAX_CHANNELS], local[STACK], *score;
    if (!enough(n, 3, "x, prices, alpha"))
        return NULL;
    const double alpha = PyFloat_AsDouble(args[2]);
    if ((alpha == -1.0 && PyErr_Occurred()) || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        vector(args[1], "prices", self->channels, 0, prices) < 0 || !(score = take_scratch(self, local)))
        return NULL;
    PyThreadState *thread = self->n_arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
    if (alpha > 0 && skips(self))
        winning_scores(self, x, prices, NULL, NULL, self->n_arms, alpha, score, score + self->n_arms);
    else
        index_of_arms(self, x, prices, alpha, score);
    if (thread)
        PyEval_RestoreThread(thread);
    long best = 0;
    for (long a = 1; a < self->n_arms; a++)
        best = score[a] > score[best] ? a : best;
    give_scratch(score, local);
    return PyLong_FromLong(best);
}

PyDoc_STRVAR(probabilities_doc,
             "probabilities(x, arms, prices, penalty, rule, alpha, parameter, out)\n\nFill out (len(arms),) with the "
             "distribution over `arms` (ascending int64, None for all) after subtracting `penalty` (len(arms),).");

static PyObject *Ridge_probabilities(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], prices[MAX_CHANNELS], local[STACK], *penalty, *out;
    int64_t *arms = NULL;
    long count = self->n_arms;
    struct decision how;
    struct views views = {.held = 0};
    if (!enough(n, 8, "x, arms, prices, penalty, rule, alpha, parameter, out") ||
        read_decision(args[4], args[5], &how) < 0 || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        vector(args[2], "prices", self->channels, 0, prices) < 0)
        return NULL;
    const double parameter = PyFloat_AsDouble(args[6]);
    if (parameter == -1.0 && PyErr_Occurred())
        return NULL;
    if (args[1] != Py_None) {
        if (!(arms = array(&views, args[1], "arms", 'q', -1, PyBUF_SIMPLE)))
            return NULL;
        count = (long)(views.buffer[0].len / 8);
        for (long i = 0; i < count; i++)
            if (arms[i] < (i ? arms[i - 1] + 1 : 0) || arms[i] >= self->n_arms) {
                release(&views);
                PyErr_SetString(PyExc_IndexError, "arms must ascend within 0..n_arms-1");
                return NULL;
            }
    }
    if (!(penalty = array(&views, args[3], "penalty", 'd', count, PyBUF_SIMPLE)) ||
        !(out = array(&views, args[7], "out", 'd', count, PyBUF_WRITABLE)))
        return NULL;
    double *scratch = take_scratch(self, local);
    if (scratch) {
        PyThreadState *thread = self->n_arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
        decide(self, how, x, prices, penalty, arms, count, parameter, out, scratch);
        if (thread)
            PyEval_RestoreThread(thread);
        give_scratch(scratch, local);
    }
    release(&views);
    return scratch ? Py_NewRef(Py_None) : NULL;
}

static int fold(Ridge *self, long arm, const double *x, const double *y, double weight, double keep, double ridge)
{
    double *theta = (double *)self->theta.buf + arm * self->channels * self->width;
    int64_t *count = (int64_t *)self->counts.buf + arm;
    const int repaired = self->kernels->learn(inverse_of(self, arm), theta, self->stride, self->dim, self->width,
                                              self->channels, x, y, weight, keep, ridge, (long)(*count)++);
    if (keep < 1)
        self->bounds[arm] = INFINITY; /* an inverse that forgets grows */
    else if (repaired || *count >= self->due[arm])
        renew_bound(self, arm);
    return repaired;
}

PyDoc_STRVAR(learn_doc, "learn(arm, x, y, weight, keep, ridge)\n\nFold one observation in, after forgetting 1 - keep. "
                        "Returns how often positive definiteness, lost to rounding, had to be restored.");

static PyObject *Ridge_learn(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], y[MAX_CHANNELS];
    if (!enough(n, 6, "arm, x, y, weight, keep, ridge"))
        return NULL;
    const long arm = PyLong_AsLong(args[0]);
    const double weight = PyFloat_AsDouble(args[3]), keep = PyFloat_AsDouble(args[4]);
    const double ridge = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred() || vector(args[1], "x", self->dim, self->width, x) < 0 ||
        vector(args[2], "y", self->channels, 0, y) < 0)
        return NULL;
    if (arm < 0 || arm >= self->n_arms) {
        PyErr_Format(PyExc_IndexError, "arm must be in 0..%ld, got %ld", self->n_arms - 1, arm);
        return NULL;
    }
    return PyLong_FromLong(fold(self, arm, x, y, weight, keep, ridge));
}

#include "_loops.h"

static PyMethodDef Ridge_methods[] = {
    {"predict", (PyCFunction)(void (*)(void))Ridge_predict, METH_FASTCALL, predict_doc},
    {"solve", (PyCFunction)(void (*)(void))Ridge_solve, METH_FASTCALL, solve_doc},
    {"index", (PyCFunction)(void (*)(void))Ridge_index, METH_FASTCALL, index_doc},
    {"predict_many", (PyCFunction)(void (*)(void))Ridge_predict_many, METH_FASTCALL, predict_many_doc},
    {"select", (PyCFunction)(void (*)(void))Ridge_select, METH_FASTCALL, select_doc},
    {"probabilities", (PyCFunction)(void (*)(void))Ridge_probabilities, METH_FASTCALL, probabilities_doc},
    {"learn", (PyCFunction)(void (*)(void))Ridge_learn, METH_FASTCALL, learn_doc},
    {"play", (PyCFunction)(void (*)(void))Ridge_play, METH_FASTCALL, play_doc},
    {"follow", (PyCFunction)(void (*)(void))Ridge_follow, METH_FASTCALL, follow_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject RidgeType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "bandit_router.policies._kernels.Ridge",
    .tp_doc = "Kernels over the memory of three arrays: packed inverses, theta, counts.",
    .tp_basicsize = sizeof(Ridge),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Ridge_init,
    .tp_dealloc = (destructor)Ridge_dealloc,
    .tp_methods = Ridge_methods,
};

#include "_hierarchical.h"

/* -- module ------------------------------------------------------------------------------------------------------ */

PyDoc_STRVAR(choose_doc, "choose(bytes)\n\nLet new Ridge objects use vectors of at most that many bytes; returns their "
                         "name. At import: the widest there are.");

static PyObject *module_choose(PyObject *Py_UNUSED(self), PyObject *limit)
{
    const long bytes = PyLong_AsLong(limit);
    return PyErr_Occurred() ? NULL : PyUnicode_FromString(choose(bytes));
}

PyDoc_STRVAR(draw_doc, "draw(p, uniform)\n\nThe arm at `uniform` on the inverse CDF of p; see distributions.draw.");

static PyObject *module_draw(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    Py_buffer p;
    if (!enough(n, 2, "p, uniform") || PyObject_GetBuffer(args[0], &p, PyBUF_STRIDES | PyBUF_FORMAT) < 0)
        return NULL;
    const double uniform = PyFloat_AsDouble(args[1]);
    long arm = -1;
    if (p.ndim == 1 && p.shape[0] && p.format && !strcmp(p.format, "d") && p.strides[0] % 8 == 0)
        arm = draw(p.buf, (long)p.shape[0], p.strides[0] / 8, uniform);
    else
        PyErr_SetString(PyExc_ValueError, "p must be a vector of float64 numbers");
    PyBuffer_Release(&p);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(arm);
}

PyDoc_STRVAR(sound_doc, "sound(values, length)\n\n"
                        "Whether values is a float64 vector of that length whose sum of squares is finite.");

static PyObject *module_sound(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    Py_buffer view;
    double squares = 0;
    if (!enough(n, 2, "values, length") || !PyObject_CheckBuffer(args[0]))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    const Py_ssize_t length = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &view, PyBUF_STRIDES | PyBUF_FORMAT) < 0)
        return NULL;
    const int match = view.ndim == 1 && view.shape[0] == length && view.format && !strcmp(view.format, "d");
    for (Py_ssize_t i = 0; match && i < length; i++) {
        const double value = *(const double *)((const char *)view.buf + i * view.strides[0]);
        squares += value * value;
    }
    PyBuffer_Release(&view);
    return PyBool_FromLong(match && isfinite(squares));
}

static PyMethodDef functions[] = {
    {"sound", (PyCFunction)(void (*)(void))module_sound, METH_FASTCALL, sound_doc},
    {"bet", (PyCFunction)(void (*)(void))module_bet, METH_FASTCALL, bet_doc},
    {"draw", (PyCFunction)(void (*)(void))module_draw, METH_FASTCALL, draw_doc},
    {"choose", module_choose, METH_O, choose_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_kernels",
    .m_doc = "Compiled kernels of the linear policies; see compiled.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__kernels(void)
{
    tabulate();
    PyObject *self = PyModule_Create(&module);
    if (!self || PyType_Ready(&RidgeType) < 0 || PyType_Ready(&HierarchyType) < 0 ||
        PyModule_AddStringConstant(self, "TARGET", choose(64)) < 0 ||
        PyModule_AddIntConstant(self, "MAX_DIM", MAX_DIM) < 0 ||
        PyModule_AddIntConstant(self, "MAX_CHANNELS", MAX_CHANNELS) < 0 ||
        PyModule_AddObjectRef(self, "Ridge", (PyObject *)&RidgeType) < 0 ||
        PyModule_AddObjectRef(self, "Hierarchy", (PyObject *)&HierarchyType) < 0)
        return NULL;
    return self;
}
