"""The compiled kernels: optional, so that an installation without a compiler falls back to NumPy."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "bandit_router.policies._kernels",
            sources=["bandit_router/policies/_kernels.c"],
            depends=[
                f"bandit_router/policies/_{name}.h"
                for name in (
                    *("arguments", "dispatch", "distributions", "hierarchical", "loops"),
                    *("ridge", "skipping", "symmetric"),
                )
            ],
            extra_compile_args=["-O3", "-fno-math-errno", "-fno-trapping-math"],
            optional=True,
        )
    ]
)
