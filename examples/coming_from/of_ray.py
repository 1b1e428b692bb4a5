import ray


@ray.remote
class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, by):
        self.value += by
        return self.value


if __name__ == "__main__":
    ray.init()
    counter = Counter.remote(10)
    print(ray.get([counter.add.remote(by) for by in (1, 2, 3)]))
    ray.shutdown()
