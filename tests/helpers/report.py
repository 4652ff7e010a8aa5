"""Pages of reports."""

import html.parser

from helpers import ROOT
from mnist_jax.cli import commands as cli

STUDIES = ROOT / "experiments" / "results"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, wanted):
        return [attributes for tag, attributes in self.tags if tag == wanted]


def reported(run_main, run, *options):
    status, out, err = run_main(cli.main, "report", run, *options)
    assert (status, err) == (0, "")
    assert "report.html" in out
    return (run / "report.html").read_text()
