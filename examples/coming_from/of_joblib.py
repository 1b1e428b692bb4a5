import numpy as np
from joblib import Parallel, delayed


def spread(table, column):
    return float(np.ptp(table[:, column]))


if __name__ == "__main__":
    table = np.arange(3_000_000.0).reshape(-1, 3)
    print(Parallel(n_jobs=2)(delayed(spread)(table, column) for column in range(3)))
