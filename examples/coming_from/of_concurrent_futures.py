import time
from concurrent.futures import ProcessPoolExecutor, as_completed


def nap(seconds):
    time.sleep(seconds)
    return seconds


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(nap, seconds) for seconds in (0.1, 4.0)]
        try:
            for future in as_completed(futures, timeout=2):
                print("slept", future.result())
        except TimeoutError:
            print("gave up")
        # And here the block waits until the long one has ended.
