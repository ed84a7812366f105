from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

TARGET: str
MAX_DIM: int
MAX_CHANNELS: int

def choose(bytes: int, /) -> str: ...
def draw(p: F64, uniform: float, /) -> int: ...

class Ridge:
    def __init__(self, packed: NDArray[np.floating[Any]], theta: F64, counts: NDArray[np.int64], dim: int) -> None: ...
    def predict(self, x: F64, mean: F64, width: F64, /) -> None: ...
    def predict_many(self, contexts: F64, mean: F64, width: F64, /) -> None: ...
    def index(self, x: F64, prices: F64, alpha: float, out: F64, /) -> None: ...
    def learn(self, arm: int, x: F64, y: F64, weight: float, keep: float, ridge: float, /) -> int: ...
    def probabilities(
        self,
        x: F64,
        arms: NDArray[np.intp] | None,
        prices: F64,
        penalty: F64,
        rule: int,
        alpha: float,
        parameter: float,
        out: F64,
        /,
    ) -> None: ...
    def play(self, *arguments: Any) -> tuple[int, int]: ...
    def follow(self, *arguments: Any) -> tuple[int, int, int]: ...
