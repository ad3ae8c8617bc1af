"""Links, anchors and addresses in the built site's HTML and CSS."""

import json

import site_checks
from site_checks import ROOT


def test_links(site):
    problems = site_checks.check_links(site)
    assert not problems, "\n".join(problems)


def test_ledger_leads_to_every_claim(site):
    claims = json.loads((ROOT / "_build" / "ledger.json").read_text("utf-8"))["claims"]
    assert claims, "the ledger is empty"
    problems = site_checks.check_ledger(site, claims)
    assert not problems, "\n".join(problems)
