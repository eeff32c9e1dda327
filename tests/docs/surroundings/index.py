"""The mail of the page's job."""


def send_mail(to, subject): ...
