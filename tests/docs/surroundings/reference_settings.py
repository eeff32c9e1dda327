"""What is printed is what the page shows."""

printed = []


def print(*words):  # noqa: A001 - as the page calls it
    printed.append(" ".join(map(str, words)))


def afterwards(page):
    assert printed
    assert f"  # {printed[0]}\n" in page.TEXT, printed
