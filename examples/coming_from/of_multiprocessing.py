import multiprocessing


def work(inbox, outbox):
    for number in iter(inbox.get, None):
        outbox.put(number * number)


if __name__ == "__main__":
    inbox, outbox = multiprocessing.Queue(), multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(inbox, outbox))
    process.start()
    for number in range(3):
        inbox.put(number)
        print(outbox.get())
    inbox.put(None)
    process.join()
