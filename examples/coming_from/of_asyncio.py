import asyncio
from concurrent.futures import ProcessPoolExecutor


def count_primes(below):
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as executor:
        waited, primes = await asyncio.gather(
            asyncio.sleep(0.1, "waited"),
            loop.run_in_executor(executor, count_primes, 10000),
        )
    print(waited, primes)


if __name__ == "__main__":
    asyncio.run(main())
