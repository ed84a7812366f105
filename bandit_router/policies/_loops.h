/* Whole runs of steps in one call, the GIL released: methods of Ridge, included by _kernels.c. */

/* Whether Policy.learn would take this observation. */
static int usable(const double *y, long channels)
{
    for (long c = 0; c < channels; c++)
        if (isinf(y[c]) || (c == 0 && isnan(y[c])))
            return 0;
    return 1;
}

static int has_finite_norm(const double *x, long dim)
{
    double norm = 0;
    for (long i = 0; i < dim; i++)
        norm += x[i] * x[i];
    return isfinite(norm);
}

PyDoc_STRVAR(play_doc,
             "play(contexts, outcomes, uniforms, prices, penalty, until, rule, alpha, parameters, keep, ridge, arms, "
             "propensities)\n\nDecide, draw and learn step by step: contexts (rows, dim), outcomes (rows, n_arms, "
             "channels), uniforms (rows,); `parameters[t]` is the rule's after t steps. Fills arms and propensities "
             "(rows,). Stops after a step whose arm is set in `until` (n_arms,), and before a step that Policy.learn "
             "would refuse. Returns (steps done, repairs).");

static PyObject *Ridge_play(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM] = {0}, local[STACK], *contexts, *outcomes, *uniforms, *prices, *penalty, *parameters, *propensities;
    const char *until;
    int64_t *arms;
    struct decision how;
    struct views views = {.held = 0};
    if (!enough(n, 13, "contexts, outcomes, uniforms, prices, penalty, until, rule, alpha, parameters, keep, ridge, "
                       "arms, propensities") || read_decision(args[6], args[7], &how) < 0)
        return NULL;
    const double keep = PyFloat_AsDouble(args[9]), ridge = PyFloat_AsDouble(args[10]);
    if (PyErr_Occurred() || !(uniforms = array(&views, args[2], "uniforms", 'd', -1, PyBUF_SIMPLE)))
        return NULL;
    const Py_ssize_t rows = views.buffer[0].len / 8, table = self->n_arms * self->channels;
    if (!(contexts = array(&views, args[0], "contexts", 'd', rows * self->dim, PyBUF_SIMPLE)) ||
        !(outcomes = array(&views, args[1], "outcomes", 'd', rows * table, PyBUF_SIMPLE)) ||
        !(prices = array(&views, args[3], "prices", 'd', self->channels, PyBUF_SIMPLE)) ||
        !(penalty = array(&views, args[4], "penalty", 'd', self->n_arms, PyBUF_SIMPLE)) ||
        !(until = array(&views, args[5], "until", '?', self->n_arms, PyBUF_SIMPLE)) ||
        !(parameters = array(&views, args[8], "parameters", 'd', rows, PyBUF_SIMPLE)) ||
        !(arms = array(&views, args[11], "arms", 'q', rows, PyBUF_WRITABLE)) ||
        !(propensities = array(&views, args[12], "propensities", 'd', rows, PyBUF_WRITABLE)))
        return NULL;
    double *scratch = take_scratch(self, local), *p = scratch + (WINS_SCRATCH + 2) * self->n_arms;
    if (!scratch) {
        release(&views);
        return NULL;
    }
    Py_ssize_t row = 0;
    long repairs = 0;
    PyThreadState *thread = PyEval_SaveThread();
    for (int stop = 0; !stop && row < rows; row++) {
        memcpy(x, contexts + row * self->dim, (size_t)self->dim * sizeof *x);
        if (!has_finite_norm(x, self->dim))
            break;
        decide(self, how, x, prices, penalty, NULL, self->n_arms, parameters[row], p, scratch);
        const long arm = draw(p, self->n_arms, 1, uniforms[row]);
        const double *y = outcomes + row * table + arm * self->channels;
        if (!usable(y, self->channels) || !(p[arm] > 0))
            break;
        arms[row] = arm;
        propensities[row] = p[arm];
        repairs += fold(self, arm, x, y, 1, keep, ridge);
        stop = until[arm];
    }
    PyEval_RestoreThread(thread);
    give_scratch(scratch, local);
    release(&views);
    return Py_BuildValue("nl", row, repairs);
}

PyDoc_STRVAR(follow_doc,
             "follow(contexts, arms, outcomes, eligible, bars, share, usable, prices, rule, alpha, parameters, keep, "
             "ridge, table, kept)\n\nDecide along a log and learn the rows with bars < p[arm] * share: contexts (rows, "
             "dim), arms and bars (rows,), outcomes (rows, channels), eligible (rows, n_arms). Row t learns only if "
             "usable[t]. Fills table (rows, n_arms) and kept (rows,). Returns (rows done, rows learned, repairs).");

static PyObject *Ridge_follow(Ridge *self, PyObject *const *args, Py_ssize_t n)
{
    double x[MAX_DIM] = {0}, local[STACK], *contexts, *outcomes, *bars, *prices, *parameters, *table;
    const char *eligible, *wanted;
    char *kept;
    const int64_t *arms;
    struct decision how;
    struct views views = {.held = 0};
    if (!enough(n, 15, "contexts, arms, outcomes, eligible, bars, share, usable, prices, rule, alpha, parameters, keep, "
                       "ridge, table, kept") || read_decision(args[8], args[9], &how) < 0)
        return NULL;
    const double share = PyFloat_AsDouble(args[5]), keep = PyFloat_AsDouble(args[11]), ridge = PyFloat_AsDouble(args[12]);
    if (PyErr_Occurred() || !(arms = array(&views, args[1], "arms", 'q', -1, PyBUF_SIMPLE)))
        return NULL;
    const Py_ssize_t rows = views.buffer[0].len / 8, n_arms = self->n_arms;
    if (!(contexts = array(&views, args[0], "contexts", 'd', rows * self->dim, PyBUF_SIMPLE)) ||
        !(outcomes = array(&views, args[2], "outcomes", 'd', rows * self->channels, PyBUF_SIMPLE)) ||
        !(eligible = array(&views, args[3], "eligible", '?', rows * n_arms, PyBUF_SIMPLE)) ||
        !(bars = array(&views, args[4], "bars", 'd', rows, PyBUF_SIMPLE)) ||
        !(wanted = array(&views, args[6], "usable", '?', rows, PyBUF_SIMPLE)) ||
        !(prices = array(&views, args[7], "prices", 'd', self->channels, PyBUF_SIMPLE)) ||
        !(parameters = array(&views, args[10], "parameters", 'd', rows, PyBUF_SIMPLE)) ||
        !(table = array(&views, args[13], "table", 'd', rows * n_arms, PyBUF_WRITABLE)) ||
        !(kept = array(&views, args[14], "kept", '?', rows, PyBUF_WRITABLE)))
        return NULL;
    double *scratch = take_scratch(self, local);
    int64_t *some = PyMem_RawMalloc((size_t)n_arms * (sizeof *some + sizeof(double)));
    double *p = (double *)(some + n_arms);
    if (!scratch || !some) {
        give_scratch(scratch, local);
        release(&views);
        return PyErr_NoMemory();
    }
    Py_ssize_t row = 0;
    long repairs = 0, learned = 0;
    PyThreadState *thread = PyEval_SaveThread();
    for (; row < rows; row++) {
        double *out = table + row * n_arms;
        long count = 0;
        for (long a = 0; a < n_arms; a++)
            if (eligible[row * n_arms + a])
                some[count++] = a;
        memcpy(x, contexts + row * self->dim, (size_t)self->dim * sizeof *x);
        const double *y = outcomes + row * self->channels;
        if (!count || !has_finite_norm(x, self->dim) || (wanted[row] && !usable(y, self->channels)) || arms[row] < 0 ||
            arms[row] >= n_arms)
            break;
        decide(self, how, x, prices, NULL, some, count, parameters[learned], p, scratch);
        memset(out, 0, (size_t)n_arms * sizeof *out);
        for (long i = 0; i < count; i++)
            out[some[i]] = p[i];
        kept[row] = bars[row] < out[arms[row]] * share;
        if (kept[row] && wanted[row]) {
            repairs += fold(self, (long)arms[row], x, y, 1, keep, ridge);
            learned++;
        }
    }
    PyEval_RestoreThread(thread);
    PyMem_RawFree(some);
    give_scratch(scratch, local);
    release(&views);
    return Py_BuildValue("nll", row, learned, repairs);
}
