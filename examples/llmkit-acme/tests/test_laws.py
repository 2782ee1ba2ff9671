"""Every law of llmkit on every component of acme: the whole test file of a plugin."""

import llmkit_acme
import pytest


@pytest.mark.llmkit_laws(llmkit_acme)
def test_law(law):
    law()
