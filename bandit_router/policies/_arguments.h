/* What Python hands to a kernel: arrays, vectors, counts of arguments; included by _kernels.c. */

/* Arrays of one call, released together. */
struct views {
    Py_buffer buffer[12];
    int held;
};

static void release(struct views *views)
{
    while (views->held)
        PyBuffer_Release(&views->buffer[--views->held]);
}

/* The memory of a C-contiguous array of `items` (any number if negative) of type 'd', 'q' or '?', held in `views`;
 * NULL and a Python error, with everything released, otherwise. */
static void *array(struct views *views, PyObject *object, const char *name, char type, Py_ssize_t items, int flags)
{
    Py_buffer *view = &views->buffer[views->held];
    if (PyObject_GetBuffer(object, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        release(views);
        return NULL;
    }
    views->held++;
    const char found = view->format && strlen(view->format) == 1 ? view->format[0] : 0;
    const int match = found == type || (type == 'q' && found == 'l' && view->itemsize == 8);
    if (match && (items < 0 || view->len == items * view->itemsize))
        return view->buf;
    PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous array of %zd items of type %c, got %zd bytes of type %s",
                 name, items, type, view->len, view->format ? view->format : "B");
    release(views);
    return NULL;
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
