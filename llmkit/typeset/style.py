"""The style sheet of the report: a paper's, on a phone, a screen, and paper; by day and by night. No font is loaded from anywhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fffefb; --text: #1c1b19; --muted: #625e57; --rule: #cfcac0; --hair: #e9e5dc; --ground: #f1eee5;
  --shade: #1c1b1926; --code: #f5f2ea;
  --good: #00664d; --bad: #a63603; --warn: #7a5200;
  --ink-0: var(--text); --ink-1: #0072b2; --ink-2: #d55e00; --ink-3: #009e73; --ink-4: #b0538f;
  --ink-5: #3f97cf; --ink-6: #b97f00; --ink-7: #6b6257;
  --serif: "Charter", "Bitstream Charter", "Charis SIL", "Iowan Old Style", "Palatino Linotype", "Source Serif 4", Cambria,
    "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #171613; --text: #e9e5dc; --muted: #a39d91; --rule: #4b473f; --hair: #2d2a25; --ground: #23211c;
    --shade: #00000099; --code: #23211c;
    --good: #5cc9a5; --bad: #f2936a; --warn: #e0b050;
    --ink-1: #56b4e9; --ink-2: #f0803c; --ink-3: #2fbf94; --ink-4: #dc93c0; --ink-5: #8fd0f5; --ink-6: #e6b03c; --ink-7: #b5ab9b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--text); font: 17px/1.55 var(--serif); overflow-wrap: break-word; }
main { max-width: 70rem; margin: 0 auto; padding: 3.2rem 1.5rem 4rem; }
header { max-width: 44rem; }
h1 { font-size: 1.95rem; line-height: 1.2; font-weight: 600; margin: 0 0 .35rem; letter-spacing: -.005em; }
h2 { font-size: 1.22rem; line-height: 1.3; font-weight: 600; margin: 3.2rem 0 .8rem; }
p { margin: 0 0 .8rem; }
.byline { color: var(--muted); margin-bottom: 1.6rem; }
.abstract { font-size: 1.13rem; line-height: 1.5; }
.abstract strong { font-weight: 600; white-space: nowrap; }
.notice { border-left: 3px solid var(--warn); padding: .1rem 0 .1rem .9rem; font-size: .95rem; margin: .7rem 0; }
.notice b { color: var(--warn); font-weight: 600; }
a { color: inherit; text-decoration-color: var(--rule); text-underline-offset: .15em; }
code, pre { font-family: var(--mono); font-size: .84em; }
pre { background: var(--code); padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0 1.2rem;
  border-radius: 3px; }

figure { margin: 0; }
figcaption, .caption { color: var(--text); font-size: .88rem; line-height: 1.45; text-align: left; }
figcaption b, .caption b { font-weight: 600; }
.caption { margin: 1.2rem 0 .7rem; max-width: 44rem; break-after: avoid; }
.note { color: var(--muted); font-size: .88rem; line-height: 1.5; margin: .7rem 0 0; max-width: 48rem; }

.scroll { overflow-x: auto;
  background: linear-gradient(to right, var(--paper) 40%, transparent) 0 0 / 3rem 100% local no-repeat,
    linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 3rem 100% local no-repeat,
    linear-gradient(to right, var(--shade), transparent) 0 0 / .8rem 100% scroll no-repeat,
    linear-gradient(to left, var(--shade), transparent) 100% 0 / .8rem 100% scroll no-repeat; }
.scroll:focus-visible { outline: 2px solid var(--ink-1); outline-offset: 3px; }
table { border-collapse: collapse; font-family: var(--sans); font-size: .8rem; line-height: 1.4;
  font-variant-numeric: tabular-nums lining-nums;
  border-bottom: 1.5px solid var(--text); }
table.results { width: 100%; }
thead th { border-top: 1.5px solid var(--text); border-bottom: 1px solid var(--text); font-weight: 600; vertical-align: bottom; }
th, td { padding: .42rem .6rem; text-align: left; vertical-align: baseline; }
th:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
td.prose { min-width: 13rem; max-width: 34rem; }
td.code, td.address { font-family: var(--mono); font-size: .76rem; overflow-wrap: anywhere; min-width: 7rem; }
tbody th { font-weight: 600; overflow-wrap: break-word; max-width: 15rem; }
tbody tr.first > * { border-top: 1px solid var(--hair); }
tbody tr.first:first-child > * { border-top: 0; }
tr.baseline + tr.first > * { border-top: 1px solid var(--rule); }
.unit, .second { display: block; color: var(--muted); font-weight: 400; font-size: .92em; }
.second { white-space: normal; }
.number .second { white-space: nowrap; }
.word { min-width: 8.4rem; }
.better, .worse { font-weight: 600; }
.better { color: var(--good); } .worse { color: var(--bad); }
.equivalent { font-weight: 600; }
.inconclusive { font-style: italic; color: var(--muted); }
.confounded, .unstable, .diverged, .crashed { color: var(--warn); font-style: italic; }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 2.4rem 3rem;
  margin-top: 1.4rem; align-items: start; }
.figures figure { max-width: 33rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-family: var(--sans); }
svg text { font-size: 11px; fill: var(--text); font-variant-numeric: tabular-nums lining-nums; }
svg .tick, svg .muted { fill: var(--muted); }
svg .axis-title { fill: var(--muted); }
svg .strong { font-weight: 600; }
svg path { fill: none; stroke-linejoin: round; }
svg .axis { stroke: var(--muted); stroke-width: .8; }
svg .grid { stroke: var(--hair); stroke-width: .8; }
svg .leader { stroke: var(--rule); stroke-width: .7; }
svg .line { stroke: var(--ink); stroke-width: 1.6; }
svg .line.ink-0 { stroke-width: 2; }
svg .thin { stroke: var(--ink); stroke-width: .8; opacity: .75; }
svg .cross { stroke: var(--ink); stroke-width: 1.4; }
svg .band { fill: var(--ink); stroke: none; opacity: .13; }
svg .margin { fill: var(--ground); }
svg .zero { stroke: var(--muted); stroke-width: .9; }
svg .interval { stroke: var(--ink); stroke-width: 5; opacity: .28; }
svg .mean { stroke: var(--ink); stroke-width: 2; }
svg .dot { fill: var(--ink); stroke: var(--paper); stroke-width: .7; }
svg .hollow { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; }
svg .arrow { fill: var(--ink); stroke: none; }
svg .whisker { stroke: var(--ink); stroke-width: 1; opacity: .6; }
svg .frontier { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 3 2.5; }
.ink-0 { --ink: var(--ink-0); } .ink-1 { --ink: var(--ink-1); } .ink-2 { --ink: var(--ink-2); } .ink-3 { --ink: var(--ink-3); }
.ink-4 { --ink: var(--ink-4); } .ink-5 { --ink: var(--ink-5); } .ink-6 { --ink: var(--ink-6); } .ink-7 { --ink: var(--ink-7); }

dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.6rem; margin: 0 0 1.4rem; font-size: .92rem; max-width: 56rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--hair); color: var(--muted); font-size: .85rem; }

@media (max-width: 46rem) {
  body { font-size: 16px; }
  main { padding: 1.6rem 1.25rem 3rem; }
  h1 { font-size: 1.55rem; }
  .abstract { font-size: 1.05rem; }
  .abstract strong { white-space: normal; }
  h2 { margin-top: 2.4rem; }
  svg text { font-size: 12px; }
  dl { grid-template-columns: minmax(0, 7rem) 1fr; gap: .3rem 1rem; }
  dt { overflow-wrap: anywhere; }
  .scroll:not(.cards) { margin-right: -1.25rem; padding-right: 1.25rem; }
  .cards table, .cards tbody { display: block; border: 0; }
  .cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .cards tr { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .1rem 1.2rem; padding: .3rem 0 .35rem; }
  .cards tbody tr.first { border-top: 1.5px solid var(--text); padding-top: .8rem; }
  .cards tbody tr.last { padding-bottom: .9rem; }
  .cards tbody tr.first > *, .cards tbody tr > * { border: 0; padding: .14rem 0; text-align: left; min-width: 0; max-width: none; }
  .cards tbody th { grid-column: 1 / -1; order: -4; font-size: .98rem; overflow-wrap: anywhere; }
  .cards td { font-size: .84rem; overflow-wrap: anywhere; }
  .cards td.empty, .cards thead + tbody td.address::before { display: none; }
  .cards td::before { content: attr(data-label); display: block; color: var(--muted); font: 400 .76rem/1.35 var(--sans); }
  .cards td.prose, .cards td.address { grid-column: 1 / -1; }
  .cards td.address { font-weight: 600; }
  .statistics td.prose, .results td.mean, .results td.difference { order: -1; }
  .results td.verdict { grid-column: 1 / -1; order: -2; font-size: .95rem; padding-bottom: .35rem; }
  .results td.verdict::before { display: none; }
}

@page { size: A4; margin: 16mm 15mm; }
@media print {
  html { font-size: 9pt; }
  :root { color-scheme: light; --paper: #fff; --text: #000; --muted: #444; --rule: #999; --hair: #ddd; --ground: #eee; --code: #f4f4f4;
    --good: #00573f; --bad: #8c2d04; --warn: #5c3d00;
    --ink-1: #0072b2; --ink-2: #d55e00; --ink-3: #009e73; --ink-4: #b0538f; --ink-5: #3f97cf; --ink-6: #b97f00; --ink-7: #6b6257; }
  body { font-size: 9.6pt; line-height: 1.42; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 17pt; } h2 { font-size: 12pt; margin: 7mm 0 2mm; break-after: avoid; }
  table { font-size: 7pt; } td.code, td.address { font-size: 6.6pt; min-width: 0; }
  th, td { padding: 1mm 1.5mm; }
  .unit, .second { font-size: 1em; }
  td.prose { min-width: 38mm; }
  .word { min-width: 15mm; }
  .scroll { overflow: visible; background: none; }
  thead { display: table-header-group; }
  tr, figure, pre, dl > * { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; gap: 7mm 8mm; }
  svg text { font-size: 12px; }
  figcaption, .caption, .note { font-size: 8.4pt; }
  a { text-decoration: none; }
}
"""
