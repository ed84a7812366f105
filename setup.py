"""The compiled kernels: optional, so that an installation without a compiler falls back to NumPy."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "bandit_router.policies._kernels",
            sources=["bandit_router/policies/_kernels.c"],
            depends=["bandit_router/policies/_ridge.h"],
            extra_compile_args=[
                "-O3",
                "-fassociative-math",
                "-fno-signed-zeros",
                "-fno-trapping-math",
                "-fno-math-errno",
            ],
            optional=True,
        )
    ]
)
