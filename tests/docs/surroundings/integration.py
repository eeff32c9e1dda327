"""A framework, and a tenant that is no context variable."""

import threading


class Tenant(threading.local):
    name = None


class Pool:
    def __init__(self):
        self._held = {}

    def begin(self, job, run, **extra):
        self._held[run.id] = len(self._held) + 1

    def release(self, job, run, **extra):
        self._held.pop(run.id, None)

    def connection_of(self, run):
        return self._held[run.id]


class App:
    def __init__(self, config):
        self.config = config
        self.pool = Pool()


tenant = Tenant()


def afterwards(page):
    assert page.greet.perform_async("bob").result(5) == "bob by connection 1"
    assert not page.app.pool._held
