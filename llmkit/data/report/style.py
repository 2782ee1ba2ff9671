"""What the funnel's page needs besides the sheet of all reports."""

STYLE = """
nav { font-size: .92rem; margin: 1.2rem 0 0; color: var(--muted); }
nav a { margin-right: 1rem; white-space: nowrap; }
h3 { font-size: 1.02rem; font-weight: 600; margin: 1.8rem 0 .5rem; overflow-wrap: anywhere; }
svg .bar { fill: var(--ink); }
svg .lost { fill: var(--bad); opacity: .28; }
svg .outline { fill: none; stroke: var(--muted); stroke-width: 1.1; }
figcaption, td, th, dd, li, summary, .caption, .notice { overflow-wrap: anywhere; }
details { border-top: 1px solid var(--hair); padding: .35rem 0; max-width: 56rem; }
summary { cursor: pointer; }
summary code { font-weight: 600; }
summary:focus-visible { outline: 2px solid var(--ink-1); outline-offset: 3px; }
.samples { list-style: none; margin: .6rem 0 0; padding: 0; }
.samples > li { margin: 0 0 1.2rem; contain: paint; }
.told { color: var(--muted); font-size: .85rem; margin: 0 0 .2rem; }
.told bdi { font-family: var(--mono); font-size: .92em; color: var(--text); }
.samples pre { margin: 0 0 .4rem; unicode-bidi: plaintext; line-height: 1.5; }
.samples del { color: var(--bad); text-decoration-thickness: 1px; }
.samples ins { color: var(--good); font-weight: 600; text-decoration-thickness: 1px; }
@media print { details:not([open]) { display: none; } nav { display: none; } }
"""
