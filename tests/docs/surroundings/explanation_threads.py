"""The other side of the page's job."""


async def fetch(name):
    return name * 2
