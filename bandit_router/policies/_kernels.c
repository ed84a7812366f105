/* Compiled kernels of the linear policies: the same arithmetic as linear.py, reading half of each inverse.
 *
 * One source is compiled for every vector width and the widest that the processor has is chosen at import. The memory
 * belongs to NumPy; a Ridge object holds the buffers, so that a call parses nothing but its own arguments and
 * allocates nothing. Long calls release the GIL; as with any policy, one caller at a time may learn.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define CHUNK 2304          /* elements of z on the stack: all of it up to dim 67, in 18 KiB of the first-level cache */
#define MAX_DIM 2048        /* vectors of this length live on the stack */
#define MAX_CHANNELS 64
#define LONG_CALL (1 << 16) /* elements of the inverses read: from about 5 us on a call releases the GIL */

struct kernels {
    void (*variances)(const void *packed, long stride, long n_arms, long dim, const double *x, double *out);
    void (*products)(const double *rows, long count, long width, const double *x, double *out);
    int (*learn)(void *packed, double *theta, long stride, long dim, long width, long channels, const double *x,
                 const double *y, double weight, double keep, double ridge, long turn);
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

typedef struct {
    PyObject_HEAD
    Py_buffer packed, theta, counts;
    const struct kernels *kernels;
    long n_arms, dim, channels, stride, width;
} Ridge;

/* -- arguments --------------------------------------------------------------------------------------------------- */

/* A C-contiguous float64 buffer of that size (any size if items < 0); -1 and a Python error otherwise. */
static int acquire(PyObject *object, Py_buffer *view, const char *name, Py_ssize_t items, int flags)
{
    if (PyObject_GetBuffer(object, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    if (view->format && !strcmp(view->format, "d") && (items < 0 || view->len == items * view->itemsize))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous float64 array of %zd numbers, got %zd bytes", name, items,
                 view->len);
    PyBuffer_Release(view);
    return -1;
}

/* Copy a float64 vector argument, strided or not, to the stack, zero-padded to `padded`. */
static int vector(PyObject *object, const char *name, long length, long padded, double *out)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_STRIDES | PyBUF_FORMAT) < 0)
        return -1;
    const int match = view.ndim == 1 && view.shape[0] == length && view.format && !strcmp(view.format, "d");
    if (match) {
        const char *from = view.buf;
        for (long i = 0; i < length; i++, from += view.strides[0])
            out[i] = *(const double *)from;
        for (long i = length; i < padded; i++)
            out[i] = 0;
    }
    else
        PyErr_Format(PyExc_ValueError, "%s must be %ld float64 numbers", name, length);
    PyBuffer_Release(&view);
    return match ? 0 : -1;
}

static int enough(Py_ssize_t given, Py_ssize_t wanted, const char *signature)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "expected the arguments %s, got %zd of them", signature, given);
    return 0;
}

/* -- Ridge ------------------------------------------------------------------------------------------------------- */

static void Ridge_dealloc(Ridge *self)
{
    if (self->packed.obj)
        PyBuffer_Release(&self->packed);
    if (self->theta.obj)
        PyBuffer_Release(&self->theta);
    if (self->counts.obj)
        PyBuffer_Release(&self->counts);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

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
    return 0;
}

static void variances(Ridge *self, const double *x, double *out)
{
    self->kernels->variances(self->packed.buf, self->stride, self->n_arms, self->dim, x, out);
}

/* means[a, c] and, unless NULL, widths[a]; the GIL is released when the call is long. */
static void predict(Ridge *self, const double *x, double *means, double *widths)
{
    PyThreadState *thread = NULL;
    if (widths && self->n_arms * self->stride >= LONG_CALL)
        thread = PyEval_SaveThread();
    self->kernels->products(self->theta.buf, self->n_arms * self->channels, self->width, x, means);
    if (widths) {
        variances(self, x, widths);
        for (long a = 0; a < self->n_arms; a++)
            widths[a] = widths[a] > 0 ? sqrt(widths[a]) : 0;
    }
    if (thread)
        PyEval_RestoreThread(thread);
}

PyDoc_STRVAR(predict_doc, "predict(x, mean, width)\n\nFill mean (n_arms, channels) and width (n_arms,).");

static PyObject *Ridge_predict(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM];
    Py_buffer mean, width;
    if (!enough(n, 3, "x, mean, width") || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        acquire(args[1], &mean, "mean", self->n_arms * self->channels, PyBUF_WRITABLE) < 0)
        return NULL;
    if (acquire(args[2], &width, "width", self->n_arms, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&mean);
        return NULL;
    }
    predict(self, x, mean.buf, width.buf);
    PyBuffer_Release(&mean);
    PyBuffer_Release(&width);
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
            const double variance = alpha != 0 ? out[first + a] : 0;
            out[first + a] = utility + (variance > 0 ? alpha * sqrt(variance) : 0);
        }
    }
}

PyDoc_STRVAR(index_doc, "index(x, prices, alpha, out)\n\nFill out (n_arms,) with prices . mean + alpha * width.");

static PyObject *Ridge_index(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM], prices[MAX_CHANNELS];
    Py_buffer out;
    if (!enough(n, 4, "x, prices, alpha, out"))
        return NULL;
    const double alpha = PyFloat_AsDouble(args[2]);
    if ((alpha == -1.0 && PyErr_Occurred()) || vector(args[0], "x", self->dim, self->width, x) < 0 ||
        vector(args[1], "prices", self->channels, 0, prices) < 0 ||
        acquire(args[3], &out, "out", self->n_arms, PyBUF_WRITABLE) < 0)
        return NULL;
    PyThreadState *thread = self->n_arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
    index_of_arms(self, x, prices, alpha, out.buf);
    if (thread)
        PyEval_RestoreThread(thread);
    PyBuffer_Release(&out);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(index_many_doc, "index_many(contexts, prices, alpha, out)\n\nThe index of every row of contexts (rows, dim) "
                             "into out (rows, n_arms).");

static PyObject *Ridge_index_many(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM] = {0}, prices[MAX_CHANNELS];
    Py_buffer contexts, out;
    if (!enough(n, 4, "contexts, prices, alpha, out"))
        return NULL;
    const double alpha = PyFloat_AsDouble(args[2]);
    if ((alpha == -1.0 && PyErr_Occurred()) || vector(args[1], "prices", self->channels, 0, prices) < 0 ||
        acquire(args[0], &contexts, "contexts", -1, PyBUF_SIMPLE) < 0)
        return NULL;
    const Py_ssize_t rows = contexts.len / ((Py_ssize_t)sizeof(double) * self->dim);
    if (acquire(args[3], &out, "out", rows * self->n_arms, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&contexts);
        return NULL;
    }
    PyThreadState *thread = rows * self->n_arms * self->stride >= LONG_CALL ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t row = 0; row < rows; row++) {
        memcpy(x, (const double *)contexts.buf + row * self->dim, (size_t)self->dim * sizeof *x);
        index_of_arms(self, x, prices, alpha, (double *)out.buf + row * self->n_arms);
    }
    if (thread)
        PyEval_RestoreThread(thread);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&out);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(learn_doc, "learn(arm, x, y, weight, keep, ridge)\n\nFold one observation in, after forgetting 1 - keep. Returns how "
                        "often positive definiteness, lost to rounding, had to be restored.");

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
    char *packed = (char *)self->packed.buf + arm * self->stride * self->packed.itemsize;
    double *theta = (double *)self->theta.buf + arm * self->channels * self->width;
    int64_t *count = (int64_t *)self->counts.buf + arm;
    const int repairs = self->kernels->learn(packed, theta, self->stride, self->dim, self->width, self->channels, x,
                                             y, weight, keep, ridge, (long)*count);
    *count += 1;
    return PyLong_FromLong(repairs);
}

static PyMethodDef Ridge_methods[] = {
    {"predict", (PyCFunction)(void (*)(void))Ridge_predict, METH_FASTCALL, predict_doc},
    {"index", (PyCFunction)(void (*)(void))Ridge_index, METH_FASTCALL, index_doc},
    {"index_many", (PyCFunction)(void (*)(void))Ridge_index_many, METH_FASTCALL, index_many_doc},
    {"learn", (PyCFunction)(void (*)(void))Ridge_learn, METH_FASTCALL, learn_doc},
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

/* -- module ------------------------------------------------------------------------------------------------------ */

PyDoc_STRVAR(choose_doc, "choose(bytes)\n\nLet new Ridge objects use vectors of at most that many bytes; returns their "
                         "name. At import: the widest there are.");

static PyObject *module_choose(PyObject *Py_UNUSED(self), PyObject *limit)
{
    const long bytes = PyLong_AsLong(limit);
    return PyErr_Occurred() ? NULL : PyUnicode_FromString(choose(bytes));
}

static PyMethodDef functions[] = {
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
    PyObject *self = PyModule_Create(&module);
    if (!self || PyType_Ready(&RidgeType) < 0 || PyModule_AddStringConstant(self, "TARGET", choose(64)) < 0 ||
        PyModule_AddIntConstant(self, "MAX_DIM", MAX_DIM) < 0 ||
        PyModule_AddIntConstant(self, "MAX_CHANNELS", MAX_CHANNELS) < 0 ||
        PyModule_AddObjectRef(self, "Ridge", (PyObject *)&RidgeType) < 0)
        return NULL;
    return self;
}
